"""Row losses: independent computations, one state however rows are cut, and what is promised."""

import json
from dataclasses import replace
from math import inf, log, sqrt

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks import statistics_row_losses
from modelperf.stats.confidence_sequence import (
    first_decisive,
    half_width,
    log_e,
    mixing_variance,
)
from modelperf.stats.evidence import Outcome
from modelperf.stats.row_fold import Look, RowFold, RowRules, begin, finite
from modelperf.stats.row_losses import (
    evidence,
    look_at_end,
    observe,
    paired_rows,
    two_sample_rows,
)
from modelperf.stats.row_sums import LARGEST_LAG, RowSums, newey_west_lag

RNG = np.random.default_rng(30)
SHARED = RNG.normal(0, 1, 1600)
LOSS_A = (SHARED + 0.4 * RNG.normal(0, 1, 1600)) ** 2
LOSS_B = SHARED**2
EQUAL_A, EQUAL_B = (
    (SHARED + 0.4 * np.random.default_rng(seed).normal(0, 1, 1600)) ** 2 for seed in (31, 32)
)
RULES = RowRules()

values = st.integers(2, 300).flatmap(
    lambda n: arrays(np.float64, n, elements=st.floats(-1000, 1000, width=32))
)
cuts = st.lists(st.integers(1, 90), max_size=20)


def slow_half_width(d: np.ndarray, alpha: float) -> float:
    """One look, written from the paper's formula and statsmodels' HAC variance."""
    n = d.size
    v = n * hac_of_mean(d)
    y = d - d.mean()
    r1 = (y[1:] @ y[:-1]) / (y @ y)
    v = max(v, y @ y / n * (1 + max(r1, 0)) / (1 - max(r1, 0)))
    rho2 = (-2 * log(alpha) + log(-2 * log(alpha) + 1)) / 500
    return sqrt(v * 2 * (n * rho2 + 1) * log(sqrt(n * rho2 + 1) / alpha) / (n**2 * rho2))


def hac_of_mean(x: np.ndarray) -> float:
    lag = int(np.floor(4 * (x.size / 100) ** (2 / 9)))
    fit = sm.OLS(x, np.ones_like(x)).fit()
    robust = fit.get_robustcov_results("HAC", maxlags=lag, use_correction=False)
    return float(robust.cov_params()[0, 0])


def fed(form: str, a: np.ndarray, b: np.ndarray, sizes: list[int]) -> tuple[RowFold, list[Look]]:
    """Fold rows in batches of the sizes, the state going through JSON after each."""
    assert form in ("pairs", "arms")
    fold, looks = begin("pairs" if form == "pairs" else "arms"), []
    for part in np.split(np.arange(a.size), np.cumsum(sizes)[: max(len(sizes) - 1, 0)]):
        fold, seen = observe(fold, a[part], b[part], rules=RULES)
        looks += seen
        fold = RowFold.of_document(json.loads(json.dumps(fold.document())))
    return fold, looks


