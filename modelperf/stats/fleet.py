"""Control of the false alarms of a whole fleet, from the tail of each series' statistic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_BEFORE = 10
FEWEST_AFTER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """How small a p must be in one run of the check, so that few of its alerts are false.

    Parameters
    ----------
    n_judged : int
        Series the run judged, ``m``.
    n_rejected : int
        How many of them were rejected together, ``k``.
    """

    n_judged: int
    n_rejected: int = 0

    def of(self, q: float) -> float:
        """Return ``q max(k, 1)/m``: the largest p that is rejected where `q` is allowed.

        Where nothing was judged yet, `q` itself.
        """
        return q * max(self.n_rejected, 1) / max(self.n_judged, 1)


def cut_off(p_values: ArrayLike, q: ArrayLike = 0.05) -> CutOff:
    """Control the share of false alerts among all alerts of one run.

    Parameters
    ----------
    p_values : array_like, shape (series,)
        p of each series at its newest evaluation (`tail_p_value`); NaN where it was not judged.
    q : array_like, scalar or shape (series,)
        Share of false alerts that is allowed, above 0 and at most 1; series whose policies allow
        more weigh more.

    Returns
    -------
    CutOff
        ``k`` is the largest number of series with ``p/q <= k/m``; exactly those with
        ``p <= CutOff.of(q)`` are rejected (none where ``k`` is 0 and no p is that small).

    Raises
    ------
    ValueError
        If the shapes differ or a `q` is out of range.

    Notes
    -----
    Benjamini & Hochberg (1995), Journal of the Royal Statistical Society B 57, 289-300; with
    unequal `q` the weighted form of Genovese, Roeder & Wasserman (2006), Biometrika 93, 509-524,
    its weights being ``q`` over the mean of all ``q``. The rate holds for each run by itself.
    """
    p = np.asarray(p_values, float)
    allowed = np.asarray(q, float)
    if p.ndim != 1 or allowed.shape not in ((), p.shape):
        raise ValueError("cut_off takes one p per series, and one q or one q per series")
    if not ((allowed > 0) & (allowed <= 1)).all():
        raise ValueError("q lies above 0 and is at most 1")
    ratio = np.sort((p / allowed)[~np.isnan(p)])
    m = len(ratio)
    within = np.flatnonzero(ratio * m <= np.arange(1, m + 1))
    return CutOff(n_judged=m, n_rejected=int(within[-1]) + 1 if len(within) else 0)


def q_values(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return the smallest `q` at which each series would be rejected (adjusted p).

    Parameters
    ----------
    p_values : array_like, shape (series,)
        p of each series; NaN where it was not judged.

    Returns
    -------
    ndarray of float64, shape (series,)
        At least p, at most 1, in the order of p; NaN where p is.
    """
    p = np.asarray(p_values, float)
    adjusted = np.full(p.shape, np.nan)
    judged = np.flatnonzero(~np.isnan(p))
    order = judged[np.argsort(p[judged], kind="stable")]
    scaled = p[order] * (len(order) / np.arange(1, len(order) + 1))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def tail_p_value(
    z: ArrayLike,
    n_evaluations: ArrayLike,
    *,
    fewest: tuple[int, int] = (FEWEST_BEFORE, FEWEST_AFTER),
) -> NDArray[np.float64]:
    """Probability that an unchanged series of this length reaches the statistic ``z``.

    Parameters
    ----------
    z : array_like
        Largest statistic over all splits in one direction (`change_point.scan`), any shape; where
        both are watched, `tails.two_sided`.
    n_evaluations : array_like of int
        Evaluations ``t`` it was found in; broadcast against `z`.
    fewest : tuple of int
        Evaluations that had to lie before and after a split.

    Returns
    -------
    ndarray of float64
        p in [0, 1], falling in `z`. 1 where `z` <= 0 or `fewest` allows one split at most;
        NaN where `z` is NaN. Below the mode of the approximation, where it would fall again
        (``z`` near 2, far from any decision), p rises linearly to 1 at ``z`` = 0.

    Notes
    -----
    ``p = z/2 phi(z) [L (1 - 1/z²) + 4/z²]``, ``L = log((1 - e0)(1 - e1)/(e0 e1))``, ``e0`` and
    ``e1`` the shares before the first and after the last split, ``10/t`` and ``4/t`` by default;
    James, James & Siegmund (1987), Biometrika 74, 71-83; Csörgő & Horváth (1997), Limit Theorems
    in Change-Point Analysis.
    """
    z, t = np.broadcast_arrays(np.asarray(z, float), np.asarray(n_evaluations, float))
    shortest = sum(fewest) + 1
    log_range = _log_range(np.maximum(t, shortest), fewest)
    mode = _mode(log_range)
    at_mode = np.minimum(_approximation(mode, log_range), 1.0)
    below = 1.0 - (1.0 - at_mode) * np.maximum(z, 0.0) / mode
    with np.errstate(invalid="ignore"):
        p = np.where(z < mode, below, _approximation(np.maximum(z, mode), log_range))
    p = np.where(t < shortest, 1.0, np.clip(p, 0.0, 1.0))
    answer: NDArray[np.float64] = np.where(np.isnan(z), np.nan, p)
    return answer


def _log_range(t: NDArray[np.float64], fewest: tuple[int, int]) -> NDArray[np.float64]:
    first, last = fewest[0] / t, fewest[1] / t
    return np.asarray(np.log((1 - first) * (1 - last) / (first * last)))


def _mode(log_range: NDArray[np.float64]) -> NDArray[Any]:
    """Where the approximation is largest; at least 1, below which it means nothing."""
    discriminant = np.maximum(2 * log_range**2 - 8 * log_range + 4, 0.0)
    square = (log_range - 2 + np.sqrt(discriminant)) / log_range
    return np.sqrt(np.maximum(square, 1.0))


def _approximation(z: NDArray[Any], log_range: NDArray[np.float64]) -> NDArray[Any]:
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.asarray(0.5 * density * (log_range * z + (4 - log_range) / z))
