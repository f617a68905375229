"""Trends against statsmodels, on degenerate series, and the promises of the label."""

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import linalg, stats

from benchmarks import statistics_trend
from modelperf.stats.robust_line import fit_lines
from modelperf.stats.trend import Direction, directions, trend

NOISE = np.random.default_rng(6).standard_normal(90)
DAYS = np.arange(90.0)
RAMP = NOISE * 0.3 + 5 + 0.05 * DAYS

series = st.integers(10, 40).flatmap(
    lambda n: arrays(np.float64, n, elements=st.floats(0.125, 1000, width=32))
)


def reference(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """One window by statsmodels: RLM for the robust line, GLS with the AR(1) correlation after.

    The session, statsmodels 0.14::

        robust = sm.RLM(y, X, M=sm.robust.norms.HuberT(1.5)).fit(maxiter=5, tol=0)
        line = sm.GLS(winsorised, X, sigma=linalg.toeplitz(phi ** np.arange(n))).fit()
    """
    n, design = x.size, sm.add_constant(x - x.mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it counts the start as a step; four do not converge
        robust = sm.RLM(y, design, M=sm.robust.norms.HuberT(1.5)).fit(maxiter=5, tol=0)
    residual = y - robust.fittedvalues
    bound = 2.5 * np.median(np.abs(residual)) / stats.norm.ppf(0.75)
    winsorised = np.clip(residual, -bound, bound) / np.mean(np.abs(residual) <= bound)
    r1 = np.sum(winsorised[1:] * winsorised[:-1]) / np.sum(winsorised**2)
    phi = min(max((n * r1 + 5) / (n - 5), 0), 0.95)
    sigma = linalg.toeplitz(phi ** np.arange(n))
    line = sm.GLS(robust.fittedvalues + winsorised, design, sigma=sigma).fit()
    df = max(4, n * (1 - phi) / (1 + phi)) - 2
    reach = stats.t.ppf(0.975, df) * line.bse[1]
    return {
        "rate": line.params[1],
        "low": line.params[1] - reach,
        "high": line.params[1] + reach,
        "percent": 100 * line.params[1] / abs(line.params[0]),
        "p_value": 2 * stats.t.sf(abs(line.tvalues[1]), df),
        "level": line.params[0],
        "phi": phi,
    }


# --- parity -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 23, 60])
@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_trend_agrees_with_statsmodels(n: int, phi: float) -> None:
    days = np.cumsum(np.random.default_rng(n).exponential(1.0, n))
    values = statistics_trend.autoregressive(n, (1, n), phi)[0] + 10 + 0.03 * days
    values[n // 2] += 25  # an outlier to be robust against
    seen = trend(days, values)
    expected = reference(days, values)
    assert {k: getattr(seen, k) for k in expected} == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert seen.n == n


def test_trend_looks_at_the_last_window_only() -> None:
    expected = reference(DAYS[-30:], RAMP[-30:])
    seen = trend(DAYS, RAMP, window=30)
    assert (seen.n, seen.rate) == (30, pytest.approx(expected["rate"], rel=1e-9))
    assert trend(DAYS, RAMP).n == 60


def test_fit_lines_gives_each_row_what_it_gives_it_alone() -> None:
    x = np.tile(DAYS[:20], (2, 1))
    y = np.stack([RAMP[:20], NOISE[:20]])
    inside = np.ones((2, 20), dtype=bool)
    inside[1, :8] = False
    both = fit_lines(x, y, inside)
    for row, first in enumerate((0, 8)):
        alone = reference(x[row, first:], y[row, first:])
        assert both.slope[row] == pytest.approx(alone["rate"], rel=1e-8)
        assert both.p_value[row] == pytest.approx(alone["p_value"], rel=1e-8)


def test_fit_lines_without_spread_of_times_keeps_the_level() -> None:
    lines = fit_lines(np.zeros((1, 12)), RAMP[None, :12], np.ones((1, 12), dtype=bool))
    assert (lines.slope[0], lines.p_value[0]) == (0, 1)
    assert lines.level[0] == pytest.approx(RAMP[:12].mean(), abs=0.2)
    assert lines.level_error[0] > 0


# --- the label --------------------------------------------------------------------------------


def test_a_rising_loss_is_degrading_and_a_rising_score_improving() -> None:
    loss, score = trend(DAYS, RAMP), trend(DAYS, RAMP, higher_is_better=True)
    assert loss.direction is Direction.DEGRADING
    assert score.direction is Direction.IMPROVING
    assert loss.rate == pytest.approx(0.05, rel=0.2)
    assert loss.low is not None
    assert loss.high is not None
    assert loss.low < 0.05 < loss.high
    assert (score.rate, score.low, score.high) == (-loss.rate, -loss.high, -loss.low)
    assert loss.percent == pytest.approx(100 * loss.rate / loss.level)
    assert (score.p_value, score.level) == (loss.p_value, loss.level)


def test_noise_is_stable() -> None:
    seen = trend(DAYS, NOISE)
    assert seen.direction is Direction.STABLE
    assert seen.p_value is not None
    assert seen.p_value > 0.01


def test_the_label_outlasts_its_threshold_and_ends_with_the_trend() -> None:
    values = np.concatenate([RAMP, RAMP[-1] + np.random.default_rng(2).standard_normal(90) * 0.3])
    days = np.arange(180.0)
    told = directions(days, values)
    p = [trend(days[:n], values[:n]).p_value or 0.0 for n in range(10, 181)]
    began = next(i for i, q in enumerate(p) if q < 0.001)
    ended = next(i for i, q in enumerate(p) if q > 0.1 and i > began)
    assert max(p[began:ended]) > 0.001
    assert set(told[: 9 + began]) == {Direction.STABLE}
    assert set(told[9 + began : 9 + ended]) == {Direction.DEGRADING}
    assert told[9 + ended] is Direction.STABLE


def test_the_label_ends_when_the_slope_turns() -> None:
    values = np.concatenate([RAMP[:60], RAMP[59] - 0.06 * np.arange(60) + NOISE[:60] * 0.3])
    told = directions(np.arange(120.0), values)
    assert Direction.DEGRADING in told[:70]
    assert told[-1] is Direction.IMPROVING


@given(values=series)
@settings(max_examples=30, deadline=None)
def test_the_label_depends_on_what_was_seen_alone(values: np.ndarray) -> None:
    days = np.arange(values.size)
    told = directions(days, values)
    assert len(told) == values.size
    assert told[:9] == [Direction.STABLE] * 9
    for n in (10, values.size // 2, values.size):
        assert trend(days[:n], values[:n]).direction is told[n - 1]


# --- bias: the target is zero -----------------------------------------------------------------


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_bias_moving_away_from_zero_is_degrading_on_either_side(side: float) -> None:
    away = trend(DAYS, side * RAMP, target_zero=True)
    back = trend(DAYS, side * (14 - RAMP), target_zero=True)
    assert away.direction is Direction.DEGRADING
    assert back.direction is Direction.IMPROVING
    assert away.rate == pytest.approx(0.05, rel=0.2)
    assert back.rate == pytest.approx(-0.05, rel=0.2)
    assert away.percent is None


def test_a_bias_that_crosses_zero_evenly_is_on_no_side() -> None:
    values = (DAYS[:60] - 29.5) / 10 + np.tile([0.1, -0.1, -0.1, 0.1], 15)
    seen = trend(DAYS[:60], values, target_zero=True)
    assert seen.p_value is not None
    assert seen.p_value < 0.001
    assert directions(DAYS[:60], values, target_zero=True)[-1] is not Direction.DEGRADING


# --- units ------------------------------------------------------------------------------------


@given(values=series, power=st.integers(-300, 300))
@settings(max_examples=30, deadline=None)
def test_the_unit_of_the_metric_does_not_matter(values: np.ndarray, power: int) -> None:
    days, unit = np.arange(values.size), 2.0**power
    plain, scaled = trend(days, values), trend(days, values * unit)
    assert plain.rate is not None
    assert scaled.direction is plain.direction
    assert (scaled.p_value, scaled.phi) == (plain.p_value, plain.phi)
    assert scaled.rate == plain.rate * unit
    assert scaled.percent == pytest.approx(plain.percent)


@given(values=series)
@settings(max_examples=30, deadline=None)
def test_a_mirrored_metric_has_the_mirrored_trend(values: np.ndarray) -> None:
    days = np.arange(values.size)
    plain, mirrored = trend(days, values), trend(days, -values, higher_is_better=True)
    assert mirrored.direction is plain.direction
    assert (mirrored.rate, mirrored.p_value) == (plain.rate, plain.p_value)


def test_rates_are_per_day_not_per_evaluation() -> None:
    daily, weekly = trend(DAYS, RAMP), trend(DAYS * 7 + 19_000, RAMP)
    assert weekly.rate == pytest.approx(daily.rate / 7, rel=1e-9)
    assert weekly.p_value == pytest.approx(daily.p_value, rel=1e-6)


def test_a_gap_in_time_bends_no_line() -> None:
    days = np.concatenate([DAYS[:30], DAYS[:30] + 100])
    assert trend(days, 2 + 0.01 * days + 0.001 * NOISE[:60]).rate == pytest.approx(0.01, rel=0.01)


# --- degenerate -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_evaluations_are_insufficient(n: int) -> None:
    seen = trend(DAYS[:n], RAMP[:n])
    assert seen.insufficient_data
    assert (seen.direction, seen.rate, seen.p_value, seen.n) == (Direction.STABLE, None, None, n)
    assert directions(DAYS[:n], RAMP[:n]) == [Direction.STABLE] * n


def test_evaluations_of_one_moment_are_insufficient() -> None:
    assert trend(np.full(30, 3.0), RAMP[:30]).insufficient_data


def test_missing_values_are_left_out() -> None:
    values = RAMP.copy()
    values[[3, 40, 88]] = np.nan, np.inf, np.nan
    left = np.isfinite(values)
    assert trend(DAYS, values) == trend(DAYS[left], values[left])


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, -1e200, 1e-200])
def test_a_constant_metric_is_stable(level: float) -> None:
    seen = trend(DAYS, np.full(90, level))
    assert (seen.direction, seen.insufficient_data) == (Direction.STABLE, False)
    assert seen.p_value == pytest.approx(1.0)
    assert seen.rate == pytest.approx(0.0, abs=1e-15 * abs(level))
    assert seen.level == pytest.approx(level)
    assert (seen.percent is None) is (level == 0)


@pytest.mark.parametrize("where", [0, 5, 30, 59])
@pytest.mark.parametrize("height", [-1e6, 1.0, 1e9])
def test_one_outlier_in_a_constant_metric_is_no_trend(where: int, height: float) -> None:
    values = np.full(60, 0.7)
    values[where] += height
    assert set(directions(DAYS[:60], values)) == {Direction.STABLE}


def test_rounding_at_the_last_digit_is_no_trend() -> None:
    values = np.where(DAYS < 45, 0.3, 0.1 + 0.2)
    assert trend(DAYS, values).direction is Direction.STABLE


def test_a_trend_survives_coarse_rounding() -> None:
    values = np.round(3 + DAYS[:60] / 30 + 0.3 * NOISE[:60])
    assert trend(DAYS[:60], values).rate == pytest.approx(1 / 30, rel=0.4)


def test_an_exact_line_is_certain() -> None:
    seen = trend(DAYS, 3 + DAYS)
    assert (seen.direction, seen.rate) == (Direction.DEGRADING, pytest.approx(1.0))
    assert seen.p_value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("days", "values", "window", "words"),
    [
        ([0, 1], [0], 60, "equal length"),
        ([[0]], [[0]], 60, "one-dimensional"),
        ([1, 0], [0, 0], 60, "ascending"),
        ([0, np.nan], [0, 0], 60, "finite"),
        ([0], [0], 9, "window"),
    ],
)
def test_unusable_input_is_refused_in_words(
    days: object, values: object, window: int, words: str
) -> None:
    for ask in (trend, directions):
        with pytest.raises(ValueError, match=words):
            ask(days, values, window=window)


def test_simulated_figures_keep_their_targets() -> None:
    rows = statistics_trend.rows(full=False)
    assert [row for row in rows if not row.met] == []
    assert len(rows) == 10
