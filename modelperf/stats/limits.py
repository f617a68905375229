"""An absolute limit: crossed in some of the last windows, and cleared by some well within it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.results import HIGHER_IS_BETTER, Crossing, FoldState, MetricKind, Rules

Floats = NDArray[np.float64]

NOISE_FROM: Final = 60  # evaluations before those that may be well, of which the noise is measured
FEWEST_RUNS: Final = 4  # with fewer times as many as clear, neighbours tell the noise
MARGIN: Final = 2.0  # robust standard deviations
_NORMAL: Final = 0.6745 * 2**0.5  # median of the absolute difference of two standard normal values
_BEST: Final = {
    MetricKind.R_SQUARED: 1.0,
    MetricKind.PROPORTION: 1.0,
    MetricKind.LOSS: 0.0,
    MetricKind.TARGET_ZERO: 0.0,
}


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
        Finite values and their absolute positions; at least the last `windows_looked_at` old ones
        come first.
    state : FoldState
        Says which of them were folded before, and whether the limit was crossed then.
    rules : Rules
        ``limit`` None means no limit.

    Returns
    -------
    list of Crossing or None
        The state of the limit after each new evaluation. It opens where ``limit_hits`` of the last
        ``limit_windows`` lie beyond the limit, dated at the first of those; it closes where they no
        longer do and the last ``limit_clear_windows`` are all within ``clear_limit``, or without
        one within `clear_level` of those before.
    """
    first = int(np.searchsorted(positions, state.n_seen))
    if rules.limit is None:
        return [None] * (len(values) - first)
    beyond = is_beyond(values, rules.limit, rules.kind)
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
            is_over = not crossed and _is_well(values[: newest + 1], rules.limit, rules)
            crossing = None if is_over else _longer(crossing, values[newest], rules)
        crossings.append(crossing)
    return crossings


def windows_looked_at(rules: Rules) -> int:
    """Return how many evaluations before it a step of `fold_limit` looks at."""
    if rules.limit is None:
        return rules.limit_windows
    return max(rules.limit_windows, NOISE_FROM + (rules.limit_clear_windows or 0))


def _is_well(values: Floats, limit: float, rules: Rules) -> bool:
    """Whether a crossed limit is kept again at the last of some evaluations."""
    clear_limit, n = rules.clear_limit, rules.limit_clear_windows
    if n is None:
        level = limit if clear_limit is None else clear_limit
        beyond = is_beyond(values[-rules.limit_windows :], level, rules.kind)
        return int(np.count_nonzero(~beyond)) >= rules.limit_hits
    last = values[-n:]
    if len(last) < n or is_beyond(last, limit, rules.kind).any():
        return False
    if clear_limit is None:
        clear_limit = clear_level(values[-n - NOISE_FROM : -n], limit, n=n, kind=rules.kind)
    return not is_beyond(last, clear_limit, rules.kind).any()


def clear_level(before: ArrayLike, limit: float, *, n: int, kind: MetricKind) -> float:
    """Return the level within which a crossed limit is cleared, where no second one was set.

    Parameters
    ----------
    before : array_like, shape (evaluations,)
        Finite values before those that may be well, the last `NOISE_FROM` of them.
    limit : float
        The limit.
    n : int
        How many evaluations in a row must be well.
    kind : MetricKind
        Says which side is the good one.

    Returns
    -------
    float
        `MARGIN` robust standard deviations of the noise to the good side of the limit, but at most
        half the way from it to the best value there is; the limit itself where there are fewer than
        two evaluations.

    Notes
    -----
    The noise is that between evaluations ``n`` apart: median absolute difference / (.6745 √2). A
    level that has changed once moves ``n`` differences alone, and what swings within ``n``
    evaluations counts with all of its swing; a spread around the median would take a change of
    level, and differences of neighbours would take nothing of a slow swing. With fewer than
    `FEWEST_RUNS` times ``n`` evaluations neighbours have to do.
    """
    sizes = np.asarray(before, float)
    if kind is MetricKind.TARGET_ZERO:
        sizes = np.abs(sizes)
    if len(sizes) < 2:
        return limit
    lag = n if len(sizes) >= FEWEST_RUNS * n else 1
    margin = MARGIN * float(np.median(np.abs(sizes[lag:] - sizes[:-lag]))) / _NORMAL
    if kind in _BEST:
        margin = min(margin, abs(_BEST[kind] - limit) / 2)
    return limit + margin if kind in HIGHER_IS_BETTER else limit - margin


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
