"""How strongly each machine responds to what the fleet has in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.order_statistics import row_quantile

Floats = NDArray[np.float64]

PRIOR_SPREAD = 0.5
LARGEST = 2.0
_PASSES = 4
_ROWS = 2000  # machines at once, so that memory does not grow with the fleet


def fitted_loading(deviation: Floats, others: Floats) -> Floats:
    """Fit the loading of each machine on the part of the others.

    Parameters
    ----------
    deviation : ndarray, shape (machines, windows)
        ``D``, each machine's deviation from its level; NaN where missing.
    others : ndarray, same shape
        ``F``, the median of the other machines' deviations; NaN where missing.

    Returns
    -------
    ndarray, shape (machines,)
        ``b = (l sum(f d) + k)/(l² sum(f²) + k)`` within [0, 2]: ``f`` is F about its mean, ``d``
        D with the residuals ``D - b F`` capped at 3 MAD/.6745, in 4 passes from ``b = 1``. ``l``
        is the reliability of F, itself the median of noisy series (least squares would draw b
        to zero, and a step that all share would stay in the own parts), ``k`` the weight of the
        prior, 1 with a standard deviation of .5: a machine that shows little keeps 1.

    Notes
    -----
    ``s² = (1 + b² c) sigma²`` is the residual variance with ``c = pi/(2 (M - 1/2))`` the variance
    of the median of M - 1 normals; ``l = clip(1 - c median(sigma²) t/sum(f²), 0, 1)`` and
    ``k = sigma²/.25``. Fuller (1987), Measurement Error Models, section 1.2.
    """
    t = (~np.isnan(others)).sum(axis=1)
    per_window = (~np.isnan(deviation)).sum(axis=0)
    c = np.pi / (2 * (per_window[per_window > 0].mean() - 0.5))
    square = np.empty(len(deviation))
    for rows in _parts(len(deviation)):
        square[rows] = np.nansum(_centred(others[rows]) ** 2, axis=1)
    b = np.ones(len(deviation))
    for _ in range(_PASSES):
        product, s = np.empty(len(b)), np.empty(len(b))
        for rows in _parts(len(b)):
            product[rows], s[rows] = _capped(deviation[rows], others[rows], b[rows])
        variance = s**2 / (1 + b**2 * c)
        noise = c * float(np.median(variance)) * t
        share = np.divide(noise, square, out=np.ones(len(b)), where=square > 0)
        reliability = np.clip(1 - share, 0.0, 1.0)
        prior = np.maximum(variance, np.finfo(float).tiny) / PRIOR_SPREAD**2
        b = (reliability * product + prior) / (reliability**2 * square + prior)
        b = np.clip(b, 0.0, LARGEST)
    return b


def _capped(deviation: Floats, others: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Sum of f d with capped residuals, and the residuals' robust standard deviation."""
    residual = deviation - b[:, None] * others
    residual -= _medians(residual)
    s = _medians(np.abs(residual)) / 0.6745
    bound = np.where(s > 0, 3 * s, np.inf)
    np.clip(residual, -bound, bound, out=residual)
    f = _centred(others)
    residual += b[:, None] * f
    residual *= f
    return np.nansum(residual, axis=1), s[:, 0]


def _centred(others: Floats) -> Floats:
    n = np.maximum((~np.isnan(others)).sum(axis=1, keepdims=True), 1)
    return np.asarray(others - np.nansum(others, axis=1, keepdims=True) / n)


def _medians(block: Floats) -> Floats:
    n = (~np.isnan(block)).sum(axis=1)[:, None]
    return row_quantile(np.sort(block, axis=1), n, 0.5)


def _parts(size: int) -> list[slice]:
    return [slice(first, first + _ROWS) for first in range(0, size, _ROWS)]
