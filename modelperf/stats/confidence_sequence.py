"""The asymptotic confidence sequence of a mean and its evidence, as functions of arrays.

References
----------
Waudby-Smith, I., Arbour, D., Sinha, R., Kennedy, E. H. and Ramdas, A. (2021). "Time-uniform central
limit theory and asymptotic confidence sequences". arXiv:2103.06476.
"""

from math import log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TIGHTEST_AT = 500  # rows at which the interval is narrowest for its confidence
MOST_ROWS = 100_000_000  # as far as planning looks ahead


def mixing_variance(alpha: float) -> float:
    """Return rho², by which the interval is tightest at 500 rows."""
    return (-2 * log(alpha) + log(-2 * log(alpha) + 1)) / TIGHTEST_AT


def half_width(variance: Floats, n: Floats, alpha: float) -> Floats:
    """Return half the width of the interval of a mean of `n` rows.

    ``sqrt(v 2(n rho² + 1) log(sqrt(n rho² + 1)/alpha) / (n² rho²))`` holds at all n at once with
    probability 1 - alpha, as the number of rows grows.

    Parameters
    ----------
    variance : ndarray
        Long-run variance of one row, >= 0.
    n : ndarray
        Rows, > 0.
    alpha : float
        Between 0 and 1.

    Returns
    -------
    ndarray
        Infinite only where `variance` is.
    """
    grown = n * mixing_variance(alpha) + 1
    logarithm = np.log(np.sqrt(grown) / alpha)
    half: Floats = np.sqrt(variance * 2 * grown * logarithm / (n * (grown - 1)))
    return half


def log_e(mean: Floats, variance: Floats, n: Floats, alpha: float) -> Floats:
    """Return log E of a mean of `n` rows: E reaches 1/alpha where `half_width` excludes zero.

    ``E = exp(n² rho² mean² / (2 v (n rho² + 1))) / sqrt(n rho² + 1)``. Parameters as in
    `half_width`; without variance E is infinite for any mean but zero.
    """
    rho = mixing_variance(alpha)
    grown = n * rho + 1
    flat = np.where(mean == 0, 0.0, np.inf)
    with np.errstate(over="ignore"):
        squared = np.divide(n * mean**2, variance, out=flat, where=variance > 0)
    log_ratio: Floats = squared * n * rho / (2 * grown) - np.log(grown) / 2
    return log_ratio


def first_decisive(
    mean: float, variance: float, *, margin: float, alpha: float, after: int
) -> int | None:
    """Return about the smallest n > `after` at which a mean that stays as it is decides.

    Decided is an interval beside zero, or inside +- `margin`. Searched in steps of 1 %; None where
    no n up to 100 million decides.
    """
    n = np.unique(np.ceil(np.geomspace(after + 1, max(MOST_ROWS, after + 1), 2000)))
    half = half_width(np.full(n.shape, variance), n, alpha)
    decisive = (abs(mean) > half) | (abs(mean) + half <= margin)
    return int(n[np.argmax(decisive)]) if decisive.any() else None
