"""What holds for every series: order, units, size and direction of a change."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelperf.stats import common_cause, season
from modelperf.stats.fleet import cut_off, q_values
from modelperf.stats.fold import Judgement, judge
from modelperf.stats.orientation import metric_value, orient
from modelperf.stats.results import FoldState, MetricKind, Rules

Floats = NDArray[np.float64]
HIGHER = Rules(kind=MetricKind.HIGHER, min_effect=0.0)
seeds = st.integers(0, 10**6)
factors = st.floats(1e-6, 1e6)


def judged(values: Floats, rules: Rules = HIGHER, counts: Floats | None = None) -> Judgement:
    return judge(values, np.zeros(len(values)) if counts is None else counts, rules=rules)


def losses(seed: int, change: int, growth: float) -> Floats:
    loss = np.exp(0.2 * np.random.default_rng(seed).normal(size=150))
    loss[change:] *= growth
    return loss


def fallen(seed: int, change: int, size: float) -> Floats:
    y = 100 + np.random.default_rng(seed).normal(size=160)
    y[change:] -= size
    return y


@settings(max_examples=25, deadline=None)
@given(seed=seeds, change=st.integers(20, 150), size=st.floats(-4, 8), order=st.randoms())
def test_verdict_is_the_same_in_whatever_order_evaluations_arrive(seed, change, size, order):
    y, none = fallen(seed, change, size), np.zeros(160)
    batches = np.array_split(np.arange(160), 8)
    order.shuffle(batches)
    arrived, states = np.zeros(0, int), {0: FoldState()}
    for batch in batches:
        known = len(np.flatnonzero(arrived < batch[0]))  # a late batch replays what follows it
        arrived = np.sort(np.append(arrived, batch))
        values = y[arrived]
        state = states[max(n for n in states if n <= known)]
        states = {n: kept for n, kept in states.items() if n <= state.n_seen}
        answer = judge(values, none[: len(values)], rules=HIGHER, state=state)
        states[len(values)] = answer.state
    assert answer.verdict == judged(y).verdict
    assert answer.state == judged(y).state


@settings(max_examples=25, deadline=None)
@given(seed=seeds, change=st.integers(20, 140), growth=st.floats(0.2, 4), factor=factors)
def test_units_of_a_loss_change_no_verdict(seed, change, growth, factor):
    loss, rules = losses(seed, change, growth), Rules(kind=MetricKind.LOSS)
    first, second = judged(loss, rules), judged(factor * loss, rules)
    assume(np.nanmin(np.abs(first.statistics - rules.threshold)) > 1e-6)
    assert second.verdict.status is first.verdict.status
    assert second.verdict.change_index == first.verdict.change_index
    assert np.array_equal(second.degraded, first.degraded)
    assert np.allclose(second.statistics, first.statistics, rtol=1e-6, atol=1e-6, equal_nan=True)
    if first.verdict.effect is not None:
        assert second.verdict.effect is not None
        assert abs(second.verdict.effect - first.verdict.effect) < 1e-6


@settings(max_examples=40, deadline=None)
@given(seed=seeds, change=st.integers(40, 150), size=st.floats(0, 4), more=st.floats(0, 6))
def test_larger_fall_is_degraded_no_later_and_no_less(seed, change, size, more):
    smaller = judged(fallen(seed, change, size)).degraded
    larger = judged(fallen(seed, change, size + more)).degraded
    assume(not smaller[:change].any())
    if smaller[change:].any():
        assert larger[change:].any()
        assert np.argmax(larger[change:]) <= np.argmax(smaller[change:])
        assert larger[-1] or not smaller[-1]


@settings(max_examples=30, deadline=None)
@given(
    seed=seeds,
    gains=st.lists(st.tuples(st.integers(0, 159), st.floats(0, 30)), min_size=1, max_size=4),
    kind=st.sampled_from([MetricKind.HIGHER, MetricKind.LOWER, MetricKind.LOSS]),
)
def test_gains_are_never_degraded(seed, gains, kind):
    y = np.random.default_rng(seed).normal(size=160)
    better = y.copy()
    for start, size in gains:
        better[start:] += size
    values, improved = (metric_value(0.1 * x, np.zeros(160), kind) for x in (y, better))
    rules = Rules(kind=kind, min_effect=0.0)
    assume(not judged(values, rules).degraded.any())
    answer = judged(improved, rules)
    assert not answer.degraded.any()
    assert answer.verdict.conditions == ()


@settings(max_examples=50, deadline=None)
@given(seed=seeds, kind=st.sampled_from(MetricKind))
def test_oriented_values_come_back(seed, kind):
    rng = np.random.default_rng(seed)
    values, counts = rng.uniform(0.05, 0.95, 40), rng.integers(0, 500, 40).astype(float)
    back = metric_value(orient(values, counts, kind), counts, kind)
    assert np.allclose(back, values, rtol=1e-9)


@given(p=st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=50), order=st.randoms())
def test_order_of_a_fleet_changes_no_cut_off(p, order):
    shuffled = list(p)
    order.shuffle(shuffled)
    assert cut_off(shuffled) == cut_off(p)
    assert np.array_equal(np.sort(q_values(shuffled)), np.sort(q_values(p)))
    assert (np.diff(q_values(np.sort(p))) >= 0).all()
    assert (q_values(p) >= np.array(p) * (1 - 1e-12)).all()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n_machines=st.integers(4, 9), scale=st.floats(1e-3, 1e3))
def test_order_and_levels_of_machines_change_no_own_part(seed, n_machines, scale):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n_machines, 60)) + rng.normal(size=60)
    y[rng.random(y.shape) < 0.1] = np.nan
    order, levels = rng.permutation(n_machines), rng.normal(size=(n_machines, 1))
    plain = common_cause.split(y)
    other = common_cause.split(scale * (y + levels)[order])
    assume(plain is not None)
    assert plain is not None
    assert other is not None
    own, others = plain.own[order], other.own / scale
    middle = np.nanmedian(own, axis=1, keepdims=True), np.nanmedian(others, axis=1, keepdims=True)
    assert np.array_equal(np.isnan(own), np.isnan(others))
    assert np.nanmax(np.abs((own - middle[0]) - (others - middle[1]))) < 0.2


@settings(max_examples=25, deadline=None)
@given(seed=seeds, shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3))
def test_units_and_origin_of_time_change_no_season(seed, shift, scale):
    rng = np.random.default_rng(seed)
    y, days = rng.normal(size=(2, 90)), np.sort(rng.uniform(0, 900, 90))
    plain = season.removed(y, days, period_days=365.25)
    other = season.removed(scale * y + 5, days + shift, period_days=365.25)
    assert np.allclose(other, scale * plain + 5, rtol=1e-6, atol=1e-6 * scale)
