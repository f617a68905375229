"""Has the level of a series changed, and where: the change-point model for a fleet at once.

Hawkins, Qiu & Kang (2003), "The changepoint model for statistical process control", Journal of
Quality Technology 35, 355-366: change, mean and variance all unknown. Made robust by fitted
weights and winsorising, and by an allowance for autocorrelation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.fleet import FEWEST_AFTER, FEWEST_BEFORE
from modelperf.stats.order_statistics import row_quantile
from modelperf.stats.tails import z_from_t
from modelperf.stats.weights import by_weighting, fitted_weights

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

REACH = 2.0
RANGE_CRITICAL = 7.35
_ROUNDING = 1e-12
_CLEAN = 1e-10


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
    weights (None where all are 1), ``n`` the evaluations per series, ``variance_floor`` the square
    of the resolution.
    """

    x: Floats
    weight: Floats | None
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
    fewest = (fewest_before, fewest_after)
    fall, rise = best_splits(*_packed(y, counts), signs=(1, -1), fewest=fewest, reach=reach)
    return Scan(fall=fall, rise=rise, n=np.count_nonzero(~np.isnan(y), axis=1))


def best_splits(
    oriented: Floats,
    sample_counts: Floats | None,
    *,
    signs: Sequence[int] = (1,),
    fewest: tuple[int, int] = (FEWEST_BEFORE, FEWEST_AFTER),
    reach: float = REACH,
) -> list[Side]:
    """Return the best split of each series in the asked directions, as `scan` defines it.

    Parameters
    ----------
    oriented : ndarray, shape (series, evaluations)
        Values, padded with NaN on the right only.
    sample_counts : ndarray, same shape, or None
        Rows behind each value; None where they are constant in each series.
    signs : sequence of int
        1 for falls, -1 for rises.
    fewest : tuple of int
        Evaluations that must lie before and after a split.
    reach : float
        Robust standard deviations at which values are winsorised.

    Returns
    -------
    list of Side
        One for each sign.
    """

    def judge(y: Floats, counts: Floats | None) -> tuple[NDArray[Any], ...]:
        ready = standardise(y, counts, reach)
        before = _sums_before(ready)
        contrast = _contrast(ready, before)
        sides = (_side(ready, before, contrast, sign, fewest) for sign in signs)
        return tuple(part for side in sides for part in (side.z, side.split, side.phi))

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = by_weighting(judge, oriented, sample_counts)
    parts = (found[at : at + 3] for at in range(0, len(found), 3))
    return [Side(z=z, split=split, phi=phi) for z, split, phi in parts]