def in_arms(a: np.ndarray, b: np.ndarray, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    to_a = np.random.default_rng(33).random(a.size) < share
    return np.where(to_a, a, np.nan), np.where(to_a, np.nan, b)


# --- sums -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 64, 65, 100, 1500])
@pytest.mark.parametrize("level", [0.0, 1e6])
def test_newey_west_agrees_with_statsmodels(n: int, level: float) -> None:
    x = statistics_row_losses.autoregressive(34, (1, n), 0.6)[0] + level
    sums = replace(RowSums(), origin=float(x[0])).followed_by(x)
    assert sums.newey_west() / n == pytest.approx(hac_of_mean(x - level), rel=1e-7)
    assert sums.mean == pytest.approx(x.mean(), rel=1e-12)


@given(values, cuts)
def test_sums_in_batches_equal_the_direct_ones(x: np.ndarray, sizes: list[int]) -> None:
    sums = RowSums()
    for part in np.split(x, np.cumsum(sizes)):
        sums = sums.followed_by(part)
    y, scale = x - x.mean(), max(1.0, float(np.abs(x).max()) ** 2)
    lag = min(LARGEST_LAG, x.size - 1)
    direct = [y[shift:] @ y[: x.size - shift] / x.size for shift in range(lag + 1)]
    assert sums.n == x.size
    assert sums.autocovariances(lag) == pytest.approx(direct, rel=1e-9, abs=1e-9 * scale)


def test_long_run_variance_is_the_larger_of_newey_west_and_a_first_order_one() -> None:
    slow = statistics_row_losses.autoregressive(35, (1, 4000), 0.7)[0]
    seen = RowSums().followed_by(slow)
    # an AR(1) of .7 and unit variance has a long-run variance of 1.7/.3
    assert seen.newey_west() < 4.9 < seen.long_run_variance() == pytest.approx(5.67, rel=0.2)
    zigzag = RowSums().followed_by(np.tile([1.0, -1.0], 200))
    assert 0 <= zigzag.newey_west() < 0.3
    assert zigzag.long_run_variance() == pytest.approx(1)
    assert RowSums().followed_by(np.ones(1)).long_run_variance() == 0
    assert RowSums().followed_by(np.zeros(9)).long_run_variance() == 0


@pytest.mark.parametrize(("n", "lag"), [(2, 1), (100, 4), (1500, 7), (1_000_000, 30), (10**9, 64)])
def test_lag_follows_its_rule(n: int, lag: int) -> None:
    assert newey_west_lag(n) == lag


def test_sums_stay_small_and_come_back_from_json() -> None:
    sums = RowSums().followed_by(SHARED)
    again = RowSums.of_document(json.loads(json.dumps(sums.document())))
    assert (again.head.size, again.tail.size, again.products.size) == (64, 64, 65)
    assert again.followed_by(SHARED).newey_west() == sums.followed_by(SHARED).newey_west()
    assert sums.followed_by(np.zeros(0)) is sums


# --- confidence sequence ----------------------------------------------------------------------


def test_half_width_at_a_hand_computed_value() -> None:
    # alpha .05: rho² = (5.991465 + log 6.991465)/500 = .01587225; at n = 500
    # sqrt(2 * 8.936125 * log(sqrt(8.936125)/.05)/(500 * 7.936125)) = .1357
    assert mixing_variance(0.05) == pytest.approx(0.01587225, rel=1e-5)
    wide = half_width(np.array([1.0, 4.0]), np.array([500.0, 500.0]), 0.05)
    assert wide == pytest.approx([0.1357, 0.2714], rel=1e-3)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_evidence_reaches_one_over_alpha_where_the_interval_leaves_zero(alpha: float) -> None:
    v, n = np.array([0.5, 2.0, 3.0]), np.array([100.0, 700.0, 10.0])
    assert log_e(half_width(v, n, alpha), v, n, alpha) == pytest.approx(-log(alpha), rel=1e-12)


def test_evidence_is_a_mixture_of_likelihood_ratios() -> None:
    # the mean of a normal likelihood ratio over effects from N(0, v rho²), by quadrature
    n, v, mean, rho2 = 250.0, 2.0, 0.2, mixing_variance(0.05)
    effects = np.linspace(-4, 4, 20_001) * sqrt(rho2 * v) * 2
    weights = np.exp(-(effects**2) / (2 * rho2 * v)) / sqrt(2 * np.pi * rho2 * v)
    ratio = np.exp(n / v * (effects * mean - effects**2 / 2))
    mixture = np.trapezoid(weights * ratio, effects)
    found = log_e(np.array([mean]), np.array([v]), np.array([n]), 0.05)
    assert np.exp(found[0]) == pytest.approx(mixture, rel=1e-6)


def test_without_variance_any_difference_is_certain() -> None:
    still = np.zeros(2)
    found = log_e(np.array([0.0, 1e-9]), still, np.full(2, 100.0), 0.05)
    assert found[0] < 0
    assert found[1] == inf


def test_first_decisive_is_where_the_interval_ends_at_the_mean() -> None:
    n = first_decisive(0.1, 1.0, margin=0.0, alpha=0.05, after=100)
    assert n is not None
    wide = half_width(np.ones(2), np.array([n, 0.98 * n]), 0.05)
    assert wide[0] < 0.1 < wide[1]
    assert first_decisive(0.0, 1.0, margin=0.0, alpha=0.05, after=100) is None
    inside = first_decisive(0.0, 1.0, margin=0.1, alpha=0.05, after=100)
    assert inside is not None
    assert abs(inside - n) <= 0.02 * n


# --- the fold ---------------------------------------------------------------------------------


def test_pairs_agree_with_one_look_at_a_time() -> None:
    d = LOSS_A[:1000] - LOSS_B[:1000]
    seen = paired_rows(LOSS_A[:1000], LOSS_B[:1000], rules=RowRules(margin=0.0))
    looks = range(50, 1001, 50)
    assert seen.ns.tolist() == list(looks)
    slow = [(d[:n].mean(), slow_half_width(d[:n], 0.05)) for n in looks if n >= 100]
    lows = np.maximum.accumulate([mean - half for mean, half in slow])
    assert seen.lows[1:] == pytest.approx(lows, rel=1e-9)
    assert np.isnan(seen.lows[0])
    assert seen.e_values[0] == 1
    first = next(n for n, (mean, half) in zip(looks[1:], slow, strict=True) if abs(mean) > half)
    assert (seen.outcome, seen.decided_at) == (Outcome.MODEL_B, first)
    assert seen.p_value == pytest.approx(1 / seen.e_values.max(), rel=1e-9)
    assert seen.confidence == 1 - seen.p_value
    assert seen.mean_difference == pytest.approx(d.mean())


def test_arms_agree_with_the_variances_of_their_means() -> None:
    a, b = in_arms(LOSS_A[:800], LOSS_B[:800], 0.3)
    fold, looks = observe(begin("arms"), a, b, rules=RowRules(margin=0.0))
    one, other = a[~np.isnan(a)], b[~np.isnan(b)]
    n = min(one.size, other.size)
    variance = n * (slow_variance(one) + slow_variance(other))
    assert looks[-1].n == fold.n == n == one.size
    assert looks[-1].rows == fold.rows == 800
    assert looks[-1].variance == pytest.approx(variance, rel=1e-9)
    assert looks[-1].mean_difference == pytest.approx(one.mean() - other.mean())


def slow_variance(x: np.ndarray) -> float:
    y = x - x.mean()
    r1 = max((y[1:] @ y[:-1]) / (y @ y), 0.0)
    return max(hac_of_mean(x), float(y @ y / x.size**2 * (1 + r1) / (1 - r1)))


def seen_of(looks: list[Look]) -> np.ndarray:
    return np.array([(look.low, look.high, look.p_value) for look in looks], dtype=np.float64)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.sampled_from(["pairs", "arms"]))
