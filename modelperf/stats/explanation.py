"""How a verdict came about: the numbers behind it, and the verdict computed once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.stats import warm_start
from modelperf.stats.change_point import REACH, standardise
from modelperf.stats.fold import judge
from modelperf.stats.orientation import orient
from modelperf.stats.results import FoldState, MetricKind, Rules, Verdict
from modelperf.stats.season import judged_values
from modelperf.stats.tails import z_from_t
from modelperf.stats.track import noise_before

Floats = NDArray[np.float64]
_TINY = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The numbers behind a verdict, one entry for each evaluation it was given.

    Parameters
    ----------
    verdict : Verdict
        Computed once more from the same inputs.
    is_used : ndarray of bool, shape (evaluations,)
        Whether an evaluation stands in the judged window: not missing, not part of a closed
        incident, and among the newest ``window``.
    oriented : ndarray, shape (evaluations,)
        The value on the scale where higher is better; NaN where not used.
    weight : ndarray, shape (evaluations,)
        What its sample count makes it count, mean 1; NaN where not used.
    winsorised : ndarray, shape (evaluations,)
        ``sqrt(weight)`` times its clipped deviation from the weighted mean; NaN where not used.
    is_clipped : ndarray of bool, shape (evaluations,)
        Whether winsorising moved it.
    statistic : ndarray, shape (evaluations,)
        ``Z`` of the split *before* each evaluation, positive where what follows is worse; NaN
        where no split is allowed.
    """

    verdict: Verdict
    is_used: NDArray[np.bool_]
    oriented: Floats
    weight: Floats
    winsorised: Floats
    is_clipped: NDArray[np.bool_]
    statistic: Floats


def recompute(
    values: Sequence[float | None],
    sample_counts: Sequence[float],
    *,
    rules: Rules,
    fold: FoldState,
    first_position: int,
    times_days: Sequence[float] = (),
) -> Verdict:
    """Return the verdict that follows from stored inputs.

    Parameters
    ----------
    values : sequence of float or None, length (evaluations,)
        The metric in its own unit, in order; None where missing.
    sample_counts : sequence of float, same length
        Rows behind each value.
    rules : Rules
        The rules (`rules_from_document`).
    fold : FoldState
        The state before the last evaluation.
    first_position : int
        Absolute position of the first value.
    times_days : sequence of float, length (evaluations,)
        Ends of the windows in days; needed where the rules name a season.

    Returns
    -------
    Verdict
        Equal, field by field, to the one that was stored.

    Raises
    ------
    ValueError
        If the values do not reach from what the state needs to what it has seen.
    """
    y = judged_values(_numbers(values), sample_counts, times_days, rules)
    return judge(y, sample_counts, rules=rules, state=fold, offset=first_position).verdict


def explain(
    values: Sequence[float | None],
    sample_counts: Sequence[float],
    *,
    rules: Rules,
    fold: FoldState,
    first_position: int,
    times_days: Sequence[float] = (),
) -> Explanation:
    """Walk through the numbers behind a verdict; arguments and errors as in `recompute`."""
    counts = np.asarray(sample_counts, float)
    y = judged_values(_numbers(values), counts, times_days, rules)
    judgement = judge(y, counts, rules=rules, state=fold, offset=first_position)
    used = np.flatnonzero(_retained(y, first_position, judgement.state))[-rules.window :]
    filled = {name: np.full(len(y), np.nan) for name in ("oriented", "weight", "x", "statistic")}
    is_clipped = np.zeros(len(y), bool)
    if len(used):
        oriented = orient(y[used], counts[used], rules.kind)
        before = _noise_that_judged(fold, rules, len(used))
        reach = REACH if before is None else warm_start.REACH
        block = oriented[None, :], counts[None, used]
        ready = standardise(*block, reach)
        weight = np.ones(len(used)) if ready.weight is None else ready.weight[0]
        x = ready.x[0]
        filled["oriented"][used], filled["weight"][used], filled["x"][used] = oriented, weight, x
        is_clipped[used] = _clipped(oriented, weight, x)
        phi = judgement.verdict.phi or 0.0
        filled["statistic"][used[1:]] = (
            _statistic(x, weight, phi, float(ready.variance_floor[0]))
            if before is None
            else warm_start.split_statistics(*block, before)[0, :-1]
        )
    is_used = np.zeros(len(y), bool)
    is_used[used] = True
    return Explanation(
        verdict=judgement.verdict,
        is_used=is_used,
        oriented=filled["oriented"],
        weight=filled["weight"],
        winsorised=filled["x"],
        is_clipped=is_clipped,
        statistic=filled["statistic"],
    )


def rules_from_document(document: Mapping[str, Any]) -> Rules:
    """Return rules from plain JSON types.

    Parameters
    ----------
    document : mapping
        The fields of `Rules`, ``kind`` as its name; the older ones are without
        ``limit_clear_windows``.

    Raises
    ------
    TypeError, ValueError
        If a field is unknown or out of its range.
    """
    kind = MetricKind(document["kind"])
    return Rules(**{"limit_clear_windows": None, **document, "kind": kind})


def _noise_that_judged(fold: FoldState, rules: Rules, n: int) -> warm_start.Prior | None:
    """Return the noise of the version before where the newest prefix was judged by it."""
    noise = noise_before(fold, rules)
    if noise is None or not warm_start.FEWEST <= n < rules.min_evaluations:
        return None
    return warm_start.Prior(variance=np.array([noise.variance]), phi=np.array([noise.phi]))


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], float)


def _retained(y: Floats, first_position: int, state: FoldState) -> NDArray[np.bool_]:
    """What is neither missing nor part of an incident that was closed."""
    keep = np.isfinite(y)
    for low, high in state.dropped:
        keep[max(0, low - first_position) : max(0, high - first_position)] = False
    return keep


def _clipped(oriented: Floats, weight: Floats, x: Floats) -> NDArray[np.bool_]:
    """Where the standardised deviation is not what the plain one would be."""
    root = np.sqrt(weight)
    deviation = x / root - oriented
    return np.asarray(np.abs(deviation - np.median(deviation)) > 1e-9 * (1 + np.abs(oriented)))


def _statistic(x: Floats, weight: Floats, phi: float, variance_floor: float) -> Floats:
    """Z of the splits after the first, second, .. evaluation; NaN where none is allowed."""
    t = len(x)
    before = np.cumsum(np.sqrt(weight) * x)[:-1]
    weight_before = np.cumsum(weight)[:-1]
    rest = weight.sum() - weight_before
    between = before**2 * weight.sum() / np.maximum(weight_before * rest, _TINY)
    df = max(t - 2, 1)
    variance = np.maximum(((x * x).sum() - between) / df, variance_floor)
    statistic = np.sign(before) * np.sqrt(between / np.maximum(variance, _TINY))
    z = z_from_t(statistic, np.full(t - 1, float(df))) * np.sqrt((1 - phi) / (1 + phi))
    k = np.arange(1, t)
    return np.asarray(np.where((k >= 10) & (k <= t - 4), z, np.nan))