def standardise(
    oriented: Floats, sample_counts: Floats | None, reach: float = REACH
) -> Standardised:
    """Weight, winsorise and centre a block of series that is padded on the right only.

    Parameters
    ----------
    oriented : ndarray, shape (series, evaluations)
        Values, NaN at the padding.
    sample_counts : ndarray, same shape, or None
        Rows behind each value; 0 where not reported. None where they are constant in each series.
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
    gone = np.isnan(oriented)
    n = oriented.shape[1] - np.count_nonzero(gone, axis=1)
    padded = slice(int(n.min(initial=oriented.shape[1])), None)
    ordered = np.sort(oriented, axis=1)
    centre = row_quantile(ordered, n[:, None], 0.5)
    weight = None if sample_counts is None else fitted_weights(oriented, sample_counts)
    root = None if weight is None else np.sqrt(weight)
    x = oriented - centre if root is None else root * (oriented - centre)
    floor = _resolution(ordered, centre)
    scale = row_quantile(np.sort(np.abs(x), axis=1), n[:, None], 0.5) / 0.6745
    bound = reach * np.maximum(scale, floor)
    np.clip(x, -bound, bound, out=x)
    np.copyto(x[:, padded], 0.0, where=gone[:, padded])
    if weight is None or root is None:
        x -= _row_sums(x) / np.maximum(n, 1)[:, None]
        np.copyto(x[:, padded], 0.0, where=gone[:, padded])
    else:
        x -= root * (_row_sums(root * x) / np.maximum(_row_sums(weight), _ROUNDING))
    return Standardised(x=x, weight=weight, n=n, variance_floor=floor[:, 0] ** 2)


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
    with np.errstate(divide="ignore", invalid="ignore"):
        contrast = _contrast(ready, _sums_before(ready))[0, :-1]
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
    gaps = ordered[:, 1:] - ordered[:, :-1]
    gap = np.where(gaps > 0, gaps, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    rounding = np.where(np.isinf(gap), 0.0, gap / np.sqrt(12.0))
    return np.asarray(np.maximum(rounding, _ROUNDING * np.nan_to_num(np.abs(centre))))


def _sums_before(ready: Standardised) -> Floats:
    """Weighted sums of the deviations up to column 0, 1, .."""
    moment = ready.x if ready.weight is None else np.sqrt(ready.weight) * ready.x
    return np.asarray(np.cumsum(moment, axis=1))


def _contrast(ready: Standardised, before: Floats) -> Floats:
    """Signed sqrt(B) for every split after column 0, 1, ..; any value where nothing is after."""
    if ready.weight is not None:
        weight_before = np.cumsum(ready.weight, axis=1)
        total = weight_before[:, -1:]
        return np.asarray(before * np.sqrt(total / (weight_before * (total - weight_before))))
    k, n = np.arange(1, before.shape[1] + 1), ready.n[:, None]
    return np.asarray(before * np.sqrt(n / (k * (n - k))))


def _side(
    ready: Standardised, before: Floats, contrast: Floats, sign: int, fewest: tuple[int, int]
) -> Side:
    column = _best_column(contrast, ready.n, sign, fewest)
    possible = ready.n >= sum(fewest)
    rows = np.arange(len(column))
    best = np.where(possible, sign * contrast[rows, column], 0.0)
    total = np.vecdot(ready.x, ready.x)
    df = np.maximum(ready.n - 2, 1).astype(float)
    variance = np.maximum((total - best**2) / df, ready.variance_floor)
    t = best / np.sqrt(np.where(variance > 0, variance, 1.0))
    split = np.where(possible, column + 1, 0)
    square, product = _lag_sums(ready, before, total, split)
    # Of a clean step only rounding is left, and its products say nothing.
    r1 = np.where(square > _CLEAN * total, product / square, 0.0)
    phi = np.clip(r1 + (2 + 4 * r1) / np.maximum(ready.n, 1), 0.0, 0.9)
    z = z_from_t(t, df) * np.sqrt((1 - phi) / (1 + phi))
    return Side(z=np.where(possible, z, np.nan), split=split, phi=phi)


def _best_column(contrast: Floats, n: Ints, sign: int, fewest: tuple[int, int]) -> Ints:
    """Return the last column before the best split, of those that leave the fewest after it."""
    width = contrast.shape[1]
    first = min(fewest[0], width) - 1
    signed = sign * contrast[:, first:]
    least = max(first, int(n.min(initial=width)) - fewest[1])
    too_late = np.arange(least, width) >= n[:, None] - fewest[1]
    np.copyto(signed[:, least - first :], -np.inf, where=too_late)
    return np.asarray(np.argmax(signed, axis=1) + first)


def _lag_sums(
    ready: Standardised, before: Floats, total: Floats, split: Ints
) -> tuple[Floats, Floats]:
    """Sums of squares and of lag-1 products of the residuals around the means of both parts."""
    if ready.weight is not None:
        residual = _residuals(ready, before, split)
        return np.vecdot(residual, residual), np.vecdot(residual[:, 1:], residual[:, :-1])
    x, n, rows = ready.x, ready.n, np.arange(len(split))
    last, k = np.maximum(n - 1, 0), np.maximum(split, 1)
    after = np.maximum(n - k, 1)
    step = before[rows, k - 1]
    mean_before, mean_after = step / k, -step / after
    square = total - step * mean_before + step * mean_after
    ends, edge = x[rows, 0], x[rows, k - 1]
    next_edge = x[rows, np.minimum(k, last)]
    product = np.vecdot(x[:, 1:], x[:, :-1])
    product -= mean_before * (2 * step - ends - edge + next_edge)
    product -= mean_after * (edge - 2 * step - x[rows, last] - next_edge)
    product += (k - 1) * mean_before**2 + mean_before * mean_after + (after - 1) * mean_after**2
    return square, product


def _residuals(ready: Standardised, before: Floats, split: Ints) -> Floats:
    weight = np.asarray(ready.weight)
    is_before = np.arange(weight.shape[1]) < split[:, None]
    sum_before = before[np.arange(len(split)), np.maximum(split, 1) - 1][:, None]
    weight_before = _row_sums(np.where(is_before, weight, 0.0))
    weight_after = _row_sums(weight) - weight_before
    mean_before = sum_before / np.maximum(weight_before, _ROUNDING)
    mean_after = -sum_before / np.maximum(weight_after, _ROUNDING)
    return np.asarray(ready.x - np.sqrt(weight) * np.where(is_before, mean_before, mean_after))


def _packed(y: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Move missing values behind the others, keeping the order; nothing to do where they are."""
    gone = np.isnan(y)
    if not (gone[:, :-1] & ~gone[:, 1:]).any():
        return y, counts
    order = np.argsort(gone, axis=1, kind="stable")
    return np.take_along_axis(y, order, 1), np.take_along_axis(counts, order, 1)


def _row_sums(block: Floats) -> Floats:
    return np.asarray(block.sum(axis=1, keepdims=True))
