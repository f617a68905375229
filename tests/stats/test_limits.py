"""The absolute limit: some of the last windows beyond it, and as many within to clear it."""

from dataclasses import replace

import numpy as np
import pytest

from modelperf.stats.limits import fold_limit, is_beyond, worst
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


def test_worse_of_two_values():
    assert worst(1.0, 2.0, MetricKind.LOSS) == 2
    assert worst(1.0, 2.0, MetricKind.R_SQUARED) == 1
    assert worst(-3.0, 2.0, MetricKind.TARGET_ZERO) == -3
    assert worst(1.0, -2.0, MetricKind.TARGET_ZERO) == -2


def test_two_of_three_cross_it_dated_at_the_first():
    assert folded([10, 21, 19, 19, 21]) is None
    assert folded([10, 21, 19, 25]) == Crossing(since=1, n_since=3, value=25, peak=25)
    assert folded([10, 30, 21]) == Crossing(since=1, n_since=2, value=21, peak=30)


def test_it_stays_until_as_many_lie_within():
    assert folded([21, 22, 19]) == Crossing(since=0, n_since=3, value=19, peak=22)
    assert folded([21, 22, 19, 19]) is None
    assert folded([21, 22, 19, 19, 23, 24]) == Crossing(since=4, n_since=2, value=24, peak=24)


def test_second_limit_keeps_it_open():
    rules = replace(MAPE, clear_limit=15.0)
    assert folded([21, 22, 16, 16, 16, 16], rules) is not None
    assert folded([21, 22, 16, 14, 14], rules) is None


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
        {"min_effect": -0.1},
        {"clear_limit": 21.0},
        {"limit": None, "clear_limit": 10.0},
        {"kind": MetricKind.R_SQUARED, "limit": 0.8, "clear_limit": 0.7},
    ],
)
def test_rules_out_of_range_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"limit|min_evaluations|min_effect|window"):
        Rules(**{"kind": MetricKind.LOSS, "limit": 20.0} | wrong)
