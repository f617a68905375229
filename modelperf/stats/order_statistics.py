"""Medians and quantiles of ragged rows, from one sort and without the cost of the general ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def row_quantile(ordered: Floats, n: NDArray[np.intp], q: float) -> Floats:
    """Return a quantile of the first `n` values of each ordered row.

    Parameters
    ----------
    ordered : ndarray, shape (rows, values)
        Ascending along each row, NaN (the padding) last.
    n : ndarray of int, shape (rows, 1)
        How many of them count.
    q : float
        Between 0 and 1.

    Returns
    -------
    ndarray, shape (rows, 1)
        Linear interpolation, as `numpy.quantile`; NaN where `n` is 0.
    """
    place = np.maximum(n - 1, 0) * q
    low = place.astype(np.intp)
    high = np.minimum(low + 1, np.maximum(n - 1, 0))
    rows = np.arange(len(ordered))[:, None]
    below, above = ordered[rows, low], ordered[rows, high]
    return np.where(n > 0, below + (place - low) * (above - below), np.nan)


def row_median(ordered: Floats, n: NDArray[np.intp]) -> Floats:
    """Return the median of the first `n` (rows, 1) values of each ordered row; NaN without any.

    The mean of the middle two is taken so that it does not overflow.
    """
    rows = np.arange(len(ordered))[:, None]
    below, above = ordered[rows, np.maximum(n - 1, 0) // 2], ordered[rows, n // 2]
    return np.where(n > 0, below / 2 + above / 2, np.nan)


def median(values: Floats) -> float:
    """Return the median of finite values, shape (values,), at least one."""
    ordered = np.sort(values)
    n = len(ordered)
    return float(ordered[(n - 1) // 2] / 2 + ordered[n // 2] / 2)
