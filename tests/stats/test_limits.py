"""The absolute limit: some of the last windows beyond it, some in a row well within to clear it."""

from dataclasses import replace

import numpy as np
import pytest

from modelperf.stats.fold import judge
from modelperf.stats.limits import clear_level, fold_limit, is_beyond, worst
from modelperf.stats.results import Crossing, FoldState, MetricKind, Rules

MAPE = Rules(kind=MetricKind.LOSS, limit=20.0)


def folded(values: list[float], rules: Rules = MAPE, state: FoldState | None = None):
    y = np.array(values, float)
    state = state or FoldState()
    crossings = fold_limit(y, np.arange(len(y)), state, rules)
    return crossings[-1] if crossings else state.crossing


@pytest.mark.parametrize(
    ("kind", "beyond"),
    [
        (MetricKind.LOSS, [False, False, True]),
        (MetricKind.LOWER, [False, False, True]),
        (MetricKind.R_SQUARED, [True, False, False]),
        (MetricKind.PROPORTION, [True, False, False]),
        (MetricKind.HIGHER, [True, False, False]),
        (MetricKind.TARGET_ZERO, [True, False, True]),
    ],
)
def test_side_of_the_limit_follows_the_kind(kind: MetricKind, beyond: list[bool]):
    values = [-3.0, 2.0, 3.0] if kind is MetricKind.TARGET_ZERO else [1.0, 2.0, 3.0]
    assert is_beyond(values, 2.0, kind).tolist() == beyond
    assert not is_beyond(np.nan, 2.0, kind)


def test_worst_of_some_values():
    assert worst([1.0, 2.0], MetricKind.LOSS) == 2
    assert worst([1.0, 2.0], MetricKind.R_SQUARED) == 1
    assert worst([-3.0, 2.0, 3.0], MetricKind.TARGET_ZERO) == -3
    assert worst([1.0, -2.0], MetricKind.TARGET_ZERO) == -2


def test_two_of_three_cross_it_dated_at_the_first():
    assert folded([10, 21, 19, 19, 21]) is None
    assert folded([10, 21, 19, 25]) == Crossing(since=1, n_since=3, value=25, peak=25)
    assert folded([10, 30, 21]) == Crossing(since=1, n_since=2, value=21, peak=30)


def test_it_stays_until_some_in_a_row_are_well():
    well = [10] * 5
    assert folded([21, 22, *well[1:]]) == Crossing(since=0, n_since=6, value=10, peak=22)
    assert folded([21, 22, *well]) is None
    assert folded([21, 22, *well[1:], 21, *well[1:]]) is not None
    assert folded([21, 22, *well, 23, 24]) == Crossing(since=7, n_since=2, value=24, peak=24)
    assert folded([21, 22, 10, 10], replace(MAPE, limit_clear_windows=2)) is None


def test_second_limit_keeps_it_open():
    rules = replace(MAPE, clear_limit=15.0)
    assert folded([21, 22, 16, *[14] * 4], rules) is not None
    assert folded([21, 22, 16, *[14] * 5], rules) is None


def test_what_was_judged_without_good_windows_in_a_row_is_judged_as_it_was():
    before = replace(MAPE, limit_clear_windows=None)
    assert folded([21, 22, 19, 19], before) is None
    rules = replace(before, clear_limit=15.0)
    assert folded([21, 22, 16, 16, 16, 16], rules) is not None
    assert folded([21, 22, 16, 14, 14], rules) is None


NOISY = np.random.default_rng(0).normal(20, 1, 60)


@pytest.mark.parametrize(
    ("before", "kind", "limit", "level"),
    [
        (NOISY, MetricKind.LOSS, 20.0, 18.0),
        (NOISY, MetricKind.HIGHER, 20.0, 22.0),
        (-NOISY, MetricKind.TARGET_ZERO, 20.0, 18.0),
        # A level that changed once is no noise, a swing within as many windows is.
        (NOISY + np.repeat([0, 50], 30), MetricKind.LOSS, 20.0, 17.7),
        (np.tile([15.0, 25.0], 30), MetricKind.LOWER, 20.0, -1.0),
        # Never nearer to the best there is than half the way.
        (NOISY * 9, MetricKind.LOSS, 20.0, 10.0),
        (NOISY / 20, MetricKind.R_SQUARED, 0.9, 0.95),
        # Neighbours have to do where there are few.
        (NOISY[:19], MetricKind.LOWER, 20.0, 17.9),
        (NOISY[:1], MetricKind.LOSS, 20.0, 20.0),
    ],
)
def test_the_level_that_clears_lies_a_margin_on_the_good_side(before, kind, limit, level):
    assert clear_level(before, limit, n=5, kind=kind) == pytest.approx(level, abs=0.75)


@pytest.mark.parametrize("step", [1, 7, 40])
def test_a_limit_in_parts_is_the_limit_at_once(step: int):
    rng = np.random.default_rng(1)
    values = np.r_[rng.normal(10, 1, 80), rng.normal(20, 1.5, 80), rng.normal(10, 1, 40)]
    rules = replace(MAPE, window=30)
    whole = judge(values, np.zeros(200), rules=rules)
    state, crossed = FoldState(), []
    for end in range(step, 200 + step, step):
        part = judge(
            values[state.needs_from : end],
            np.zeros(len(values[state.needs_from : end])),
            rules=rules,
            state=state,
            offset=state.needs_from,
        )
        state = part.state
        crossed += part.crossed.tolist()
    assert crossed == whole.crossed.tolist()
    assert 0 < sum(crossed) < 200
    assert state == whole.state


def test_one_of_one_and_no_limit():
    assert folded([10, 21], replace(MAPE, limit_hits=1, limit_windows=1)) is not None
    assert folded([10, 99, 99, 99], replace(MAPE, limit=None)) is None


def test_only_new_evaluations_are_folded():
    open_since_long = FoldState(n_seen=3, crossing=Crossing(since=-9, n_since=12, value=1, peak=50))
    assert folded([21, 22, 23], state=open_since_long) == open_since_long.crossing
    longer = folded([21, 22, 23, 24], state=open_since_long)
    assert longer == Crossing(since=-9, n_since=13, value=24, peak=50)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_evaluations": 14},
        {"window": 20},
        {"limit_hits": 4},
        {"limit_hits": 0},
        {"limit_clear_windows": 0},
        {"min_effect": -0.1},
        {"clear_limit": 21.0},
        {"limit": None, "clear_limit": 10.0},
        {"kind": MetricKind.R_SQUARED, "limit": 0.8, "clear_limit": 0.7},
    ],
)
def test_rules_out_of_range_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"limit|min_evaluations|min_effect|window"):
        Rules(**{"kind": MetricKind.LOSS, "limit": 20.0} | wrong)
