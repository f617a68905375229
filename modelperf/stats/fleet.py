"""Control of the false alarms of a whole fleet, from the tail of each series' statistic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_BEFORE = 10
FEWEST_AFTER = 4
_SHORTEST = FEWEST_BEFORE + FEWEST_AFTER + 1


def tail_p_value(z: ArrayLike, n_evaluations: ArrayLike) -> NDArray[np.float64]:
    """Probability that an unchanged series of this length reaches the statistic ``z``.

    Parameters
    ----------
    z : array_like
        Largest statistic over all splits in one direction (`change_point.scan`), any shape; where
        both are watched, `tails.two_sided`.
    n_evaluations : array_like of int
        Evaluations ``t`` it was found in; broadcast against `z`.

    Returns
    -------
    ndarray of float64
        p in [0, 1], falling in `z`. 1 where `z` <= 0 or fewer than 15 evaluations allow no split;
        NaN where `z` is NaN. Below the mode of the approximation, where it would fall again
        (``z`` near 2, far from any decision), p rises linearly to 1 at ``z`` = 0.

    Notes
    -----
    ``p = z/2 phi(z) [L (1 - 1/z²) + 4/z²]``, ``L = log((1 - e0)(1 - e1)/(e0 e1))``, ``e0 = 10/t``
    and ``e1 = 4/t`` the shares before the first and after the last split; James, James & Siegmund
    (1987), Biometrika 74, 71-83; Csörgő & Horváth (1997), Limit Theorems in Change-Point Analysis.
    """
    z, t = np.broadcast_arrays(np.asarray(z, float), np.asarray(n_evaluations, float))
    log_range = _log_range(np.maximum(t, _SHORTEST))
    mode = _mode(log_range)
    at_mode = np.minimum(_approximation(mode, log_range), 1.0)
    below = 1.0 - (1.0 - at_mode) * np.maximum(z, 0.0) / mode
    with np.errstate(invalid="ignore"):
        p = np.where(z < mode, below, _approximation(np.maximum(z, mode), log_range))
    p = np.where(t < _SHORTEST, 1.0, np.clip(p, 0.0, 1.0))
    answer: NDArray[np.float64] = np.where(np.isnan(z), np.nan, p)
    return answer


def _log_range(t: NDArray[np.float64]) -> NDArray[np.float64]:
    first, last = FEWEST_BEFORE / t, FEWEST_AFTER / t
    return np.asarray(np.log((1 - first) * (1 - last) / (first * last)))


def _mode(log_range: NDArray[np.float64]) -> NDArray[Any]:
    """Where the approximation is largest; at least 1, below which it means nothing."""
    discriminant = np.maximum(2 * log_range**2 - 8 * log_range + 4, 0.0)
    square = (log_range - 2 + np.sqrt(discriminant)) / log_range
    return np.sqrt(np.maximum(square, 1.0))


def _approximation(z: NDArray[Any], log_range: NDArray[np.float64]) -> NDArray[Any]:
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.asarray(0.5 * density * (log_range * z + (4 - log_range) / z))
