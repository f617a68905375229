"""The verdict as a fold: what opens an incident, what closes it, and that order is all it sees."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelperf.stats.fold import Judgement, judge
from modelperf.stats.results import FoldState, MetricKind, Rule, Rules, Status
from modelperf.stats.warm_start import first_state

HIGHER = Rules(kind=MetricKind.HIGHER, min_effect=0.0)
LOSS = Rules(kind=MetricKind.LOSS)


def noise(size: int, seed: int = 1, *, phi: float = 0.0) -> NDArray[np.float64]:
    shocks = np.random.default_rng(seed).normal(size=size)
    y = shocks.copy()
    for i in range(1, size):
        y[i] = phi * y[i - 1] + np.sqrt(1 - phi**2) * shocks[i]
    return y


def judged(values: NDArray[np.float64], rules: Rules = HIGHER) -> Judgement:
    return judge(values, np.zeros(len(values)), rules=rules)


def in_parts(
    values, counts, rules: Rules, cuts: list[int], state: FoldState | None = None
) -> list[Judgement]:
    """Judge part by part, loading no more than the state asks for, the state through JSON."""
    state, answers = state or FoldState(), []
    for cut in [*cuts, len(values)]:
        first = state.needs_from
        part = judge(values[first:cut], counts[first:cut], rules=rules, state=state, offset=first)
        answers.append(part)
        state = FoldState.from_document(json.loads(json.dumps(part.state.to_document())))
        assert state == part.state
    return answers


def assert_same(whole: Judgement, parts: list[Judgement]) -> None:
    assert parts[-1].verdict == whole.verdict
    assert parts[-1].state == whole.state
    statistics = np.concatenate([part.statistics for part in parts])
    assert np.array_equal(statistics, whole.statistics, equal_nan=True)
    assert np.array_equal(np.concatenate([part.degraded for part in parts]), whole.degraded)


def test_unchanged_series_is_stable():
    answer = judged(100 + noise(200))
    verdict = answer.verdict
    assert verdict.status is Status.STABLE
    assert not verdict.is_degraded
    assert (verdict.n_evaluations, verdict.needed, verdict.threshold) == (200, 0, 3.9)
    assert verdict.conditions == ()
    assert verdict.change_index is None
    assert np.isnan(answer.statistics[:29]).all()
    assert np.isfinite(answer.statistics[29:]).all()
    assert verdict.statistic == answer.statistics[-1]


def test_fall_is_degraded_and_dated():
    y = 100 + noise(200)
    y[120:] -= 2
    answer = judged(y)
    verdict, (condition,) = answer.verdict, answer.verdict.conditions
    assert verdict.status is Status.DEGRADED
    assert verdict.rule is Rule.CHANGE_POINT
    assert abs(verdict.change_index - 120) <= 3
    assert verdict.change_low <= 120 <= verdict.change_high
    assert verdict.baseline == pytest.approx(100, abs=0.5)
    assert verdict.current == pytest.approx(98, abs=0.5)
    assert verdict.effect == pytest.approx(0.02, abs=0.005)
    assert 0 < np.argmax(answer.degraded) - 120 <= 10
    assert answer.degraded[np.argmax(answer.degraded) :].all()
    assert condition.change_index == verdict.change_index
    assert condition.n_since == 200 - verdict.change_index
    assert condition.statistic == verdict.statistic
    assert condition.peak_statistic >= np.nanmax(answer.statistics[120:])
    assert condition.threshold == 3.9


def test_confirmed_p_is_the_smallest_that_held_at_two_prefixes():
    y = 100 + noise(200)
    y[120:] -= 2
    p = [judged(y[:end]).verdict.p_value for end in range(110, 201)]
    opened = int(np.argmax(judged(y).degraded)) - 109
    pairs = [max(p[i - 1], p[i]) for i in range(opened, 91)]
    assert judged(y).verdict.conditions[0].confirmed_p == min(pairs)


def test_small_effect_is_not_degraded():
    y = 100 + 0.1 * noise(200)
    y[120:] -= 0.5
    assert judged(y, Rules(kind=MetricKind.HIGHER)).verdict.status is Status.STABLE
    assert judged(y).verdict.status is Status.DEGRADED


def test_up_then_back_is_improvement_lost():
    y = 100 + noise(220)
    y[50:120] += 2
    answer = judged(y)
    assert not answer.degraded.any()
    assert answer.verdict.status is Status.IMPROVEMENT_LOST
    assert answer.verdict.effect > 0
    assert abs(answer.verdict.change_index - 120) <= 4


def test_up_then_below_the_start_is_degraded_against_the_start():
    y = 100 + noise(220)
    y[50:120] += 2
    y[120:] -= 3
    verdict = judged(y).verdict
    assert verdict.status is Status.DEGRADED
    assert verdict.baseline == pytest.approx(100, abs=0.6)


def test_improvement_is_told_and_never_degraded():
    y = 100 + noise(200)
    y[120:] += 2.5
    answer = judged(y)
    assert answer.verdict.status is Status.IMPROVED
    assert answer.verdict.effect < 0
    assert answer.verdict.change_low <= 120 <= answer.verdict.change_high
    assert not answer.degraded.any()


def test_recovered_incident_closes_and_its_evaluations_are_dropped():
    y = 100 + noise(260)
    y[100:150] -= 2
    answer = judged(y)
    closed = 150 + int(np.argmin(answer.degraded[150:]))
    assert 4 <= closed - 150 <= 15
    assert not answer.degraded[closed:].any()
    assert answer.verdict.n_evaluations == pytest.approx(210, abs=5)
    ((low, high),) = answer.state.dropped
    assert (low, high) == (pytest.approx(100, abs=3), pytest.approx(150, abs=3))


def test_second_fall_is_raised_anew():
    y = 100 + noise(300)
    y[100:150] -= 2
    y[200:] -= 2
    answer = judged(y)
    assert not answer.degraded[190]
    assert answer.degraded[-1]
    assert abs(answer.verdict.change_index - 200) <= 3


def test_incident_longer_than_the_window_stays_open():
    y = 100 + noise(400)
    y[100:] -= 2
    answer = judged(y, Rules(kind=MetricKind.HIGHER, min_effect=0.0, window=80))
    assert answer.degraded[-1]
    assert answer.verdict.n_evaluations == 80
    assert answer.verdict.baseline == pytest.approx(100, abs=0.5)
    assert answer.verdict.conditions[0].n_since == pytest.approx(300, abs=3)


def test_collapse_is_degraded_at_once_and_clears_when_back():
    y = 100 + noise(140)
    y[100:102] -= 12
    answer = judged(y)
    at_collapse = judged(y[:102]).verdict
    assert at_collapse.rule is Rule.COLLAPSE
    assert at_collapse.change_index == 100
    (condition,) = at_collapse.conditions
    assert condition.confirmed_p is None
    assert condition.n_since == 2
    assert condition.statistic > condition.threshold
    assert condition.peak_statistic >= condition.statistic
    assert answer.degraded[101]
    assert not answer.degraded[108:].any()


def test_collapse_before_change_points_can_be_judged():
    y = 100 + noise(25)
    y[23:] -= 12
    verdict = judged(y).verdict
    assert verdict.status is Status.DEGRADED
    assert (verdict.n_evaluations, verdict.needed, verdict.statistic) == (25, 5, None)


def test_single_outlier_is_a_mark_and_not_an_incident():
    y = 100 + noise(101)
    y[100] = 91
    verdict = judged(y).verdict
    assert verdict.outlier_window
    assert verdict.status is Status.STABLE
    y[100] = 109
    assert not judged(y).verdict.outlier_window


@pytest.mark.parametrize("size", [0, 1, 5, 29])
def test_few_evaluations_are_insufficient(size: int):
    verdict = judged(100 + noise(size)).verdict
    assert verdict.status is Status.INSUFFICIENT_DATA
    assert (verdict.n_evaluations, verdict.needed) == (size, 30 - size)
    assert verdict.statistic is None
    assert verdict.p_value is None


def test_missing_values_are_skipped():
    y = 100 + noise(200)
    y[120:] -= 2
    gappy = np.full(400, np.nan)
    gappy[::2] = y
    gappy[1] = np.inf
    dense, sparse = judged(y), judged(gappy)
    assert sparse.verdict.statistic == dense.verdict.statistic
    assert sparse.verdict.change_index == 2 * dense.verdict.change_index
    assert np.array_equal(sparse.degraded[1::2], dense.degraded)
    assert np.isnan(sparse.statistics[1::2]).all()
    assert judged(np.full(50, np.nan)).verdict.status is Status.INSUFFICIENT_DATA


@pytest.mark.parametrize("kind", list(MetricKind))
@pytest.mark.parametrize("constant", [0.0, 1.0, 0.37])
def test_constant_series_is_stable(kind: MetricKind, constant: float):
    answer = judged(np.full(120, constant), Rules(kind=kind))
    assert answer.verdict.status is Status.STABLE
    assert answer.verdict.statistic == 0
    assert not answer.degraded.any()


@pytest.mark.parametrize("size", [0.15, 15.0, 1e6])
@pytest.mark.parametrize("at", [30, 60, 99, 116, 119])
def test_one_outlier_in_a_constant_series_stays_quiet(size: float, at: int):
    y = np.full(120, 50.0)
    y[at] -= size
    assert not judged(y).degraded.any()


def test_step_in_a_constant_series_is_found_at_its_second_evaluation():
    y = np.full(120, 0.9)
    y[100:] = 0.8
    answer = judged(y, Rules(kind=MetricKind.R_SQUARED))
    assert int(np.argmax(answer.degraded)) == 101
    assert answer.degraded[101:].all()
    y[100:] = 0.899
    assert not judged(y, Rules(kind=MetricKind.R_SQUARED)).degraded.any()


def test_coarsely_rounded_series_stays_quiet():
    alarms = sum(
        judged(
            0.9 + np.round(0.01 * noise(200, seed), 2), Rules(kind=MetricKind.HIGHER)
        ).degraded.any()
        for seed in range(60)
    )
    assert alarms <= 4


def test_zero_losses_and_perfect_fits_are_judged():
    loss = np.exp(0.1 * noise(160))
    loss[::7] = 0.0
    assert judged(loss, LOSS).verdict.status is Status.STABLE
    r2 = 1 - loss / 10
    assert judged(r2, Rules(kind=MetricKind.R_SQUARED)).verdict.status is Status.STABLE
    loss[120:] *= 3
    assert judged(loss, LOSS).verdict.status is Status.DEGRADED


def test_bias_is_degraded_on_both_sides_and_improves_towards_zero():
    rules = Rules(kind=MetricKind.TARGET_ZERO)
    for sign in (1, -1):
        y = 0.02 * noise(200)
        y[120:] += sign * 0.06
        verdict = judged(y, rules).verdict
        assert verdict.status is Status.DEGRADED
        assert verdict.effect == pytest.approx(0.06, abs=0.02)
        towards = judged(y[::-1].copy(), rules)
        assert towards.verdict.status is Status.IMPROVED
        assert not towards.degraded.any()
    through = 0.01 * noise(200) - 0.05
    through[100:] += 0.1
    assert not judged(through, rules).degraded.any()


def test_bias_that_overshoots_has_not_recovered():
    y = 0.02 * noise(260)
    y[100:160] += 0.1
    y[160:] -= 0.1
    assert judged(y, Rules(kind=MetricKind.TARGET_ZERO)).degraded[130:].all()
    y[160:] += 0.1
    assert not judged(y, Rules(kind=MetricKind.TARGET_ZERO)).degraded[-1]


def test_limit_stands_beside_the_verdict():
    y = 10 + noise(60)
    y[57:] = [21.0, 19.0, 22.0]
    rules = Rules(kind=MetricKind.LOWER, min_effect=9.0, limit=20.0)
    verdict = judged(y, rules).verdict
    (condition,) = verdict.conditions
    assert (condition.rule, condition.threshold) == (Rule.LIMIT, 20.0)
    assert (condition.change_index, condition.n_since) == (57, 3)
    assert (condition.statistic, condition.peak_statistic) == (22.0, 22.0)
    assert condition.current == pytest.approx(np.mean(y[57:]), abs=0.5)
    assert condition.baseline is None
    assert verdict.status is Status.STABLE


def test_counts_of_twenty_to_twenty_thousand_stay_quiet():
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(60):
        counts = np.exp(rng.uniform(np.log(20), np.log(20000), 200)).astype(int)
        share = rng.binomial(counts, 0.95) / counts
        rules = Rules(kind=MetricKind.PROPORTION, min_effect=0.0)
        alarms += judge(share, counts, rules=rules).degraded.any()
    assert alarms <= 4


def test_fewer_rows_and_more_noise_is_not_degraded():
    rng = np.random.default_rng(4)
    counts = np.repeat([10_000, 100], 100)
    alarms = 0
    for _ in range(60):
        y = 100 + rng.normal(size=200) * np.sqrt(100 / counts)
        alarms += judge(y, counts, rules=HIGHER).degraded.any()
    assert alarms <= 5


def test_state_without_new_evaluations_gives_the_same_verdict():
    y = 100 + noise(450)
    y[430:] -= 3
    whole = judged(y)
    first = whole.state.needs_from
    again = judge(y[first:], np.zeros(450 - first), rules=HIGHER, state=whole.state, offset=first)
    assert again.verdict == whole.verdict
    assert again.state == whole.state
    assert again.statistics.shape == (0,)


def test_wrong_input_is_refused():
    state = judged(100 + noise(50)).state
    with pytest.raises(ValueError, match="one length"):
        judge([1.0], [1, 2], rules=HIGHER)
    with pytest.raises(ValueError, match="one length"):
        judge([[1.0]], [[1]], rules=HIGHER)
    with pytest.raises(ValueError, match="from position 0 on"):
        judge([1.0], [1], rules=HIGHER, offset=3)
    with pytest.raises(ValueError, match="50 evaluations already judged"):
        judge([1.0], [1], rules=HIGHER, state=state)


@st.composite
def histories(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Levels that rise, fall and collapse, with gaps, ties and counts of all sizes."""
    size = draw(st.integers(1, 260))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    y = 20 + rng.normal(size=size)
    for _ in range(draw(st.integers(0, 4))):
        start, length = draw(st.integers(0, size)), draw(st.integers(1, 80))
        y[start : start + length] += draw(st.sampled_from([-15, -6, -2, 2]))
    if draw(st.booleans()):
        y = np.round(y, draw(st.integers(0, 2)))
    y[rng.random(size) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    y[rng.random(size) < draw(st.sampled_from([0.0, 0.05]))] = 0.0
    counts = draw(st.sampled_from([np.zeros(size), rng.integers(0, 20_000, size).astype(float)]))
    return y, counts


rules_of_any_kind = st.builds(
    Rules,
    kind=st.sampled_from(MetricKind),
    min_effect=st.sampled_from([0.0, 0.02]),
    window=st.sampled_from([40, 75, 400]),
    limit=st.sampled_from([None, 17.0]),
)


states_before = st.sampled_from(
    [FoldState(), *(FoldState(prior_variance=s, prior_phi=phi) for s, phi in ((1, 0.3), (0, 0)))]
)


@settings(max_examples=50, deadline=None)
@given(
    history=histories(),
    rules=rules_of_any_kind,
    cuts=st.lists(st.integers(0, 260), max_size=4),
    start=states_before,
)
def test_history_in_parts_is_the_history_at_once(
    history, rules: Rules, cuts: list[int], start: FoldState
):
    values, counts = history
    parts = in_parts(values, counts, rules, sorted(min(cut, len(values)) for cut in cuts), start)
    assert_same(judge(values, counts, rules=rules, state=start), parts)


def test_history_one_by_one_is_the_history_at_once():
    y = 100 + noise(330, phi=0.3)
    y[90:120] -= 2
    y[150:153] -= 14
    y[200:] -= 2
    rules = Rules(kind=MetricKind.HIGHER, min_effect=0.0, window=90, limit=98.0)
    parts = in_parts(y, np.zeros(330), rules, list(range(60, 330)))
    assert_same(judge(y, np.zeros(330), rules=rules), parts)


finite = st.floats(allow_nan=False, allow_infinity=False)
wild = st.lists(st.one_of(finite, st.sampled_from([0.0, 1.0, -1.0, 1e308, -1e308, 5e-324])))


@settings(max_examples=50, deadline=None)
@given(
    start=st.floats(-2, 2),
    values=wild,
    rules=rules_of_any_kind,
    counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=5),
    before=wild,
)
def test_any_finite_value_gives_a_verdict_that_json_can_hold(start, values, rules, counts, before):
    y = np.append(start + 0.1 * noise(40), values)
    earlier = np.append(noise(15), before)
    state = first_state(earlier, np.resize(counts, len(earlier)), rules=rules)
    for new in (y, y[::-1]):
        answer = judge(new, np.resize(counts, len(y)), rules=rules, state=state)
        json.dumps([asdict(answer.verdict), answer.state.to_document()], allow_nan=False)
        assert not np.isinf(answer.statistics).any()


@settings(max_examples=30, deadline=None)
@given(history=histories(), exponent=st.integers(-30, 30))
def test_scaling_a_loss_changes_no_verdict(history, exponent: int):
    values, counts = np.abs(history[0]), history[1]
    first = judge(values, counts, rules=LOSS)
    second = judge(values * 2.0**exponent, counts, rules=LOSS)
    assert second.verdict.status is first.verdict.status
    assert np.array_equal(second.degraded, first.degraded)
    assert second.statistics == pytest.approx(first.statistics, rel=1e-6, abs=1e-9, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), start=st.integers(0, 150), size=st.floats(0.1, 50))
def test_improvement_is_never_degraded(seed: int, start: int, size: float):
    y = 100 + 0.01 * noise(160, seed)
    before = judged(y).degraded.any()
    y[start:] += size
    assert before or not judged(y).degraded.any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(2.5, 6))
def test_larger_fall_has_a_larger_statistic(seed: int, size: float):
    y, larger = 100 + noise(160, seed), 100 + noise(160, seed)
    y[120:] -= size
    larger[120:] -= 1.5 * size
    assert judged(larger).verdict.statistic >= 0.95 * judged(y).verdict.statistic
    assert judged(larger).degraded[-1]