def test_batches_change_nothing(sizes: list[int], form: str) -> None:
    a, b = (LOSS_A, LOSS_B) if form == "pairs" else in_arms(EQUAL_A, EQUAL_B)
    whole, looks = fed(form, a, b, [a.size])
    parts, more = fed(form, a, b, [*sizes, a.size])
    assert [look.rows for look in more] == [look.rows for look in looks]
    assert seen_of(more) == pytest.approx(seen_of(looks), rel=1e-9, nan_ok=True)
    assert (parts.outcome, parts.decided_at) == (whole.outcome, whole.decided_at)


def test_a_million_rows_have_few_looks_and_a_small_state() -> None:
    n = 1_000_000
    fold, looks = observe(begin("pairs"), np.resize(EQUAL_A, n), np.resize(EQUAL_B, n), rules=RULES)
    assert [look.rows for look in looks[:51]] == [*range(50, 2551, 50)]
    assert looks[52].rows - looks[51].rows == 52
    assert len(looks) == 353
    assert len(json.dumps(fold.document())) < 8000


@pytest.mark.parametrize("form", ["pairs", "arms"])
@pytest.mark.parametrize("factor", [1e-6, 1024.0, 1e9])
def test_the_unit_of_the_loss_changes_nothing(form: str, factor: float) -> None:
    a, b = (LOSS_A, LOSS_B) if form == "pairs" else in_arms(LOSS_A * 3, LOSS_B)
    one, _ = fed(form, a, b, [a.size])
    other, _ = fed(form, a * factor, b * factor, [a.size])
    assert one.outcome is Outcome.MODEL_B
    assert (one.outcome, one.decided_at) == (other.outcome, other.decided_at)
    assert one.last is not None
    assert other.last is not None
    assert one.last.p_value == pytest.approx(other.last.p_value, rel=1e-6)


def test_arms_are_compared_whatever_their_common_level() -> None:
    a, b = in_arms(LOSS_A * 3, LOSS_B)
    one, other = two_sample_rows(a, b), two_sample_rows(a + 1e6, b + 1e6)
    assert other.mean_difference == pytest.approx(one.mean_difference, rel=1e-6)
    assert other.e_values == pytest.approx(one.e_values, rel=1e-4)


