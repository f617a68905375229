"""Every metric on a scale where higher is better, and levels and effects on its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelperf.stats.fold import judge
from modelperf.stats.orientation import (
    effect,
    kind_of,
    level,
    metric_value,
    orient,
    robust_mean,
    winsorised,
)
from modelperf.stats.results import MetricKind, Rules

NONE = np.zeros(3)


def test_registered_metrics_have_a_kind_and_others_none():
    assert kind_of("r_squared") is MetricKind.R_SQUARED
    for name in ("rmse", "mae", "mape", "cv_rmse"):
        assert kind_of(name) is MetricKind.LOSS
    for name in ("precision_score", "recall_score", "f1_score"):
        assert kind_of(name) is MetricKind.PROPORTION
    for name in ("nmbe", "bias"):
        assert kind_of(name) is MetricKind.TARGET_ZERO
    assert kind_of("revenue") is None


def test_scales_by_hand():
    assert orient([0.0, 0.5, 0.9], NONE, MetricKind.R_SQUARED) == pytest.approx(
        [0.0, np.log(2), np.log(10)]
    )
    assert orient([1.0, np.e, 2.0], NONE, MetricKind.LOSS) == pytest.approx([0, -1, -np.log(2)])
    assert orient([1.0, -2.0, 3.0], NONE, MetricKind.LOWER).tolist() == [-1, 2, -3]
    for kind in (MetricKind.HIGHER, MetricKind.TARGET_ZERO):
        assert orient([1.0, -2.0, 3.0], NONE, kind).tolist() == [1, -2, 3]


def test_proportions_by_hand():
    # Anscombe (1948): asin(sqrt((x + 3/8)/(n + 3/4)))
    found = orient([0.5, 0.9, 1.0], [10, 100, 0], MetricKind.PROPORTION)
    anscombe = np.arcsin(np.sqrt(90.375 / 100.75))
    assert found == pytest.approx([np.arcsin(np.sqrt(5.375 / 10.75)), anscombe, np.pi / 2])
    beyond = orient([-0.1, 1.2, 0.0], [10, 0, 0], MetricKind.PROPORTION)
    assert beyond == pytest.approx([np.arcsin(np.sqrt(0.375 / 10.75)) - 0.1, np.pi / 2 + 0.2, 0])


def test_proportions_in_percent_are_judged_as_they_are():
    percent, counts = np.array([95.0, 88.5, np.nan, -3.0]), np.array([0.0, 0.0, 0.0, 7.0])
    found = orient(percent, counts, MetricKind.PROPORTION)
    assert np.diff(found[:2]) == pytest.approx([-6.5])
    assert metric_value(found, counts, MetricKind.PROPORTION) == pytest.approx(percent, nan_ok=True)
    # What a season that is taken out adds to a share is cut off.
    assert metric_value(np.array([1.6, -0.1]), np.zeros(2), MetricKind.PROPORTION).tolist() == [
        1,
        0,
    ]


def test_a_fall_of_a_proportion_in_percent_is_found():
    rng = np.random.default_rng(5)
    values = rng.normal(95, 1, 80)
    values[40:] -= 10
    rules = Rules(kind=MetricKind.PROPORTION)
    for scale in (1.0, 0.01):
        assert judge(scale * values, np.zeros(80), rules=rules).verdict.conditions


def test_zero_loss_and_perfect_fit_are_floored_by_their_own_series():
    block = np.array([[0.0, 2.0, 8.0], [0.0, 20.0, 80.0], [0.0, 0.0, 0.0]])
    found = orient(block, np.zeros_like(block), MetricKind.LOSS)
    assert found[0] == pytest.approx([0.0, -np.log(2), -np.log(8)])
    assert found[1] == pytest.approx(found[0] - np.log(10))
    assert found[2].tolist() == [0, 0, 0]
    r2 = orient([1.0, 0.9, 0.8], NONE, MetricKind.R_SQUARED)
    assert r2 == pytest.approx(-np.log([0.05, 0.1, 0.2]))


def test_series_with_a_negative_loss_is_only_reversed():
    block = np.array([[1.0, -2.0, np.nan], [1.0, 2.0, np.nan]])
    found = orient(block, np.zeros_like(block), MetricKind.LOSS)
    assert found[0, :2].tolist() == [-1, 2]
    assert found[1, :2] == pytest.approx([0, -np.log(2)])
    assert np.isnan(found[:, 2]).all()


@pytest.mark.parametrize("kind", list(MetricKind))
def test_missing_values_stay_missing_and_the_input_untouched(kind: MetricKind):
    values = np.array([0.2, np.nan, 0.4])
    found = orient(values, np.array([5.0, 0.0, 9.0]), kind)
    assert np.isnan(found).tolist() == [False, True, False]
    found[0] = 99
    assert values[0] == 0.2


@pytest.mark.parametrize("kind", [MetricKind.R_SQUARED, MetricKind.HIGHER, MetricKind.PROPORTION])
def test_higher_is_better_keeps_its_order(kind: MetricKind):
    assert (np.diff(orient([0.1, 0.5, 0.9], NONE, kind)) > 0).all()


@pytest.mark.parametrize("kind", [MetricKind.LOSS, MetricKind.LOWER])
def test_lower_is_better_reverses_its_order(kind: MetricKind):
    assert (np.diff(orient([0.1, 0.5, 0.9], NONE, kind)) < 0).all()


def test_levels_are_means_on_the_scale_of_the_noise():
    ones = np.ones(2)
    assert level(np.array([1.0, 4.0]), ones, MetricKind.LOSS) == pytest.approx(2)
    assert level(np.array([0.99, 0.96]), ones, MetricKind.R_SQUARED) == pytest.approx(0.98)
    assert level(np.array([0.5, 0.7]), ones, MetricKind.PROPORTION) == pytest.approx(0.6)
    assert level(np.array([1.0, -4.0]), ones, MetricKind.LOSS) == pytest.approx(-1.5)
    assert level(np.zeros(2), ones, MetricKind.LOSS) == 0
    assert level(np.ones(2), ones, MetricKind.R_SQUARED) == 1
    weighted = level(np.array([1.0, 4.0]), np.array([3.0, 1.0]), MetricKind.HIGHER)
    assert weighted == pytest.approx(1.75)


def test_robust_mean_resists_one_wild_value():
    y = np.random.default_rng(1).normal(10, 1, 50)
    spoiled = y.copy()
    spoiled[3] = 1e9
    assert robust_mean(spoiled, np.ones(50)) == pytest.approx(y.mean(), abs=0.2)
    assert winsorised(spoiled).max() < 20
    assert winsorised(np.array([1.0, 1.0, 1.0, 9.0])).tolist() == [1, 1, 1, 9]


def test_effects_by_hand():
    assert effect(0.9, 0.81, MetricKind.R_SQUARED) == pytest.approx(0.1)
    assert effect(10, 12, MetricKind.LOSS) == pytest.approx(0.2)
    assert effect(10, 8, MetricKind.LOWER) == pytest.approx(-0.2)
    assert effect(-0.5, -1.0, MetricKind.HIGHER) == pytest.approx(1.0)
    assert effect(0.03, -0.08, MetricKind.TARGET_ZERO) == pytest.approx(0.05)
    assert effect(0.0, 3.0, MetricKind.LOSS) == pytest.approx(1e6)
    assert effect(0.0, 0.0, MetricKind.HIGHER) == 0


@given(before=st.floats(1e-6, 1e6), after=st.floats(1e-6, 1e6), unit=st.floats(1e-6, 1e6))
def test_effect_has_no_unit(before: float, after: float, unit: float):
    plain = effect(before, after, MetricKind.LOSS)
    assert effect(unit * before, unit * after, MetricKind.LOSS) == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("kind", MetricKind)
@pytest.mark.parametrize(
    ("before", "after"), [(0.0, 5e-324), (5e-324, 0.0), (0.0, 1e-318), (1e-320, 1e308)]
)
def test_effects_of_levels_next_to_zero_are_finite(
    kind: MetricKind, before: float, after: float
) -> None:
    assert np.isfinite(effect(before, after, kind))
