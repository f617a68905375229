"""A declared season is taken out, a step stays."""

import numpy as np
import pytest

from modelperf.stats import season
from modelperf.stats.change_point import scan
from modelperf.stats.fold import judge
from modelperf.stats.results import MetricKind, Rules

YEAR = 365.25
DAYS = 7.0 * np.arange(208)


def swing(days: np.ndarray = DAYS) -> np.ndarray:
    angle = 2 * np.pi * days / YEAR
    return 2 * np.sin(angle) + np.cos(2 * angle + 1)


def noise(size: int = 208, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size)


def test_exact_season_is_gone_and_the_mean_stays():
    y = np.stack([5 + swing(), 9 - swing()])
    free = season.removed(y, DAYS, period_days=YEAR)
    assert free == pytest.approx(
        np.repeat([[5.0 + swing().mean()], [9.0 - swing().mean()]], 208, 1)
    )


def test_season_beside_a_step_leaves_the_step():
    y = swing() + 0.1 * noise()
    y[120:] -= 2
    free = season.removed(y[None, :], DAYS, period_days=YEAR)[0]
    drop = free[:120].mean() - free[120:].mean()
    assert 1.6 <= drop <= 2.0
    assert scan(free[None, :]).fall.split[0] == 120
    assert np.std(free[:120]) < 0.2


def test_step_within_one_period_is_taken_for_season():
    short = DAYS[:40]
    y = 0.1 * noise(40)
    y[20:] -= 1
    free = season.removed(y[None, :], short, period_days=YEAR)[0]
    assert free[:20].mean() - free[20:].mean() < 0.3


def test_unchanged_series_stay_quiet_in_their_season():
    y = np.stack([swing() + noise(seed=seed) for seed in range(60)])
    alarms = np.zeros(60, bool)
    for end in range(30, 209, 4):
        free = season.removed(y[:, :end], DAYS[:end], period_days=YEAR)
        alarms |= scan(free).fall.z > 3.9
    assert alarms.sum() <= 5


def test_missing_values_and_irregular_days():
    rng = np.random.default_rng(4)
    days = np.sort(rng.uniform(0, 4 * YEAR, 300))
    y = 5 + swing(days)
    y[rng.random(300) < 0.2] = np.nan
    free = season.removed(y[None, :], days[None, :], period_days=YEAR)[0]
    assert np.isnan(free).tolist() == np.isnan(y).tolist()
    assert np.nanstd(free) < 0.01
    dense = ~np.isnan(y)
    alone = season.removed(y[None, dense], days[dense], period_days=YEAR)[0]
    assert free[dense] == pytest.approx(alone, abs=1e-9)


def test_outliers_do_not_bend_the_season():
    y = swing() + 0.1 * noise()
    wild = y.copy()
    wild[[20, 80, 150]] -= 50
    plain, bent = (season.removed(x[None, :], DAYS, period_days=YEAR)[0] for x in (y, wild))
    kept = np.delete(np.arange(208), [20, 80, 150])
    assert np.abs(plain[kept] - bent[kept] - (plain[kept] - bent[kept]).mean()).max() < 0.5


@pytest.mark.parametrize("size", [0, 1, 10, 15])
def test_short_series_are_left_alone(size: int):
    y = noise(size)[None, :]
    assert np.array_equal(season.removed(y, DAYS[:size], period_days=YEAR), y)


def test_constant_and_empty_series_are_left_alone():
    y = np.stack([np.full(60, 2.0), np.full(60, np.nan)])
    assert np.array_equal(season.removed(y, DAYS[:60], period_days=YEAR), y, equal_nan=True)


@pytest.mark.parametrize("kind", [MetricKind.LOSS, MetricKind.R_SQUARED])
def test_values_keep_their_unit(kind: MetricKind):
    loss = 0.1 * np.exp(0.3 * swing() + 0.05 * noise())
    loss[150:] *= 1.5
    values = 1 - loss if kind is MetricKind.R_SQUARED else loss
    none, rules = np.zeros(208), Rules(kind=kind)
    free = season.values_without_season(values, none, DAYS, kind=kind, period_days=YEAR)
    verdict = judge(free, none, rules=rules).verdict
    assert verdict.is_degraded
    assert verdict.change_index == 150
    missing = season.values_without_season(
        np.append(values, np.inf),
        np.zeros(209),
        np.append(DAYS, 2000.0),
        kind=kind,
        period_days=YEAR,
    )
    assert missing[:-1] == pytest.approx(free)
    assert np.isnan(missing[-1])


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="and their times"):
        season.removed(np.ones(5), np.ones(5), period_days=YEAR)
    with pytest.raises(ValueError, match="and their times"):
        season.removed(np.ones((2, 5)), np.ones(4), period_days=YEAR)
    with pytest.raises(ValueError, match="period_days is positive"):
        season.removed(np.ones((2, 5)), np.ones(5), period_days=0)
    with pytest.raises(ValueError, match="harmonics at least 1"):
        season.removed(np.ones((2, 5)), np.ones(5), period_days=YEAR, harmonics=0)
