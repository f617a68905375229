"""How much each evaluation counts, from the number of rows behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.order_statistics import row_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_SMALLEST_SPREAD = 1e-12


def fitted_weights(oriented: Floats, sample_counts: Floats) -> Floats:
    """Fit how much of the noise comes from the sample counts, and weight by it.

    Parameters
    ----------
    oriented : ndarray, shape (series, evaluations)
        Values, NaN at the padding.
    sample_counts : ndarray, same shape
        Rows behind each value; those not reported (0) count as the median of the reported.

    Returns
    -------
    ndarray, same shape
        ``w = 1/(a + b u)`` scaled to mean 1, with ``u = median(n)/n``, from the regression of the
        squared deviations e² from the median on ``u``; 1 where the counts are constant, not
        reported, or say nothing of the noise; 0 at the padding. An e² is capped at the 95 %
        quantile of all e², or ``u`` times that of all e²/u where this is larger: the few windows
        with few rows may be noisier than all others without being outliers.
    """
    here = ~np.isnan(oriented)
    varying = counts_vary(oriented, sample_counts)
    if varying.all():
        return _where_counts_vary(oriented, sample_counts, here)
    weight = here.astype(float)
    if varying.any():
        weight[varying] = _where_counts_vary(
            oriented[varying], sample_counts[varying], here[varying]
        )
    return weight


def counts_vary(oriented: Floats, sample_counts: Floats) -> NDArray[np.bool_]:
    """Tell, for each series, whether its counts differ where it has values."""
    differs = sample_counts != sample_counts[:, :1]
    return np.asarray((differs & ~np.isnan(oriented)).any(axis=1))


def by_weighting(
    judge: Callable[[Floats, Floats | None], tuple[NDArray[Any], ...]],
    oriented: Floats,
    sample_counts: Floats | None,
) -> tuple[NDArray[Any], ...]:
    """Judge the series with weights apart from those without, which is cheaper.

    Parameters
    ----------
    judge : callable
        Takes values and counts of some series, shape (some series, evaluations), counts None
        where they are constant in each; returns arrays of shape (some series,).
    oriented : ndarray, shape (series, evaluations)
        Values, NaN at the padding.
    sample_counts : ndarray, same shape, or None
        Rows behind each value; None where they are constant in each series.

    Returns
    -------
    tuple of ndarray, shape (series,)
        What `judge` returns, put together. Which way a series goes is told by its own counts
        alone: it has the same statistics bit by bit whatever stands beside it.
    """
    if sample_counts is None:
        return judge(oriented, None)
    varying = counts_vary(oriented, sample_counts)
    if varying.all():
        return judge(oriented, sample_counts)
    if not varying.any():
        return judge(oriented, None)
    uneven = judge(oriented[varying], sample_counts[varying])
    even = judge(oriented[~varying], None)
    together = tuple(np.empty(len(varying), part.dtype) for part in even)
    for answer, *parts in zip(together, uneven, even, strict=True):
        answer[varying], answer[~varying] = parts
    return together


def _where_counts_vary(y: Floats, counts: Floats, here: NDArray[np.bool_]) -> Floats:
    n = here.sum(axis=1, keepdims=True)
    known = here & (counts > 0)
    ordered = np.sort(np.where(known, counts, np.nan), axis=1)
    middle = row_quantile(ordered, known.sum(axis=1, keepdims=True), 0.5)
    u = np.where(here, 1.0, 0.0)
    np.divide(np.broadcast_to(middle, u.shape), counts, out=u, where=known)
    square = (y - row_quantile(np.sort(y, axis=1), n, 0.5)) ** 2
    square = np.where(here, np.minimum(square, _cap(square, u, here, n)), 0.0)
    return _inverse_noise(u, square, here, np.maximum(n, 1))


def _cap(square: Floats, u: Floats, here: NDArray[np.bool_], n: Ints) -> Floats:
    per_u = np.full_like(square, np.nan)
    np.divide(square, u, out=per_u, where=here)
    caps = (row_quantile(np.sort(block, axis=1), n, 0.95) for block in (square, per_u))
    return np.maximum(next(caps), u * next(caps))


def _inverse_noise(u: Floats, square: Floats, here: NDArray[np.bool_], n: Ints) -> Floats:
    mean_u, mean_square = _sums(u) / n, _sums(square) / n
    deviation = np.where(here, u - mean_u, 0.0)
    spread = _sums(deviation * deviation)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        slope = _sums(deviation * square) / spread
        slope = np.clip(slope, 0.0, mean_square / mean_u)
        constant = np.maximum(mean_square - slope * mean_u, 0.0)
        w = np.where(here, 1.0 / (constant + slope * u), 0.0)
        w = w * n / _sums(w)
    usable = (spread > _SMALLEST_SPREAD) & (mean_square > 0) & (slope > 0)
    return np.where(usable, w, here)


def _sums(block: Floats) -> Floats:
    return np.asarray(block.sum(axis=1, keepdims=True))
