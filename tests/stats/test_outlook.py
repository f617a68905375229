"""When a limit is crossed: exact lines, parity with Fieller's formula, and promised coverage."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from benchmarks import statistics_outlook
from modelperf.stats.outlook import Outlook, OutlookStatus, outlook
from modelperf.stats.robust_line import fit_lines
from modelperf.stats.trend import finite, trend

DAYS = np.arange(40.0)
# Signs that alternate twice as they should: no autocorrelation is seen, and no value is clipped.
WHITE = np.resize([1.0, -1.0, 0.8, -1.2, 1.1, -0.7], 40)
RAMP = 5 + 0.2 * DAYS + WHITE


def fieller(x: np.ndarray, y: np.ndarray, limit: float) -> tuple[float, float]:
    """Return the roots of Fieller's equation for a line by ordinary least squares.

    The session, statsmodels 0.14::

        line = sm.OLS(y, sm.add_constant(x)).fit()
        (a, b), cov = line.params, line.cov_params()
        t = stats.t.ppf(.975, line.df_resid)
        np.roots([b*b - t*t*cov[1, 1], 2*(b*(a - limit) - t*t*cov[0, 1]),
                  (a - limit)**2 - t*t*cov[0, 0]])
    """
    line = sm.OLS(y, sm.add_constant(x)).fit()
    (a, b), cov = line.params, line.cov_params()
    t2 = stats.t.ppf(0.975, line.df_resid) ** 2
    low, high = sorted(
        np.roots(
            [
                b * b - t2 * cov[1, 1],
                2 * (b * (a - limit) - t2 * cov[0, 1]),
                (a - limit) ** 2 - t2 * cov[0, 0],
            ]
        )
    )
    return float(low), float(high)


@pytest.mark.parametrize("limit", [14.0, 20.0, 60.0])
@pytest.mark.parametrize("start", [0.0, 20_000.0])
def test_interval_is_that_of_fieller_where_the_line_is_least_squares(
    limit: float, start: float
) -> None:
    told = outlook(DAYS + start, RAMP, limit=limit)
    slope, level = np.polyfit(DAYS, RAMP, 1)
    low, high = fieller(DAYS, RAMP, limit)
    assert told.status is OutlookStatus.CROSSES
    assert told.crosses_at == pytest.approx(start + (limit - level) / slope, abs=1e-6)
    assert told.earliest == pytest.approx(start + low, abs=1e-6)
    assert told.latest == pytest.approx(start + high, abs=1e-6)


def test_an_exact_line_crosses_at_one_moment() -> None:
    told = outlook(DAYS, 2 * DAYS, limit=100)
    moments = (told.crosses_at, told.earliest, told.latest)
    assert moments == pytest.approx((50.0,) * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "options", "status"),
    [
        (DAYS, {"limit": 39 + 364.9}, "crosses"),
        (DAYS, {"limit": 39 + 365.1}, "not_within_a_year"),
        (DAYS, {"limit": 38}, "crossed"),
        (-DAYS, {"limit": 38}, "not_within_a_year"),
        (-DAYS, {"limit": -38, "higher_is_better": True}, "crossed"),
        (-DAYS, {"limit": -60, "higher_is_better": True}, "crosses"),
        (DAYS, {"limit": -60, "higher_is_better": True}, "not_within_a_year"),
        (-DAYS, {"limit": 60, "target_zero": True}, "crosses"),
        (DAYS, {"limit": 60, "target_zero": True}, "crosses"),
        (DAYS - 50, {"limit": 5, "target_zero": True}, "crossed"),
        (DAYS - 50, {"limit": 60, "target_zero": True}, "crosses"),  # through zero and on
        (DAYS, {"limit": 60, "horizon": 20}, "not_within_a_year"),
        (DAYS, {"limit": None}, "no_limit"),
        (DAYS[:9], {"limit": 60}, "insufficient_data"),
        (np.where(DAYS < 31, np.nan, DAYS), {"limit": 60}, "insufficient_data"),
        (np.where(DAYS < 30, np.nan, DAYS), {"limit": 60}, "crosses"),
        (np.ones(40), {"limit": 2}, "not_within_a_year"),
        (np.ones(40), {"limit": 0.5}, "crossed"),
    ],
)
def test_lines_are_told_by_where_they_lead(
    values: np.ndarray, options: dict[str, float], status: str
) -> None:
    told = outlook(DAYS[: values.size], values, **options)
    assert told.status == status
    assert (told.crosses_at is not None) is (status == "crosses")
    if status != "crosses":
        assert told.latest is None


def test_evaluations_at_one_moment_tell_nothing() -> None:
    told = outlook(np.zeros(20), np.arange(20.0), limit=30)
    assert told == Outlook(status=OutlookStatus.INSUFFICIENT_DATA)


def test_only_the_window_counts() -> None:
    values = np.concatenate([100 - DAYS, DAYS])
    days = np.arange(80.0)
    told = outlook(days, values, limit=60, window=40)
    assert told.crosses_at == pytest.approx(40 + 60)


def test_a_slope_that_is_not_sure_gives_an_interval_without_an_end() -> None:
    told = outlook(DAYS, 5 + 0.02 * DAYS + WHITE, limit=8)
    assert told.status == "crosses"
    assert told.earliest is not None
    assert told.latest is None


def test_a_band_that_leaves_the_limit_only_to_come_back_gives_no_end() -> None:
    found = trend(DAYS, 5 + WHITE)
    assert found.rate is not None
    assert found.high is not None
    reach = found.high - found.rate
    values = 5 + (0.97 * reach - found.rate) * DAYS + WHITE  # all but sure to rise
    limits = np.linspace(4.0, 7.0, 600)
    told = [outlook(DAYS, values, limit=limit, horizon=5.0) for limit in limits]
    nearest = next(one for one in told if one.status == "crosses")
    assert nearest.crosses_at == nearest.earliest == DAYS[-1]
    assert [one.latest for one in told] == [None] * 600


def test_correlation_of_level_and_slope_is_that_of_generalised_least_squares() -> None:
    rng = np.random.default_rng(3)
    days = np.cumsum(np.where(DAYS < 10, 9.0, 1.0))
    values = np.convolve(rng.standard_normal(60), 0.6 ** np.arange(20), "same")[:40]
    lines = fit_lines(days[None], values[None], np.ones((1, 40), bool))
    assert lines.phi[0] > 0.3
    assert lines.middle[0] == pytest.approx(days.mean())
    errors = linalg.toeplitz(lines.phi[0] ** np.arange(40))
    line = sm.GLS(values, sm.add_constant(days - days.mean()), sigma=errors).fit()
    cov = line.cov_params()
    expected = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    assert abs(expected) > 0.01
    assert lines.correlation[0] == pytest.approx(expected)


def test_the_band_takes_irregular_days_and_autocorrelation_into_account() -> None:
    rng = np.random.default_rng(3)
    days = np.cumsum(np.where(DAYS < 10, 9.0, 1.0))
    values = np.convolve(rng.standard_normal(60), 0.6 ** np.arange(20), "same")[:40] + days
    lines = fit_lines(days[None], values[None], np.ones((1, 40), bool))
    slope, level = lines.slope[0], lines.level[0]
    told = outlook(days, values, limit=150.0)
    assert told.earliest is not None
    after = told.earliest - days.mean()
    variance = (
        lines.level_error[0] ** 2
        + 2 * after * lines.correlation[0] * lines.level_error[0] * lines.slope_error[0]
        + (after * lines.slope_error[0]) ** 2
    )
    width = stats.t.ppf(0.975, lines.df[0]) * np.sqrt(variance)
    assert level + slope * after + width == pytest.approx(150.0, abs=1e-6)


def test_it_may_cross_within_a_year_where_the_line_does_not() -> None:
    told = outlook(DAYS, 5 - 0.001 * DAYS + WHITE, limit=8)
    assert (told.status, told.crosses_at, told.latest) == ("not_within_a_year", None, None)
    assert told.earliest is not None
    assert told.earliest > DAYS[-1]


def test_a_level_that_may_be_on_either_side_crosses_now() -> None:
    told = outlook(DAYS, RAMP, limit=12.7)  # the line is at 12.8
    assert told.status == "crosses"
    assert told.earliest == told.crosses_at == DAYS[-1]
    assert told.latest is not None
    assert told.latest > DAYS[-1]


@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.sampled_from([1e-6, 1.0, 1e6, 1e160]),
)
def test_units_and_directions_do_not_matter(seed: int, slope: float, unit: float) -> None:
    noise = np.random.default_rng(seed).standard_normal(40)
    values, limit = 3 + slope * DAYS + noise, 12.0
    told = outlook(DAYS, values, limit=limit)
    other = outlook(DAYS, -values * unit, limit=-limit * unit, higher_is_better=True)
    assert other.status == told.status
    for name in ("crosses_at", "earliest", "latest"):
        moment = getattr(told, name)
        expected = None if moment is None else pytest.approx(moment, rel=1e-6)
        assert getattr(other, name) == expected


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.2]))
def test_a_farther_limit_is_met_later(seed: int, slope: float) -> None:
    values = slope * DAYS + np.random.default_rng(seed).standard_normal(40)
    told = [outlook(DAYS, values, limit=limit) for limit in (10.0, 11.0)]
    for name in ("crosses_at", "earliest", "latest"):
        near, far = (getattr(one, name) for one in told)
        assert (inf if near is None else near) <= (inf if far is None else far)


@given(st.integers(0, 10_000))
def test_the_line_is_that_of_the_trend(seed: int) -> None:
    values = 0.2 * DAYS + np.random.default_rng(seed).standard_normal(40)
    at = outlook(DAYS, values, limit=20).crosses_at
    rate = trend(DAYS, values)
    assert at is not None
    assert rate.level is not None
    assert rate.rate is not None
    assert rate.level + rate.rate * (at - DAYS.mean()) == pytest.approx(20)


def test_finite_leaves_out_what_is_not_finite() -> None:
    days, values = finite([1, 2, 3], [1.0, np.nan, 3.0], 10)
    assert (days.tolist(), values.tolist()) == ([1, 3], [1, 3])
    with pytest.raises(ValueError, match="ascending"):
        finite([2, 1], [1.0, 2.0], 10)


def test_promises_are_kept() -> None:
    rows = statistics_outlook.rows(full=False)
    assert [row.name for row in rows if not row.met] == []


def test_coverage_is_counted_by_both_ends() -> None:
    told = outlook(DAYS, RAMP, limit=20)
    assert statistics_outlook.covers(told, 75.0)
    assert not statistics_outlook.covers(told, inf)
    assert not statistics_outlook.covers(told, 50.0)


def test_a_crossing_before_now_is_overdue() -> None:
    statuses = [outlook(DAYS, RAMP, limit=20, now=now).status for now in (41.0, 70.0, 110.0)]
    at = outlook(DAYS, RAMP, limit=20).crosses_at
    assert at is not None
    assert 70 < at < 110
    assert statuses == [OutlookStatus.CROSSES, OutlookStatus.CROSSES, OutlookStatus.OVERDUE]
