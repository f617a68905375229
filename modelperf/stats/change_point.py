"""Has the level of a series changed, and where: the change-point model for a fleet at once.

Hawkins, Qiu & Kang (2003), "The changepoint model for statistical process control", Journal of
Quality Technology 35, 355-366: change, mean and variance all unknown. Made robust by fitted
weights and winsorising, and by an allowance for autocorrelation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.fleet import FEWEST_AFTER, FEWEST_BEFORE
from modelperf.stats.order_statistics import row_quantile
from modelperf.stats.tails import z_from_t
from modelperf.stats.weights import fitted_weights

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

REACH = 2.0
RANGE_CRITICAL = 7.35
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The best split in one direction, per series.

    Parameters
    ----------
    z : ndarray, shape (series,)
        Statistic ``Z``; NaN where the series is too short to be split.
    split : ndarray of int, shape (series,)
        Evaluations before the change, counted without gaps; 0 where there is none.
    phi : ndarray, shape (series,)
        Lag-1 autocorrelation around the two means, as allowed for.
    """

    z: Floats
    split: Ints
    phi: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """`scan`'s answer: falls and rises of each series, and how many evaluations it has."""

    fall: Side
    rise: Side
    n: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardised:
    """Series ready to be split, all (series, evaluations), zero at padding.

    ``x`` is sqrt(weight) times the winsorised deviation from the weighted mean, ``weight`` the
    weights, ``n`` the evaluations per series, ``variance_floor`` the square of the resolution.
    """

    x: Floats
    weight: Floats
    n: Ints
    variance_floor: Floats


def scan(
    oriented: ArrayLike,
    sample_counts: ArrayLike | None = None,
    *,
    fewest_before: int = FEWEST_BEFORE,
    fewest_after: int = FEWEST_AFTER,
    reach: float = REACH,
) -> Scan:
    """Look for the most likely fall and the most likely rise of each series.

    Parameters
    ----------
    oriented : array_like, shape (series, evaluations)
        Values on a scale where higher is better, in order of time; ragged series are padded with
        NaN, missing values are NaN.
    sample_counts : array_like, same shape, optional
        Rows behind each value; 0 where not reported. They weight the values
        (`weights.fitted_weights`) where they vary.
    fewest_before, fewest_after : int
        Evaluations that must lie on either side of a split.
    reach : float
        Robust standard deviations at which values are winsorised.

    Returns
    -------
    Scan
        For every split ``k``: ``d`` = mean before - mean after, ``B = d² W_k (W - W_k)/W``,
        ``T = sign(d) sqrt(B/((SS - B)/(t - 2)))``; ``z`` the normal quantile of the largest ``T``
        in Student's distribution, ``Z = z sqrt((1 - phi)/(1 + phi))``. A constant series gives 0;
        Z is finite for any input. NaN (and split 0) where fewer than ``fewest_before +
        fewest_after`` (and at least 4) evaluations are there.

    Raises
    ------
    ValueError
        If the arrays are not two-dimensional or differ in shape.
    """
    y = np.asarray(oriented, float)
    counts = np.zeros_like(y) if sample_counts is None else np.asarray(sample_counts, float)
    if y.ndim != 2 or y.shape != counts.shape:
        raise ValueError("scan takes two blocks of shape (series, evaluations)")
    with np.errstate(over="ignore", invalid="ignore"):
        ready = standardise(*_packed(y, counts), reach)
        contrast = _contrast(ready, fewest_before, fewest_after)
        total = _row_sums(ready.x * ready.x)
        fall, rise = (_side(ready, contrast, total, sign) for sign in (1.0, -1.0))
    return Scan(fall=fall, rise=rise, n=ready.n)


def standardise(oriented: Floats, sample_counts: Floats, reach: float = REACH) -> Standardised:
    """Weight, winsorise and centre a block of series that is padded on the right only.

    Parameters
    ----------
    oriented : ndarray, shape (series, evaluations)
        Values, NaN at the padding.
    sample_counts : ndarray, same shape
        Rows behind each value; 0 where not reported.
    reach : float
        Robust standard deviations at which values are winsorised.

    Returns
    -------
    Standardised
        Deviations are winsorised at `reach` times MAD/.6745 around the median (one value of a
        million would move the mean away from all others). The scale is at least the standard
        deviation of rounding to the smallest gap between two values, and 1e-12 of the median: an
        outlier in a constant series is then one rounding step, not infinitely many.
    """
    here = ~np.isnan(oriented)
    n = here.sum(axis=1)[:, None]
    ordered = np.sort(oriented, axis=1)
    centre = row_quantile(ordered, n, 0.5)
    weight = fitted_weights(oriented, sample_counts)
    root = np.sqrt(weight)
    x = root * (oriented - centre)
    floor = _resolution(ordered, centre)
    scale = row_quantile(np.sort(np.abs(x), axis=1), n, 0.5) / 0.6745
    bound = reach * np.maximum(scale, floor)
    x = np.where(here, np.clip(x, -bound, bound), 0.0)
    x -= root * (_row_sums(root * x) / np.maximum(_row_sums(weight), _ROUNDING))
    return Standardised(x=x, weight=weight, n=n[:, 0], variance_floor=floor[:, 0] ** 2)


