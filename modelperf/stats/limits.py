"""An absolute limit: crossed in some of the last windows, cleared beyond a second limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.results import HIGHER_IS_BETTER, Crossing, FoldState, MetricKind, Rules

Floats = NDArray[np.float64]


def is_beyond(values: ArrayLike, limit: float, kind: MetricKind) -> NDArray[np.bool_]:
    """Tell which values lie on the worse side of a limit.

    Parameters
    ----------
    values : array_like
        Values on the metric's own scale, any shape; NaN is not beyond.
    limit : float
        The limit, on the same scale; a value equal to it is not beyond.
    kind : MetricKind
        Below is worse where higher is better, above for losses, the absolute value above for
        ``TARGET_ZERO``.

    Returns
    -------
    ndarray of bool
    """
    level = np.asarray(values, float)
    if kind in HIGHER_IS_BETTER:
        return np.asarray(level < limit)
    return np.asarray((np.abs(level) if kind is MetricKind.TARGET_ZERO else level) > limit)


def worst(values: ArrayLike, kind: MetricKind) -> float:
    """Return the worst of some values of a metric, the first of equals."""
    level = np.asarray(values, float)
    if kind in HIGHER_IS_BETTER:
        return float(level.min())
    return float(level[np.abs(level).argmax()] if kind is MetricKind.TARGET_ZERO else level.max())


def fold_limit(
    values: Floats,
    positions: NDArray[np.intp],
    state: FoldState,
    rules: Rules,
) -> list[Crossing | None]:
    """Fold new evaluations into the state of the limit.

    Parameters
    ----------
    values, positions : ndarray, shape (evaluations,)
        Finite values and their absolute positions; at least the last ``limit_windows - 1`` old
        ones come first.
    state : FoldState
        Says which of them were folded before, and whether the limit was crossed then.
    rules : Rules
        ``limit`` None means no limit.

    Returns
    -------
    list of Crossing or None
        The state of the limit after each new evaluation. It opens where ``limit_hits`` of the last
        ``limit_windows`` lie beyond the limit, dated at the first of those; it closes where they no
        longer do and as many lie within ``clear_limit``.
    """
    first = int(np.searchsorted(positions, state.n_seen))
    if rules.limit is None:
        return [None] * (len(values) - first)
    clear_limit = rules.limit if rules.clear_limit is None else rules.clear_limit
    beyond = is_beyond(values, rules.limit, rules.kind)
    within = ~is_beyond(values, clear_limit, rules.kind)
    crossing = state.crossing
    if crossing is None and not _is_ever_crossed(beyond, first, rules):
        return [None] * (len(values) - first)
    crossings: list[Crossing | None] = []
    for newest in range(first, len(values)):
        last = slice(max(0, newest + 1 - rules.limit_windows), newest + 1)
        crossed = int(np.count_nonzero(beyond[last])) >= rules.limit_hits
        if crossing is None and crossed:
            crossing = _opened(values, positions, newest, last.start + beyond[last].argmax(), rules)
        elif crossing is not None:
            cleared = int(np.count_nonzero(within[last])) >= rules.limit_hits
            crossing = None if cleared and not crossed else _longer(crossing, values[newest], rules)
        crossings.append(crossing)
    return crossings


def _is_ever_crossed(beyond: NDArray[np.bool_], first: int, rules: Rules) -> bool:
    """Whether ``limit_hits`` of the last ``limit_windows`` are beyond at any new evaluation."""
    sums = np.concatenate([np.zeros(rules.limit_windows, int), np.cumsum(beyond)])
    hits = sums[rules.limit_windows :] - sums[: -rules.limit_windows]
    return bool((hits[first:] >= rules.limit_hits).any())


def _opened(
    values: Floats, positions: NDArray[np.intp], newest: int, first: np.intp, rules: Rules
) -> Crossing:
    return Crossing(
        since=int(positions[first]),
        n_since=int(newest - first + 1),
        value=float(values[newest]),
        peak=worst(values[first : newest + 1], rules.kind),
    )


def _longer(crossing: Crossing, value: float, rules: Rules) -> Crossing:
    return Crossing(
        since=crossing.since,
        n_since=crossing.n_since + 1,
        value=float(value),
        peak=worst([crossing.peak, value], rules.kind),
    )