def test_exchanging_the_arms_mirrors_everything() -> None:
    one = paired_rows(LOSS_A, LOSS_B)
    other = paired_rows(LOSS_B, LOSS_A)
    assert (one.outcome, other.outcome) == (Outcome.MODEL_B, Outcome.MODEL_A)
    assert one.decided_at == other.decided_at
    assert one.lows == pytest.approx(-other.highs, nan_ok=True)


def test_a_larger_difference_is_never_less_evident() -> None:
    shifts = np.linspace(0, 1, 6)
    found = [paired_rows(EQUAL_A + shift, EQUAL_B, rules=RowRules(margin=0.0)) for shift in shifts]
    order = [one.decided_at or inf for one in found]
    assert order == sorted(order, reverse=True)


def test_a_decision_stays_whatever_follows() -> None:
    rules = RowRules(margin=0.0)
    fold, _ = observe(begin("pairs"), LOSS_A, LOSS_B, rules=rules)
    after, looks = observe(fold, LOSS_B * 0, LOSS_A * 9, rules=rules)
    assert fold.outcome is after.outcome is Outcome.MODEL_B
    assert after.decided_at == fold.decided_at
    assert looks[-1].p_value <= (fold.last.p_value if fold.last else 0)
    assert looks[-1].low is not None
    assert looks[-1].low > 0


def test_looks_before_the_minimum_duration_decide_nothing() -> None:
    early, looks = observe(begin("pairs"), LOSS_A, LOSS_B, rules=RULES, counts=False)
    assert early.outcome is Outcome.UNDECIDED
    assert {look.e_value for look in looks} == {1.0}
    assert {look.low for look in looks} == {None}
    late, more = observe(early, LOSS_A[:100], LOSS_B[:100], rules=RULES)
    assert (late.outcome, late.decided_at) == (Outcome.MODEL_B, more[0].rows)


def test_minimum_of_rows_holds_for_either_arm() -> None:
    a, b = LOSS_A[:400] + 100, LOSS_B[:400]
    of_a = np.arange(400) % 4 == 0
    one, other = np.where(of_a, a, np.nan), np.where(of_a, np.nan, b)
    assert two_sample_rows(one[:350], other[:350]).outcome is Outcome.UNDECIDED
    assert two_sample_rows(one[:350], other[:350]).needed == 100 - 88
    assert two_sample_rows(one, other).outcome is Outcome.MODEL_B
    assert paired_rows(a[:99], b[:99]).outcome is Outcome.UNDECIDED
    assert paired_rows(a[:100], b[:100]).outcome is Outcome.MODEL_B
    few = RowRules(min_rows=50)
    assert paired_rows(a[:50], b[:50], rules=few).decided_at == 50


def test_the_last_look_takes_the_rows_after_the_others() -> None:
    fold, looks = observe(begin("pairs"), LOSS_A[:130], LOSS_B[:130], rules=RULES)
    assert [look.rows for look in looks] == [50, 100]
    ended, last = look_at_end(fold, rules=RULES)
    assert [look.rows for look in last] == [130]
    assert look_at_end(ended, rules=RULES) == (ended, [])
    assert look_at_end(begin("pairs"), rules=RULES)[1] == []
    unread, last = look_at_end(fold, rules=RULES, counts=False)
    assert (unread.most_log_e, last[0].e_value) == (fold.most_log_e, 1.0)


# --- equivalence and degenerate cases ---------------------------------------------------------


def test_equal_models_are_equivalent_within_a_margin_and_never_winners() -> None:
    seen = paired_rows(EQUAL_A, EQUAL_B, rules=RowRules(margin=0.3))
    assert seen.outcome is Outcome.EQUIVALENT
    assert seen.margin == 0.3
    assert seen.low is not None
    assert seen.high is not None
    assert -0.3 <= seen.low <= seen.high <= 0.3
    assert paired_rows(EQUAL_A, EQUAL_B).margin == pytest.approx(
        0.01 * (EQUAL_A.mean() + EQUAL_B.mean()) / 2
    )


