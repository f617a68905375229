"""What machines share against what each does by itself."""

import numpy as np
import pytest
from numpy.typing import NDArray

from modelperf.stats import common_cause
from modelperf.stats.loading import fitted_loading
from modelperf.stats.orientation import orient
from modelperf.stats.results import MetricKind, Rule, Rules

HIGHER = Rules(kind=MetricKind.HIGHER, min_effect=0.0)
Floats = NDArray[np.float64]


def machines(n: int, common: Floats, *, seed: int = 1, loading: Floats | float = 1.0) -> Floats:
    noise = np.random.default_rng(seed).normal(size=(n, len(common)))
    return 100 + noise + np.multiply.outer(np.resize(loading, n), common)


def season(size: int = 200) -> Floats:
    return 3 * np.sin(2 * np.pi * np.arange(size) / size)


def step(size: int = 200, at: int = 120, height: float = -2.0) -> Floats:
    return height * (np.arange(size) >= at)


@pytest.mark.parametrize("n_machines", [4, 5, 9, 10])
def test_median_of_others_equals_loops(n_machines: int):
    rng = np.random.default_rng(n_machines)
    block = np.round(rng.normal(size=(n_machines, 60)), 1)  # with ties
    block[rng.random(block.shape) < 0.2] = np.nan
    found = common_cause.median_of_others(block)
    for row in range(n_machines):
        for column in range(60):
            others = np.delete(block[:, column], row)
            others = others[~np.isnan(others)]
            if np.isnan(block[row, column]) or not len(others):
                assert np.isnan(found[row, column])
            else:
                assert found[row, column] == pytest.approx(np.median(others), abs=1e-12)


def test_parts_add_up():
    y = machines(7, season(), loading=np.linspace(0.5, 1.5, 7))
    y[2, 30:50] = np.nan
    parts = common_cause.split(y)
    assert parts is not None
    deviation = y - parts.level[:, None]
    others = common_cause.median_of_others(deviation)
    assert np.allclose(
        deviation, parts.loading[:, None] * others + parts.own, atol=1e-9, equal_nan=True
    )
    assert np.allclose(parts.fleet, np.nanmedian(deviation, axis=0), atol=0.1)
    assert abs(np.median(parts.fleet)) < 0.05
    assert parts.n_machines.tolist() == [7] * 30 + [6] * 20 + [7] * 150
    assert parts.outside.size == 0


def test_loadings_are_found_and_quiet_machines_keep_one():
    true = np.linspace(0.5, 1.5, 9)
    parts = common_cause.split(machines(9, season(), loading=true))
    assert parts is not None
    assert parts.loading == pytest.approx(true, abs=0.15)
    quiet = common_cause.split(machines(9, np.zeros(200)))
    assert quiet is not None
    assert quiet.loading == pytest.approx(np.ones(9), abs=0.35)


def test_loading_equals_the_formulae_by_loops():
    rng = np.random.default_rng(5)
    deviation = rng.normal(size=(6, 80)) + step(80, 40)
    others = common_cause.median_of_others(deviation)
    b = np.ones(6)
    c = np.pi / (2 * (6 - 0.5))
    for _ in range(4):
        product, s, square = [], [], []
        for row in range(6):
            f = others[row] - others[row].mean()
            r = deviation[row] - b[row] * others[row]
            r = r - np.median(r)
            s.append(np.median(np.abs(r)) / 0.6745)
            product.append(f @ (np.clip(r, -3 * s[row], 3 * s[row]) + b[row] * f))
            square.append(f @ f)
        variance = np.square(s) / (1 + b**2 * c)
        lam = np.clip(1 - c * np.median(variance) * 80 / np.array(square), 0, 1)
        kappa = variance / 0.25
        b = np.clip((lam * product + kappa) / (lam**2 * np.array(square) + kappa), 0, 2)
    assert fitted_loading(deviation, others) == pytest.approx(b, rel=1e-9)


