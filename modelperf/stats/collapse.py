"""A model that falls off a cliff: told by its first or second evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.order_statistics import median, row_quantile
from modelperf.stats.weights import by_weighting, fitted_weights

Floats = NDArray[np.float64]

BASE = 60
FEWEST_IN_BASE = 20
FEWEST_FOR_ONE_ALONE = 40
TWO_IN_A_ROW = 5.0
ONE_ALONE = (10.0, 40.0)
TIMES_LARGEST = 4.5
OUTLIER = 8.0
BACK = 4
_SMALLEST_SCALE = 1e-12
_LARGEST_Z = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How far each newest evaluation lies below the evaluations before it.

    Parameters
    ----------
    z : ndarray, shape (rows,)
        Robust z, positive below; NaN with fewer than 20 evaluations before.
    before, scale : ndarray, shape (rows,)
        Median and robust standard deviation of those before, on the scale of the input.
    alone_beyond : ndarray, shape (rows,)
        Bound beyond which one evaluation alone is a collapse: 4.5 times the largest deviation
        among those before, between 10 and 40. Infinite with fewer than 40 before, which do
        not show the tails, and where more than half of them are equal: one deviant evaluation is
        then no multiple of any spread.
    """

    z: Floats
    before: Floats
    scale: Floats
    alone_beyond: Floats


def depth(oriented: Floats, sample_counts: Floats | None) -> Depth:
    """Judge the last evaluation of each row against those before it.

    Parameters
    ----------
    oriented : ndarray, shape (rows, evaluations)
        Values where higher is better, the newest in the last column, padded with NaN on the left.
    sample_counts : ndarray, same shape, or None
        Rows behind each value; where they vary, values are weighted as in `weights.fitted_weights`.
        None where they are constant in each row.

    Returns
    -------
    Depth
        With ``scale = max(MAD/.6745, (q90 - q10)/2.563)``; MAD alone misleads where values are
        rounded coarsely. Where both are zero the standard deviation, and at least 1e-12 of the
        values, so that z is finite (and 0 in a constant series).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        z, before, scale, bound = by_weighting(_depth, oriented, sample_counts)
    return Depth(z=z, before=before, scale=scale, alone_beyond=bound)


def _depth(oriented: Floats, sample_counts: Floats | None) -> tuple[Floats, ...]:
    base, newest = oriented[:, :-1], oriented[:, -1]
    root, trust = None, np.ones(len(newest))
    if sample_counts is not None:
        root = np.sqrt(fitted_weights(oriented, sample_counts))
        trust = _trust(sample_counts) * root[:, -1]
    before, scale, bound = _location(base, None if root is None else root[:, :-1])
    floor = _SMALLEST_SCALE * np.maximum(np.abs(before), np.abs(newest))
    scale = np.maximum(scale, np.maximum(floor, np.finfo(float).tiny))
    return trust * robust_z(newest, before, scale), before, scale, bound


def robust_z(newest: ArrayLike, before: ArrayLike, scale: ArrayLike) -> Floats:
    """Return how many scales the newest lies below the level before, within ±1e15."""
    with np.errstate(over="ignore"):
        z = np.subtract(before, newest) / scale
    return np.asarray(np.clip(z, -_LARGEST_Z, _LARGEST_Z))


def _trust(counts: Floats) -> Floats:
    """Root of the newest count over the median count, at most 1; 1 where it is not reported."""
    usual = np.sort(counts, axis=1)[:, counts.shape[1] // 2]
    known = (counts[:, -1] > 0) & (usual > counts[:, -1])
    return np.where(known, np.sqrt(counts[:, -1] / np.where(known, usual, 1.0)), 1.0)


def _location(base: Floats, root: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Median, robust standard deviation and the bound for one alone; NaN in too short rows."""
    n = np.count_nonzero(~np.isnan(base), axis=1)[:, None]
    n = np.where(n < FEWEST_IN_BASE, 0, n)
    ordered = np.sort(base, axis=1)
    before = row_quantile(ordered, n, 0.5)
    x = ordered - before if root is None else np.sort(root * (base - before), axis=1)
    size = np.sort(np.abs(x), axis=1)
    mad = row_quantile(size, n, 0.5) / 0.6745
    spread = (row_quantile(x, n, 0.9) - row_quantile(x, n, 0.1)) / 2.563
    scale = np.maximum(mad, spread)
    if (scale == 0).any():
        scale = np.where(scale == 0, _root_mean_square(x, n), scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = row_quantile(size, n, 1.0) / scale
    is_told = (mad > 0) & (n >= FEWEST_FOR_ONE_ALONE)
    bound = np.where(is_told, np.clip(TIMES_LARGEST * largest, *ONE_ALONE), np.inf)
    return before[:, 0], scale[:, 0], bound[:, 0]


def _root_mean_square(x: Floats, n: NDArray[np.intp]) -> Floats:
    squares = np.where(np.isnan(x), 0.0, x * x).sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt(squares / np.maximum(n, 1)))


def is_back(since: Floats, before: float) -> bool:
    """Tell whether a collapsed series is back, from its evaluations since the collapse.

    Parameters
    ----------
    since : ndarray, shape (evaluations,)
        Oriented values since the collapse, the newest last.
    before : float
        Level before it.

    Returns
    -------
    bool
        True where the last four have a mean of at least ``before - d/4`` and none lies below
        ``before - d/2``, ``d`` the depth of the median of those before them. (The change-point
        rule for recovery cannot see a collapse of one or two evaluations: it winsorises them.)
    """
    if len(since) <= BACK:
        return False
    d = before - median(since[:-BACK])
    last = since[-BACK:]
    return bool(last.mean() >= before - d / 4 and last.min() >= before - d / 2)
