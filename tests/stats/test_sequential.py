"""A/B evidence against independent computations, degenerate cases and the promises it makes."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats
from statsmodels.tsa.stattools import acf

from benchmarks import statistics_sequential
from modelperf.stats.sequential import Evidence, Outcome, expected_pairs, paired, two_sample
from modelperf.stats.t_process import allowance, critical_t, inflation, log_e, moments

LOSSES = np.random.default_rng(20).normal(10, 1, (2, 40))
BETTER_B = LOSSES - np.array([[0.0], [2.0]])

losses = st.integers(2, 40).flatmap(
    lambda n: arrays(np.float64, (2, n), elements=st.floats(0.125, 1000, width=32))
)


def slow_e(d: np.ndarray) -> float:
    """One look, written from the formula, without running sums."""
    n, m = d.size, d.mean()
    r1 = np.sum((d[1:] - m) * (d[:-1] - m)) / np.sum((d - m) ** 2)
    phi = min(max((n * r1 + 5) / (n - 5), 0), 0.95)
    t2 = stats.ttest_1samp(d, 0).statistic ** 2 * (1 - phi) / (1 + phi)
    ratio = (1 + t2 / (n - 1)) / (1 + t2 / ((n - 1) * (1 + n)))
    return float((1 + n) ** -0.5 * ratio ** (n / 2))


def integrated_e(t: float, n: float, df: float) -> float:
    """E from its definition: the noncentral t density averaged over a standard normal effect."""

    def weighted(effect: float) -> float:
        return float(stats.nct.pdf(t, df, effect * np.sqrt(n)) * stats.norm.pdf(effect))

    return float(integrate.quad(weighted, -6, 6, epsabs=1e-12)[0] / stats.t.pdf(t, df))


# --- parity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "n"), [(0.0, 8), (1.5, 8), (-2.5, 12), (4.0, 30)])
def test_log_e_agrees_with_integrating_the_noncentral_t(t: float, n: int) -> None:
    e = np.exp(log_e(np.array([t]), np.array([float(n)]), np.array([n - 1.0])))
    assert e[0] == pytest.approx(integrated_e(t, n, n - 1), rel=1e-6)


def test_log_e_with_degrees_of_freedom_of_its_own_agrees_too() -> None:
    e = np.exp(log_e(np.array([2.2]), np.array([12.0]), np.array([20.5])))
    assert e[0] == pytest.approx(integrated_e(2.2, 12, 20.5), rel=1e-6)


def test_log_e_of_infinite_t_is_its_limit() -> None:
    e = np.exp(log_e(np.array([np.inf]), np.array([8.0]), np.array([7.0])))
    assert e[0] == pytest.approx(9**3.5, rel=1e-9)


def test_critical_t_is_where_e_reaches_one_over_alpha() -> None:
    n, df = np.array([8.0, 30.0, 300.0]), np.array([7.0, 41.0, 299.0])
    assert log_e(critical_t(n, df, 0.05), n, df) == pytest.approx(np.log(20), rel=1e-9)


def test_critical_t_of_too_few_is_infinite() -> None:
    assert critical_t(np.array([2.0]), np.array([1.0]), 0.05)[0] == np.inf


def test_moments_agree_with_numpy_and_statsmodels_at_every_prefix() -> None:
    x = LOSSES[0]
    seen = moments(x)
    for n in range(2, x.size + 1):
        at = (seen.mean[n - 1], seen.deviation[n - 1], seen.r1[n - 1])
        # acf(x, nlags=1)[1] of statsmodels 0.14 divides both sums by n
        expected = (x[:n].mean(), x[:n].std(ddof=1), acf(x[:n], nlags=1)[1])
        assert at == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (seen.n[0], seen.deviation[0], seen.r1[0]) == (1, 0, 0)


def test_moments_at_picks_prefixes() -> None:
    some = moments(LOSSES[0]).at(np.array([4, 9]))
    assert some.n.tolist() == [5, 10]
    assert some.mean[1] == pytest.approx(LOSSES[0, :10].mean())


def test_allowance_at_hand_computed_values() -> None:
    n = np.array([5, 10, 25, 105, 10])
    phi = allowance(np.array([-1.0, 0.0, 0.4, 0.5, -0.9]), n)
    assert phi.tolist() == pytest.approx([0.95, 0.95, 0.75, 0.575, 0.0])
    assert inflation(np.array([0.0, 0.6])).tolist() == pytest.approx([1, 2])


def test_paired_evidence_agrees_with_one_look_at_a_time() -> None:
    a, b = BETTER_B
    seen = paired(a, b)
    slow = [slow_e((a - b)[:n]) for n in range(8, a.size + 1)]
    assert seen.e_values[7:] == pytest.approx(slow, rel=1e-9)
    assert seen.e_value == pytest.approx(slow[-1], rel=1e-9)
    assert seen.p_value == pytest.approx(1 / max(slow), rel=1e-9)
    assert seen.decided_at == 8 + int(np.argmax(np.array(slow) >= 20))
    assert seen.means == pytest.approx(np.cumsum(a - b) / np.arange(1, 41))


def test_paired_interval_inverts_the_evidence_at_each_look() -> None:
    a, b = LOSSES
    seen = paired(a, b)
    n = int(np.argmin(seen.highs[np.isfinite(seen.highs)])) + int(np.isnan(seen.highs).sum()) + 1
    assert slow_e((a - b)[:n] - seen.highs[n - 1]) == pytest.approx(20, rel=1e-6)


def test_two_sample_agrees_with_scipys_welch_where_nothing_is_allowed_for() -> None:
    # windows that alternate have a negative autocorrelation, so phi is 0
    zigzag = np.tile([1.0, -1.0], 30)
    a, b = 3 + zigzag[:60] * 1.5, 2.6 + zigzag[:40]
    seen = two_sample(a, b)
    welch = stats.ttest_ind(a, b, equal_var=False)
    shares = np.array([a.var(ddof=1) / 60, b.var(ddof=1) / 40])
    size = np.array([(shares @ [60, 40]) / shares.sum()])
    expected = np.exp(log_e(np.array([welch.statistic]), size, np.array([welch.df])))
    assert seen.phi == 0
    assert seen.e_value == pytest.approx(expected[0], rel=1e-9)
    assert seen.mean_difference == pytest.approx(0.4)


def test_two_sample_widens_each_arm_by_its_own_allowance() -> None:
    a, b = statistics_sequential.autoregressive(8, (2, 40), 0.6)
    seen = two_sample(a, b)
    phis = [float(moments_phi(x)) for x in (a, b)]
    errors = [x.var(ddof=1) / 40 * (1 + p) / (1 - p) for x, p in zip((a, b), phis, strict=True)]
    df = sum(errors) ** 2 / sum(e**2 / 39 for e in errors)
    t = (a.mean() - b.mean()) / np.sqrt(sum(errors))
    expected = np.exp(log_e(np.array([t]), np.array([40.0]), np.array([df])))
    assert seen.phi == pytest.approx(max(phis))
    assert seen.e_value == pytest.approx(expected[0], rel=1e-9)


def moments_phi(x: np.ndarray) -> float:
    return min(max((x.size * acf(x, nlags=1)[1] + 5) / (x.size - 5), 0), 0.95)


# --- outcomes ---------------------------------------------------------------------------------


def test_paired_finds_the_arm_with_the_smaller_loss() -> None:
    seen = paired(*BETTER_B)
    assert seen.outcome is Outcome.MODEL_B
    assert seen.mean_difference is not None
    assert seen.mean_difference > 0
    assert seen.low is not None
    assert 0 < seen.low < seen.mean_difference
    assert seen.confidence == 1 - seen.p_value > 0.95
    assert seen.needed is None
    assert paired(*BETTER_B[::-1]).outcome is Outcome.MODEL_A


def test_two_sample_finds_the_arm_with_the_smaller_loss() -> None:
    seen = two_sample(BETTER_B[0], BETTER_B[1, :30])
    assert seen.outcome is Outcome.MODEL_B
    assert seen.n == 30


def test_paired_with_noise_alone_is_undecided_and_tells_what_is_needed() -> None:
    seen = paired(*LOSSES)
    assert seen.outcome is Outcome.UNDECIDED
    assert seen.decided_at is None
    assert seen.needed is not None
    assert seen.needed > 0


def test_paired_small_margin_and_no_effect_cannot_tell_what_is_needed() -> None:
    seen = paired([1.0, 2, 3, 4] * 3, [2.0, 1, 4, 3] * 3, margin=0)
    assert seen.outcome is Outcome.UNDECIDED
    assert seen.needed is None


def test_paired_inside_the_margin_is_equivalent() -> None:
    seen = paired(*LOSSES, margin=2.0)
    assert seen.outcome is Outcome.EQUIVALENT
    assert seen.margin == 2.0
    assert seen.low is not None
    assert seen.high is not None
    assert -2 <= seen.low <= seen.high <= 2


def test_paired_constant_difference_inside_the_margin_is_equivalent_not_better() -> None:
    assert paired(np.full(9, 1.0), np.full(9, 1.001)).outcome is Outcome.EQUIVALENT


def test_default_margin_is_one_percent_of_the_mean_loss() -> None:
    assert paired([1.0] * 5, [3.0] * 5).margin == pytest.approx(0.02)
    assert two_sample([-1.0] * 5, [3.0] * 7).margin == pytest.approx(0.02)


def test_more_confidence_takes_longer() -> None:
    at = [paired(*BETTER_B, confidence_level=c).decided_at or 99 for c in (0.8, 0.95, 0.999)]
    assert at == sorted(at)
    assert at[0] < at[-1]


def test_minimum_of_pairs_holds_a_decision_back() -> None:
    assert paired(*BETTER_B, min_pairs=25).decided_at == 25
    assert two_sample(*BETTER_B, min_pairs=25).decided_at == 25
    assert paired(*BETTER_B, min_pairs=25).e_values[:24].tolist() == [1.0] * 24


def test_needed_is_how_long_the_same_must_go_on() -> None:
    d = np.tile([1.1, -0.1], 20)
    seen = paired(d[:16], np.zeros(16), margin=0)
    assert seen.needed is not None
    assert paired(d, np.zeros(40), margin=0).decided_at == pytest.approx(16 + seen.needed, abs=2)


def test_needed_counts_on_equivalence_too() -> None:
    d = np.tile([1.0, -1.0], 30)
    seen = paired(d[:16], np.zeros(16), margin=0.5)
    assert seen.needed is not None
    later = paired(d, np.zeros(60), margin=0.5)
    assert later.outcome is Outcome.EQUIVALENT
    assert later.decided_at == pytest.approx(16 + seen.needed, abs=2)


# --- looking repeatedly -----------------------------------------------------------------------


@pytest.mark.parametrize("compare", [paired, two_sample])
def test_a_decision_stays_made_whatever_follows(compare: statistics_sequential.Compare) -> None:
    first = compare(*BETTER_B)
    reversed_later = np.concatenate([BETTER_B, BETTER_B[::-1] + np.array([[50.0], [0.0]])], axis=1)
    later = compare(*reversed_later)
    assert (later.outcome, later.decided_at) == (Outcome.MODEL_B, first.decided_at)
    assert later.margin == first.margin
    assert later.p_value <= first.p_value


@pytest.mark.parametrize("compare", [paired, two_sample])
@given(both=losses)
@settings(max_examples=40, deadline=None)
def test_what_was_seen_does_not_depend_on_what_comes(
    compare: statistics_sequential.Compare, both: np.ndarray
) -> None:
    whole = compare(*both)
    half = compare(*both[:, : both.shape[1] // 2 + 1])
    looks = half.ns.size
    assert whole.ns[:looks].tolist() == half.ns.tolist()
    assert whole.e_values[:looks] == pytest.approx(half.e_values, rel=1e-9)
    assert whole.p_value <= half.p_value * (1 + 1e-9)
    if half.decided_at is not None:
        assert (whole.outcome, whole.decided_at) == (half.outcome, half.decided_at)


@pytest.mark.parametrize("compare", [paired, two_sample])
@given(both=losses)
@settings(max_examples=40, deadline=None)
def test_intervals_only_narrow(compare: statistics_sequential.Compare, both: np.ndarray) -> None:
    seen = compare(*both)
    drawn = np.isfinite(seen.lows)
    assert np.all(np.diff(seen.lows[drawn]) >= 0)
    assert np.all(np.diff(seen.highs[drawn]) <= 0)
    assert np.all(seen.lows[drawn] <= seen.highs[drawn])


def test_an_interval_that_contradicts_all_before_is_passed_over() -> None:
    d = np.concatenate([np.tile([1.0, 1.1], 10), np.tile([-9.0, -9.1], 200)])
    seen = paired(d, np.zeros_like(d))
    assert seen.outcome is Outcome.MODEL_B
    assert seen.low is not None
    assert seen.high is not None
    assert 0 < seen.low <= seen.high


@pytest.mark.parametrize("compare", [paired, two_sample])
@given(both=losses)
@settings(max_examples=40, deadline=None)
def test_swapping_the_arms_mirrors_everything(
    compare: statistics_sequential.Compare, both: np.ndarray
) -> None:
    mirror = {Outcome.MODEL_A: Outcome.MODEL_B, Outcome.MODEL_B: Outcome.MODEL_A}
    ab, ba = compare(both[0], both[1]), compare(both[1], both[0])
    assert ba.outcome is mirror.get(ab.outcome, ab.outcome)
    assert (ba.p_value, ba.decided_at, ba.needed) == (ab.p_value, ab.decided_at, ab.needed)
    assert ba.means == pytest.approx(-ab.means)
    np.testing.assert_array_equal(ba.lows, -ab.highs)


@pytest.mark.parametrize("compare", [paired, two_sample])
@given(both=losses, power=st.integers(-300, 300))
@settings(max_examples=40, deadline=None)
def test_the_unit_of_the_loss_does_not_matter(
    compare: statistics_sequential.Compare, both: np.ndarray, power: int
) -> None:
    unit = 2.0**power
    plain, scaled = compare(*both), compare(*(both * unit))
    assert scaled.outcome is plain.outcome
    assert (scaled.p_value, scaled.needed) == (plain.p_value, plain.needed)
    np.testing.assert_array_equal(scaled.highs, plain.highs * unit)


# --- arrival ----------------------------------------------------------------------------------


def test_two_sample_without_times_takes_turns() -> None:
    ranks = partial(two_sample, arrived_a=np.arange(12), arrived_b=np.arange(20))
    a, b = LOSSES[0, :12], LOSSES[1, :20]
    assert two_sample(a, b) == ranks(a, b)
    assert two_sample(a, b).ns.tolist() == [*range(1, 13), *([12] * 8)]


def test_two_sample_looks_after_each_arrival() -> None:
    when_a = np.array(["2024-01-01", "2024-01-03", "2024-01-04"], dtype="datetime64[D]")
    when_b = np.array(["2024-01-02", "2024-01-03"], dtype="datetime64[D]")
    seen = two_sample([1, 2, 3], [5, 7], arrived_a=when_a, arrived_b=when_b)
    assert seen.ns.tolist() == [1, 2, 2]
    assert seen.means.tolist() == [1 - 5, 1.5 - 6, 2 - 6]


def test_two_sample_drops_losses_that_are_missing_with_their_times() -> None:
    seen = two_sample([1, np.nan, 3], [5, 7], arrived_a=[0, 1, 9], arrived_b=[0, 1])
    assert seen.means.tolist() == [1 - 5, 1 - 6, 2 - 6]


# --- degenerate -------------------------------------------------------------------------------


@pytest.mark.parametrize("compare", [paired, two_sample])
@pytest.mark.parametrize("level", [0.0, 0.1, 1e-200, 1e200])
def test_equal_arms_are_equivalent_at_the_minimum(
    compare: statistics_sequential.Compare, level: float
) -> None:
    seen = compare(np.full(20, level), np.full(20, level))
    assert (seen.outcome, seen.decided_at) == (Outcome.EQUIVALENT, 8)
    assert (seen.low, seen.high, seen.p_value) == (0, 0, 1)


@pytest.mark.parametrize("compare", [paired, two_sample])
def test_constant_difference_is_decided_at_the_minimum(
    compare: statistics_sequential.Compare,
) -> None:
    seen = compare(np.full(20, 1.1), np.full(20, 1.0))
    assert (seen.outcome, seen.decided_at) == (Outcome.MODEL_B, 8)
    assert seen.low == pytest.approx(0.1)


@pytest.mark.parametrize("compare", [paired, two_sample])
def test_constant_difference_waits_for_the_confidence_asked_for(
    compare: statistics_sequential.Compare,
) -> None:
    a, b = np.full(20, 1.1), np.full(20, 1.0)
    ask = partial(compare, confidence_level=1 - 1e-9)
    seen = ask(a[:8], b[:8])
    assert seen.outcome is Outcome.UNDECIDED
    assert seen.needed is not None
    assert ask(a, b).outcome is Outcome.MODEL_B
    assert paired(a[:2], b[:2], min_pairs=2).needed == paired(a, b, min_pairs=2).decided_at - 2


def test_differences_of_rounding_are_none() -> None:
    seen = paired(np.full(10, 0.1 + 0.2), np.full(10, 0.3), margin=0)
    assert seen.outcome is Outcome.EQUIVALENT


@pytest.mark.parametrize("compare", [paired, two_sample])
def test_no_windows_say_nothing(compare: statistics_sequential.Compare) -> None:
    seen = compare([], [])
    assert (seen.outcome, seen.n, seen.p_value, seen.e_value) == (Outcome.UNDECIDED, 0, 1, 1)
    assert (seen.mean_difference, seen.low, seen.phi, seen.needed) == (None, None, None, None)
    assert seen.ns.size == seen.lows.size == 0


def test_an_empty_arm_says_nothing() -> None:
    assert two_sample([], LOSSES[0]).n == 0


@pytest.mark.parametrize("compare", [paired, two_sample])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_few_windows_are_undecided_with_the_number_needed(
    compare: statistics_sequential.Compare, n: int
) -> None:
    seen = compare(np.full(n, 5.0), np.full(n, 1.0))
    assert (seen.outcome, seen.needed, seen.e_value) == (Outcome.UNDECIDED, 8 - n, 1)
    assert (seen.mean_difference, seen.low, seen.high) == (4, None, None)


def test_pairs_with_a_missing_loss_are_dropped() -> None:
    a, b = BETTER_B.copy()
    a[3], b[7], a[9] = np.nan, np.inf, np.nan
    left = np.isfinite(a) & np.isfinite(b)
    assert paired(a, b) == paired(a[left], b[left])
    assert paired(a, b).n == 37


def test_evidence_stays_finite() -> None:
    seen = paired(np.full(400, 2e200), np.full(400, 1e200))
    assert np.isfinite(seen.e_values).all()
    assert seen.p_value > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paired([1.0], [1.0, 2.0]), "equal lengths"),
        (lambda: paired([[1.0]], [[1.0]]), "one-dimensional"),
        (lambda: paired([1.0], [1.0], margin=-1), "margin"),
        (lambda: paired([1.0], [1.0], margin=np.nan), "margin"),
        (lambda: paired([1.0], [1.0], confidence_level=1.0), "confidence_level"),
        (lambda: two_sample([1.0], [1.0], min_pairs=1), "min_pairs"),
        (lambda: two_sample([1.0], [1.0], arrived_a=[0]), "both arms"),
        (lambda: two_sample([1.0], [1.0], arrived_a=[0], arrived_b=[0, 1]), "one for each"),
        (lambda: two_sample([1, 2], [1], arrived_a=[1, 0], arrived_b=[0]), "ascending"),
        (lambda: expected_pairs(np.nan), "effect"),
        (lambda: expected_pairs(1.0, phi=1.0), "phi"),
        (lambda: expected_pairs(1.0, confidence_level=0.0), "confidence_level"),
    ],
)
def test_unusable_input_is_refused_in_words(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=words):
        call()


# --- planning and simulations -----------------------------------------------------------------


def test_expected_pairs_grow_with_confidence_autocorrelation_and_smaller_effects() -> None:
    assert expected_pairs(100.0) == 8
    assert expected_pairs(-1.0) == expected_pairs(1.0)
    assert expected_pairs(2.0) < expected_pairs(1.0) < expected_pairs(0.5)
    assert expected_pairs(1.0) < expected_pairs(1.0, confidence_level=0.99)
    assert expected_pairs(1.0) < expected_pairs(1.0, phi=0.5)
    assert expected_pairs(0.0) == 10_000


def test_simulated_figures_keep_their_targets() -> None:
    rows = statistics_sequential.rows(full=False)
    assert [row for row in rows if not row.met] == []
    assert len(rows) == 11


def test_evidence_is_frozen() -> None:
    assert isinstance(paired([], []), Evidence)
    with pytest.raises(AttributeError):
        paired([], []).n = 3  # type: ignore[misc]