def test_a_large_fleet_is_fitted_as_its_parts_are(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(6)
    deviation = rng.normal(size=(50, 60)) + step(60, 30)
    others = common_cause.median_of_others(deviation)
    whole = fitted_loading(deviation, others)
    monkeypatch.setattr("modelperf.stats.loading._ROWS", 7)
    assert fitted_loading(deviation, others) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("n_machines", [0, 1, 3])
def test_too_few_machines_are_not_split(n_machines: int):
    assert common_cause.split(np.ones((n_machines, 100))) is None


def test_machines_with_few_shared_windows_are_outside():
    y = machines(6, season())
    y[5, 10:] = np.nan
    parts = common_cause.split(y)
    assert parts is not None
    assert parts.outside.tolist() == [5]
    assert np.isnan(parts.own[5]).all()
    assert np.isnan(parts.loading[5])
    assert not common_cause.own_parts_degraded(parts, rules=HIGHER)[5]
    y[2:5, 10:] = np.nan
    assert common_cause.split(y) is None


def test_late_joiner_after_a_common_fall_is_no_outlier():
    y = machines(6, step(height=-4.0))
    y[0, :140] = np.nan
    parts = common_cause.split(y)
    assert parts is not None
    assert parts.level[0] == pytest.approx(100, abs=1)
    assert not common_cause.own_parts_degraded(parts, rules=HIGHER).any()


def test_windows_too_few_machines_report_are_missing():
    y = machines(5, season())
    y[:3, 60] = np.nan
    parts = common_cause.split(y)
    assert parts is not None
    assert np.isnan(parts.fleet[60])
    assert np.isnan(parts.own[:, 60]).all()


def test_one_of_four_that_drops_while_all_follow_the_season_is_found():
    found = []
    for seed in range(20):
        y = machines(4, season(), seed=seed, loading=np.array([0.6, 0.8, 1.2, 1.4]))
        y[1, 150:] -= 2.5
        parts = common_cause.split(y)
        assert parts is not None
        found.append(common_cause.own_parts_degraded(parts, rules=HIGHER).tolist())
    told = np.mean(found, axis=0)
    assert told[1] >= 0.9
    assert told[[0, 2, 3]].max() <= 0.1


def test_common_step_is_one_fall_of_the_fleet():
    y = machines(12, step(height=-1.0))
    parts = common_cause.split(y)
    assert parts is not None
    fall = common_cause.judge(parts, y, rules=HIGHER)
    assert fall is not None
    assert fall.rule is Rule.CHANGE_POINT
    assert fall.split == pytest.approx(120, abs=1)
    assert fall.change_low <= 120 <= fall.change_high
    assert fall.members.tolist() == list(range(12))
    assert fall.t.min() > 2
    assert fall.effect == pytest.approx(0.01, abs=0.002)
    assert fall.direction == 1
    assert fall.statistic > fall.threshold == 3.9
    assert fall.confirmed_p is not None
    assert fall.confirmed_p < 1e-6
    assert not common_cause.own_parts_degraded(parts, rules=HIGHER).any()


def test_unchanged_fleet_and_improved_fleet_have_not_fallen():
    for common in (np.zeros(200), step(height=2.0)):
        y = machines(8, common)
        parts = common_cause.split(y)
        assert parts is not None
        assert common_cause.judge(parts, y, rules=HIGHER) is None


def test_less_than_half_that_fell_is_no_fall_of_the_fleet():
    y = machines(9, np.zeros(200))
    y[:3, 120:] -= 3
    parts = common_cause.split(y)
    assert parts is not None
    assert common_cause.judge(parts, y, rules=HIGHER) is None
    assert common_cause.own_parts_degraded(parts, rules=HIGHER).tolist() == [True] * 3 + [False] * 6


def test_own_problem_beside_the_fall_of_the_fleet():
    y = machines(10, step())
    y[3, 150:] -= 4
    parts = common_cause.split(y)
    assert parts is not None
    assert common_cause.judge(parts, y, rules=HIGHER) is not None
    assert np.flatnonzero(common_cause.own_parts_degraded(parts, rules=HIGHER)).tolist() == [3]


def test_fleet_that_recovered_has_not_fallen():
    y = machines(8, step() - step(at=160))
    parts = common_cause.split(y)
    assert parts is not None
    assert common_cause.judge(parts, y, rules=HIGHER) is None


def test_small_common_effect_does_not_matter():
    y = machines(8, step())
    parts = common_cause.split(y)
    assert parts is not None
    assert (
        common_cause.judge(parts, y, rules=Rules(kind=MetricKind.HIGHER, min_effect=0.05)) is None
    )


def test_cliff_of_the_whole_fleet_is_told_by_its_second_window():
    y = machines(8, step(122, 120, -30.0))
    parts = common_cause.split(y)
    assert parts is not None
    fall = common_cause.judge(parts, y, rules=HIGHER)
    assert fall is not None
    assert (fall.rule, fall.split, fall.confirmed_p) == (Rule.COLLAPSE, 120, None)
    assert len(fall.members) == 8


@pytest.mark.parametrize("kind", [MetricKind.LOSS, MetricKind.R_SQUARED, MetricKind.LOWER])
def test_falls_are_told_in_the_metrics_unit(kind: MetricKind):
    growth = 1 + 0.5 * (np.arange(200) >= 120)
    loss = 0.1 * np.exp(0.05 * np.random.default_rng(2).normal(size=(6, 200))) * growth
    loss[0] *= 1 + 0.5 * (np.arange(200) >= 150)
    values = 1 - loss if kind is MetricKind.R_SQUARED else loss
    counts = np.zeros(values.shape)
    y = orient(values, counts, kind)
    parts = common_cause.split(y)
    assert parts is not None
    rules = Rules(kind=kind, min_effect=0.01)
    fall = common_cause.judge(parts, y, rules=rules)
    assert fall is not None
    grown = 0.05 / 0.9 if kind is MetricKind.R_SQUARED else 0.5
    assert fall.effect == pytest.approx(grown, rel=0.1)
    own = common_cause.own_parts_degraded(parts, counts, rules=[rules] * 6)
    assert own.tolist() == [True] + [False] * 5


def test_proportions_keep_their_counts():
    rng = np.random.default_rng(3)
    counts = rng.integers(200, 400, (6, 200)).astype(float)
    share = rng.binomial(counts.astype(int), 0.9 - 0.1 * (np.arange(200) >= 120)) / counts
    y = orient(share, counts, MetricKind.PROPORTION)
    parts = common_cause.split(y)
    assert parts is not None
    rules = Rules(kind=MetricKind.PROPORTION)
    fall = common_cause.judge(parts, y, counts, rules=rules)
    assert fall is not None
    assert fall.effect == pytest.approx(0.1 / 0.9, rel=0.15)
    assert not common_cause.own_parts_degraded(parts, counts, rules=rules).any()


def test_bias_may_leave_zero_on_both_sides():
    rules = Rules(kind=MetricKind.TARGET_ZERO)
    for sign in (1.0, -1.0):
        y = 0.02 * (machines(6, np.zeros(200)) - 100) + sign * step(height=0.1)
        parts = common_cause.split(y)
        assert parts is not None
        fall = common_cause.judge(parts, y, rules=rules)
        assert fall is not None
        assert fall.direction == -sign
        assert fall.effect == pytest.approx(0.1, abs=0.02)
        assert len(fall.members) == 6
        y[0, 150:] += sign * 0.1
        parts = common_cause.split(y)
        assert parts is not None
        assert common_cause.own_parts_degraded(parts, rules=rules).tolist() == [True] + [False] * 5


def test_constant_machines_are_quiet():
    y = np.full((5, 100), 3.0)
    parts = common_cause.split(y)
    assert parts is not None
    assert (parts.own == 0).all()
    assert common_cause.judge(parts, y, rules=HIGHER) is None
    assert not common_cause.own_parts_degraded(parts, rules=HIGHER).any()


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="machines, windows"):
        common_cause.split(np.ones(5))
    with pytest.raises(ValueError, match="at least 4"):
        common_cause.split(np.ones((5, 50)), min_machines=3)