def test_a_difference_inside_the_margin_is_equivalent_however_certain() -> None:
    a = LOSS_B + 1e-4
    seen = paired_rows(a, LOSS_B)
    assert (seen.outcome, seen.decided_at) == (Outcome.EQUIVALENT, 100)
    assert paired_rows(a, LOSS_B, rules=RowRules(margin=0.0)).outcome is Outcome.MODEL_B


def test_a_constant_difference_is_decided_at_the_first_look_that_counts() -> None:
    seen = paired_rows(np.full(120, 2.0), np.full(120, 1.0))
    assert (seen.outcome, seen.decided_at, seen.low) == (Outcome.MODEL_B, 100, 1.0)
    assert np.isfinite(seen.e_values).all()


def test_models_that_agree_on_few_rows_are_not_equivalent_yet() -> None:
    wrong = np.zeros(100_000)
    wrong[::10] = 1.0
    few = paired_rows(wrong[:500], wrong[:500])
    assert few.outcome is Outcome.UNDECIDED
    assert few.needed is not None
    many = paired_rows(wrong, wrong)
    assert many.outcome is Outcome.EQUIVALENT
    assert many.decided_at is not None
    # a difference of 1 in one unseen row: half-width 4 to 5 /n against a margin of .001
    assert 3000 < many.decided_at < 8000


def test_differences_of_rounding_are_none() -> None:
    a = np.full(20_000, 0.1 + 0.2)
    assert paired_rows(a, np.full(20_000, 0.3)).mean_difference == 0
    assert paired_rows(a, np.full(20_000, 0.3)).outcome is Outcome.EQUIVALENT


def test_no_rows_and_an_empty_arm_say_nothing() -> None:
    nothing = paired_rows([], [])
    assert (nothing.outcome, nothing.n, nothing.p_value, nothing.needed) == (
        Outcome.UNDECIDED,
        0,
        1.0,
        100,
    )
    assert nothing.mean_difference is None
    lonely = two_sample_rows(LOSS_A[:200], np.full(200, np.nan))
    assert (lonely.outcome, lonely.n, lonely.e_value) == (Outcome.UNDECIDED, 0, 1.0)


def test_needed_is_about_what_it_takes() -> None:
    looks = [n for n in range(100, 1000, 50) if paired_rows(LOSS_A[:n], LOSS_B[:n]).needed]
    assert looks
    seen = paired_rows(LOSS_A[: looks[0]], LOSS_B[: looks[0]])
    decided = paired_rows(LOSS_A, LOSS_B)
    assert seen.needed is not None
    assert decided.decided_at is not None
    assert decided.needed is None
    assert 0.2 < (looks[0] + seen.needed) / decided.decided_at < 5


def test_evidence_without_its_looks_tells_the_same_end() -> None:
    fold, looks = observe(begin("pairs"), LOSS_A, LOSS_B, rules=RULES)
    short, whole = evidence(fold, [], rules=RULES), evidence(fold, looks, rules=RULES)
    assert (short.outcome, short.n, short.p_value) == (whole.outcome, whole.n, whole.p_value)
    assert short.ns.size == 0
    assert finite(inf) is None
    assert finite(1.5) == 1.5


@pytest.mark.parametrize(
    ("a", "b", "form", "words"),
    [
        ([1.0], [1.0, 2.0], "pairs", "equal length"),
        ([[1.0]], [[1.0]], "pairs", "equal length"),
        ([np.nan], [1.0], "pairs", "finite"),
        ([1e101], [1.0], "pairs", "finite"),
        ([1.0], [1.0], "arms", "NaN for the other"),
        ([np.nan], [np.nan], "arms", "NaN for the other"),
        ([np.nan], [np.inf], "arms", "NaN for the other"),
    ],
)
def test_unusable_losses_are_refused_in_words(a: list, b: list, form: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        (paired_rows if form == "pairs" else two_sample_rows)(a, b)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (RowRules(confidence_level=1.0), "confidence_level"),
        (RowRules(margin=-1.0), "margin"),
        (RowRules(margin=np.nan), "margin"),
        (RowRules(min_rows=1), "min_rows"),
    ],
)
def test_unusable_rules_are_refused_in_words(rules: RowRules, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        paired_rows([], [], rules=rules)


# --- simulations ------------------------------------------------------------------------------


def test_simulated_figures_keep_their_targets() -> None:
    rows = statistics_row_losses.rows(full=False)
    assert [row for row in rows if not row.met] == []
    assert len(rows) == 18