def change_range(
    oriented: Floats, sample_counts: Floats, split: int, phi: float
) -> tuple[int, int]:
    """Return the approximate 95 % range of a change's position.

    Parameters
    ----------
    oriented, sample_counts : ndarray, shape (evaluations,)
        One series without gaps.
    split : int
        The best split: evaluations before the change.
    phi : float
        Autocorrelation allowed for.

    Returns
    -------
    low, high : int
        First and last split whose likelihood ratio against `split`,
        ``t log((SS - B_k)/(SS - B_split))``, is at most 7.35 (1 + phi)/(1 - phi). 7.35 is the 95 %
        point of the limit ``(1 - exp(-x/2))²``: Hansen (2000), Econometrica 68, 575-603.
    """
    ready = standardise(oriented[None, :], sample_counts[None, :])
    contrast = _contrast(ready, 1, 1)[0]
    t, floor = int(ready.n[0]), ready.n[0] * ready.variance_floor[0]
    rest = np.maximum(_row_sums(ready.x * ready.x)[0] - contrast**2, floor)
    if rest[split - 1] <= 0:
        return split, split
    same_side = np.sign(contrast) == np.sign(contrast[split - 1])
    ratio = t * np.log(np.maximum(rest, _ROUNDING * rest[split - 1]) / rest[split - 1])
    inside = np.flatnonzero(same_side & (ratio <= RANGE_CRITICAL * (1 + phi) / (1 - phi))) + 1
    return min(int(inside[0]), split), max(int(inside[-1]), split)


def _resolution(ordered: Floats, centre: Floats) -> Floats:
    """Standard deviation of rounding, per series, from the smallest gap between two values."""
    gaps = np.diff(ordered, axis=1)
    gap = np.where(gaps > 0, gaps, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    rounding = np.where(np.isinf(gap), 0.0, gap / np.sqrt(12.0))
    return np.asarray(np.maximum(rounding, _ROUNDING * np.nan_to_num(np.abs(centre))))


def _contrast(ready: Standardised, fewest_before: int, fewest_after: int) -> Floats:
    """Signed sqrt(B) for every split after column 0, 1, ..; NaN where a split is not allowed."""
    before = np.cumsum(np.sqrt(ready.weight) * ready.x, axis=1)
    weight_before = np.cumsum(ready.weight, axis=1)
    total = weight_before[:, -1:]
    k = np.arange(1, ready.x.shape[1] + 1)
    allowed = (k >= fewest_before) & (k <= ready.n[:, None] - fewest_after)
    balance = np.where(allowed, weight_before * (total - weight_before), np.nan)
    return np.asarray(before * np.sqrt(total / balance))


def _side(ready: Standardised, contrast: Floats, total: Floats, sign: float) -> Side:
    signed = np.where(np.isnan(contrast), -np.inf, contrast * sign)
    column = np.argmax(signed, axis=1)
    best = signed[np.arange(len(column)), column]
    possible = np.isfinite(best)
    best = np.where(possible, best, 0.0)
    df = np.maximum(ready.n - 2, 1).astype(float)
    variance = np.maximum((total[:, 0] - best**2) / df, ready.variance_floor)
    t = best / np.sqrt(np.where(variance > 0, variance, 1.0))
    split = np.where(possible, column + 1, 0)
    phi = _autocorrelation(ready, split)
    z = z_from_t(t, df) * np.sqrt((1 - phi) / (1 + phi))
    return Side(z=np.where(possible, z, np.nan), split=split, phi=phi)


def _autocorrelation(ready: Standardised, split: Ints) -> Floats:
    """Return clip(r1 + (2 + 4 r1)/t, 0, .9), r1 of the residuals around the two means."""
    root = np.sqrt(ready.weight)
    is_before = np.arange(root.shape[1]) < split[:, None]
    moment, weight = root * ready.x, ready.weight
    sum_before = _row_sums(np.where(is_before, moment, 0.0))
    weight_before = _row_sums(np.where(is_before, weight, 0.0))
    weight_after = _row_sums(weight) - weight_before
    mean_before = sum_before / np.maximum(weight_before, _ROUNDING)
    mean_after = -sum_before / np.maximum(weight_after, _ROUNDING)
    residual = ready.x - root * np.where(is_before, mean_before, mean_after)
    square = _row_sums(residual * residual)[:, 0]
    product = _row_sums(residual[:, 1:] * residual[:, :-1])[:, 0]
    r1 = product / np.where(square > 0, square, 1.0)
    t = np.maximum(ready.n, 1)
    return np.asarray(np.clip(r1 + (2 + 4 * r1) / t, 0.0, 0.9))


def _packed(y: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Move missing values behind the others, keeping the order; nothing to do where they are."""
    gone = np.isnan(y)
    if not (gone[:, :-1] & ~gone[:, 1:]).any():
        return y, counts
    order = np.argsort(gone, axis=1, kind="stable")
    return np.take_along_axis(y, order, 1), np.take_along_axis(counts, order, 1)


def _row_sums(block: Floats) -> Floats:
    return np.asarray(block.sum(axis=1, keepdims=True))
