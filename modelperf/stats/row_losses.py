"""Which of two models is better, from the losses of single rows, looked at as often as one likes.

A fold over the rows in order. It looks when their number reaches 50, 100, 150 and so on, beyond
2,500 at every fiftieth more: the looks, and so the decision, do not depend on how rows came in
batches, and a million rows have some 350 of them.
"""

from dataclasses import replace
from math import exp, log

import numpy as np
from numpy.typing import ArrayLike

from modelperf.stats.confidence_sequence import first_decisive, half_width, log_e
from modelperf.stats.evidence import LARGEST_LOG_E, Evidence, Outcome
from modelperf.stats.row_fold import LOOK_EVERY, Form, Look, RowFold, RowRules, begin, finite
from modelperf.stats.row_sums import LARGEST_LOSS, Floats, RowSums
from modelperf.stats.sequential import DEFAULT_MARGIN, differences

RARE = 30  # differing rows, below which their variance is not believed


def observe(
    fold: RowFold,
    loss_a: ArrayLike,
    loss_b: ArrayLike,
    *,
    rules: RowRules,
    counts: bool = True,
) -> tuple[RowFold, list[Look]]:
    """Take further rows, in order, and look wherever their number asks for it.

    With n pairs, mean difference m and long-run variance v (`RowSums.long_run_variance`), the
    interval is m +- `half_width`, and E its inversion. Arms are compared by the difference of their
    means, whose variance is the sum of theirs, at n the rows of the smaller one. While fewer than
    30 rows differ v is at least the square of the largest loss over n: models that nearly always
    agree have shown little of how far apart they can be.

    Parameters
    ----------
    fold : RowFold
        The state so far.
    loss_a, loss_b : array_like, shape (rows,)
        Losses in one unit, lower is better, at most 1e100 in size. Of pairs both are finite; of
        arms, the one of the arm a row belongs to, and the other is NaN.
    rules : RowRules
        The same at every call of one test.
    counts : bool
        Whether these looks may decide anything: not before a test's minimum duration.

    Returns
    -------
    RowFold
        The state with these rows. The first decision reached stays.
    list of Look
        Those that these rows gave rise to, in order.

    Raises
    ------
    ValueError
        Losses that are not as they have to be, or rules out of range.
    """
    _check(rules)
    a, b = _rows(fold.form, loss_a, loss_b)
    looks: list[Look] = []
    begun = 0
    while begun < a.size:
        end = min(begun + fold.next_look - fold.rows, a.size)
        fold = _with_rows(fold, a[begun:end], b[begun:end])
        begun = end
        if fold.rows == fold.next_look:
            fold = _look(fold, rules, counts=counts)
            step = max(LOOK_EVERY, fold.rows // LOOK_EVERY)
            fold = replace(fold, next_look=fold.rows + step)
            looks += [fold.last] if fold.last else []
    return fold, looks


def look_at_end(
    fold: RowFold, *, rules: RowRules, counts: bool = True
) -> tuple[RowFold, list[Look]]:
    """Look once more where rows came after the last look; that is for the end of a test alone."""
    if fold.n == 0 or (fold.last is not None and fold.last.rows == fold.rows):
        return fold, []
    fold = _look(fold, rules, counts=counts)
    return fold, [fold.last] if fold.last else []


def evidence(fold: RowFold, looks: list[Look], *, rules: RowRules) -> Evidence:
    """Return what the looks so far say, in the form that windows have too.

    Without a look yet all rows are undecided evidence of nothing. `needed` counts further pairs, or
    rows of the smaller arm.
    """
    last = fold.last
    p_value = min(1.0, exp(-fold.most_log_e))
    decided = next((look for look in looks if look.rows == fold.decided_at), last)
    return Evidence(
        outcome=fold.outcome,
        n=last.n if last else fold.n,
        mean_difference=last.mean_difference if last else None,
        low=last.low if last else None,
        high=last.high if last else None,
        e_value=last.e_value if last else 1.0,
        p_value=p_value,
        confidence=1 - p_value,
        margin=decided.margin if decided else 0.0,
        phi=None,
        needed=_needed(fold, rules),
        decided_at=fold.decided_at,
        ns=np.array([look.n for look in looks], dtype=np.int64),
        e_values=np.array([look.e_value for look in looks]),
        lows=np.array([look.low for look in looks], dtype=np.float64),
        highs=np.array([look.high for look in looks], dtype=np.float64),
        means=np.array([look.mean_difference for look in looks]),
    )


def paired_rows(loss_a: ArrayLike, loss_b: ArrayLike, *, rules: RowRules | None = None) -> Evidence:
    """Compare two models on the same rows, all at hand: `observe` and `evidence` in one.

    Parameters
    ----------
    loss_a, loss_b : array_like, shape (rows,)
        As in `observe`.
    rules : RowRules, optional

    Returns
    -------
    Evidence
        `decided_at` is the number of rows at the look that decided.

    Raises
    ------
    ValueError
        As in `observe`.
    """
    return _at_once("pairs", loss_a, loss_b, rules or RowRules())


def two_sample_rows(
    loss_a: ArrayLike, loss_b: ArrayLike, *, rules: RowRules | None = None
) -> Evidence:
    """Compare two models on rows of which each went to one of them, all at hand, in their order.

    Parameters
    ----------
    loss_a, loss_b : array_like, shape (rows,)
        As in `observe`: NaN where the row went to the other arm.
    rules : RowRules, optional

    Returns
    -------
    Evidence
        `n` and `needed` count rows of the smaller arm, `decided_at` those of both.

    Raises
    ------
    ValueError
        As in `observe`.
    """
    return _at_once("arms", loss_a, loss_b, rules or RowRules())


def _at_once(form: Form, a: ArrayLike, b: ArrayLike, rules: RowRules) -> Evidence:
    fold, looks = observe(begin(form), a, b, rules=rules)
    return evidence(fold, looks, rules=rules)


def _check(rules: RowRules) -> None:
    if not 0 < rules.confidence_level < 1:
        raise ValueError("confidence_level must lie between 0 and 1")
    if rules.margin is not None and not rules.margin >= 0:
        raise ValueError("margin must not be negative")
    if rules.min_rows < 2:
        raise ValueError("min_rows must be at least 2")


def _rows(form: Form, loss_a: ArrayLike, loss_b: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(loss_a, dtype=np.float64), np.asarray(loss_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError("losses must be two columns of equal length")
    given_a, given_b = np.abs(a) <= LARGEST_LOSS, np.abs(b) <= LARGEST_LOSS
    if form == "pairs" and not (given_a & given_b).all():
        raise ValueError(f"losses of pairs must be finite and at most {LARGEST_LOSS:g} in size")
    if form == "arms" and not ((given_a & np.isnan(b)) | (given_b & np.isnan(a))).all():
        raise ValueError("a row of an arm must have one finite loss, and NaN for the other arm")
    return a, b


def _with_rows(fold: RowFold, a: Floats, b: Floats) -> RowFold:
    arm_a, arm_b = a[~np.isnan(a)], b[~np.isnan(b)]
    pairs = fold.form == "pairs"
    return replace(
        fold,
        a=fold.a.followed_by(differences(a, b)) if pairs else _arm(fold.a, arm_a),
        b=fold.b if pairs else _arm(fold.b, arm_b),
        size_a=fold.size_a + float(np.abs(arm_a).sum()),
        size_b=fold.size_b + float(np.abs(arm_b).sum()),
        largest=max(fold.largest, np.abs(arm_a).max(initial=0.0), np.abs(arm_b).max(initial=0.0)),
    )


def _arm(sums: RowSums, losses: Floats) -> RowSums:
    """Add losses to those of an arm, of which the very first is the origin."""
    if not sums.n and losses.size:
        sums = replace(sums, origin=float(losses[0]))
    return sums.followed_by(losses)


def _look(fold: RowFold, rules: RowRules, *, counts: bool) -> RowFold:
    counts = counts and fold.n >= rules.min_rows
    mean, variance, margin = _mean(fold), _variance(fold), _margin(fold, rules)
    log_ratio, low, high = 0.0, fold.low, fold.high
    if counts:
        m, v, n = np.array([mean]), np.array([variance]), np.array([float(fold.n)])
        log_ratio = float(np.minimum(log_e(m, v, n, rules.alpha), LARGEST_LOG_E)[0])
        low, high = _intersection(fold, mean, float(half_width(v, n, rules.alpha)[0]))
    fold = replace(fold, low=low, high=high, most_log_e=max(fold.most_log_e, log_ratio))
    look = Look(
        rows=fold.rows,
        n=fold.n,
        mean_difference=mean,
        variance=variance,
        margin=margin,
        low=finite(low),
        high=finite(high),
        e_value=exp(max(log_ratio, -LARGEST_LOG_E)),
        p_value=min(1.0, exp(-fold.most_log_e)),
    )
    fold = replace(fold, last=look)
    if fold.outcome is not Outcome.UNDECIDED or not counts:
        return fold
    outcome = _decision(look, is_beyond=log_ratio >= -log(rules.alpha))
    is_made = outcome is not Outcome.UNDECIDED
    return replace(fold, outcome=outcome, decided_at=fold.rows if is_made else None)


def _decision(look: Look, *, is_beyond: bool) -> Outcome:
    """Return equivalence before a winner: what lies inside the margin does not matter."""
    low, high = look.low, look.high
    if low is not None and high is not None and -look.margin <= low and high <= look.margin:
        return Outcome.EQUIVALENT
    if not is_beyond:
        return Outcome.UNDECIDED
    return Outcome.MODEL_B if look.mean_difference > 0 else Outcome.MODEL_A


def _mean(fold: RowFold) -> float:
    if fold.form == "pairs":
        return fold.a.mean
    if not fold.n:
        return 0.0
    return float(differences(np.array([fold.a.mean]), np.array([fold.b.mean]))[0])


def _variance(fold: RowFold) -> float:
    """Return the long-run variance of one pair, or of one row of either arm."""
    if not fold.n:
        return 0.0
    if fold.form == "pairs":
        return _believed(fold.a, fold.largest)
    arms = (_believed(arm, fold.largest) / arm.n for arm in (fold.a, fold.b))
    return sum(arms) * fold.n


def _believed(sums: RowSums, largest: float) -> float:
    rare = largest**2 / sums.n if sums.differing < RARE else 0.0
    return max(sums.long_run_variance(), rare)


def _margin(fold: RowFold, rules: RowRules) -> float:
    if rules.margin is not None:
        return rules.margin
    rows_b = fold.a.n if fold.form == "pairs" else fold.b.n
    levels = fold.size_a / max(fold.a.n, 1), fold.size_b / max(rows_b, 1)
    return DEFAULT_MARGIN * sum(levels) / 2


def _intersection(fold: RowFold, mean: float, half: float) -> tuple[float, float]:
    """Intersect with the intervals so far; one that would leave nothing is passed over."""
    low, high = max(fold.low, mean - half), min(fold.high, mean + half)
    return (low, high) if low <= high else (fold.low, fold.high)


def _needed(fold: RowFold, rules: RowRules) -> int | None:
    last = fold.last
    if fold.outcome is not Outcome.UNDECIDED:
        return None
    if last is None or fold.n < rules.min_rows:
        return max(rules.min_rows - fold.n, 1)
    total = first_decisive(
        last.mean_difference,
        last.variance,
        margin=last.margin,
        alpha=rules.alpha,
        after=fold.n,
    )
    return None if total is None else total - fold.n
