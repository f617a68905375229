"""A model that falls off a cliff: told by its first or second evaluation, not by a fitted change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.change_point import weights

Floats = NDArray[np.float64]

BASE = 60
FEWEST_IN_BASE = 20
TWO_IN_A_ROW = 5.0
ONE_ALONE = 15.0
OUTLIER = 8.0
BACK = 4
_SMALLEST_SCALE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How far each newest evaluation lies below the evaluations before it.

    Parameters
    ----------
    z : ndarray, shape (rows,)
        Robust z, positive below; NaN with fewer than 20 evaluations before.
    before, scale : ndarray, shape (rows,)
        Median and robust standard deviation of those before, on the scale of the input.
    has_spread : ndarray of bool, shape (rows,)
        Whether more than half of the evaluations before differ. Where they do not, one deviant
        evaluation says nothing in multiples of the spread.
    """

    z: Floats
    before: Floats
    scale: Floats
    has_spread: NDArray[np.bool_]


def depth(oriented: Floats, sample_counts: Floats) -> Depth:
    """Judge the last evaluation of each row against those before it.

    Parameters
    ----------
    oriented : ndarray, shape (rows, evaluations)
        Values where higher is better, the newest in the last column, padded with NaN on the left.
    sample_counts : ndarray, same shape
        Rows behind each value; where they vary, values are weighted as in `change_point.weights`.

    Returns
    -------
    Depth
        With ``scale = max(MAD/.6745, (q90 - q10)/2.563)``; MAD alone misleads where values are
        rounded coarsely. Where both are zero the standard deviation, and at least 1e-12 of the
        values, so that z is finite (and 0 in a constant series).
    """
    root = np.sqrt(weights(oriented, sample_counts))
    base, newest = oriented[:, :-1], oriented[:, -1]
    n = (~np.isnan(base)).sum(axis=1)
    enough = n >= FEWEST_IN_BASE
    z, before, scale = (np.full(len(n), np.nan) for _ in range(3))
    has_spread = np.zeros(len(n), bool)
    for size in np.unique(n[enough]):
        rows = n == size
        before[rows], scale[rows], has_spread[rows] = _location(base[rows, -size:], root[rows, -size - 1 : -1])
    floor = _SMALLEST_SCALE * np.maximum(np.abs(before), np.abs(newest))
    scale = np.maximum(scale, np.maximum(floor, np.finfo(float).tiny))
    z[enough] = (root[:, -1] * (before - newest) / scale)[enough]
    return Depth(z=z, before=before, scale=scale, has_spread=has_spread)


def _location(base: Floats, root: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    before = np.median(base, axis=1)
    x = root * (base - before[:, None])
    mad = np.median(np.abs(x), axis=1) / 0.6745
    low, high = np.quantile(x, (0.1, 0.9), axis=1)
    robust = np.maximum(mad, (high - low) / 2.563)
    return before, np.where(robust > 0, robust, x.std(axis=1)), mad > 0


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
    d = before - float(np.median(since[:-BACK]))
    last = since[-BACK:]
    return bool(last.mean() >= before - d / 4 and last.min() >= before - d / 2)
