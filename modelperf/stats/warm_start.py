"""A new model version is judged from its tenth evaluation on, by the noise of the version before.

`benchmarks/statistics_warm_start.py` measures what that costs and finds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.change_point import Side, scan, standardise
from modelperf.stats.order_statistics import row_quantile
from modelperf.stats.orientation import orient
from modelperf.stats.results import FoldState, MetricKind, Rules
from modelperf.stats.tails import z_from_t

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

REMEMBERED = 400
FEWEST = 10
FEWEST_EACH_SIDE = 5
WEIGHT_OF_VARIANCE = 20.0
WEIGHT_OF_PHI = 30.0
REACH = 3.0
_LARGEST_PHI = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Noise of the version before, per series: variance on the oriented scale, and phi."""

    variance: Floats
    phi: Floats


def first_state(values: ArrayLike, sample_counts: ArrayLike, *, rules: Rules) -> FoldState:
    """Return the state in which the fold of a new version begins.

    Parameters
    ----------
    values, sample_counts : array_like, shape (evaluations,)
        The version before, as `fold.judge` takes it: its last `REMEMBERED` evaluations.
    rules : Rules
        The rules of the new version.

    Returns
    -------
    FoldState
        Nothing seen, with the `prior` of the version before. Without one where it has fewer than
        14 values, and where a metric may get worse in both directions (``TARGET_ZERO``). Computed
        for one series alone, so that it is the same bit by bit whatever is judged beside it.
    """
    values, counts = np.asarray(values, float), np.asarray(sample_counts, float)
    there = np.isfinite(values)
    if rules.kind is MetricKind.TARGET_ZERO or not there.any():
        return FoldState()
    with np.errstate(over="ignore", invalid="ignore"):
        oriented = orient(values[there], counts[there], rules.kind)
        found = prior(oriented[None, :], counts[None, there])
    variance, phi = float(found.variance[0]), float(found.phi[0])
    if not (np.isfinite(variance) and np.isfinite(phi)):
        return FoldState()
    return FoldState(prior_variance=variance, prior_phi=phi)


def prior(oriented: ArrayLike, sample_counts: ArrayLike | None = None) -> Prior:
    """Measure the noise of series around their best change.

    Parameters
    ----------
    oriented : array_like, shape (series, evaluations)
        The version before, where higher is better; padded with NaN on the right.
    sample_counts : array_like, same shape, optional
        Rows behind each value; 0 where not reported.

    Returns
    -------
    Prior
        Variance and autocorrelation of the winsorised deviations from the two medians around the
        stronger of best fall and best rise; the variance is NaN with fewer than 14 evaluations.
    """
    y = np.asarray(oriented, float)
    counts = np.zeros_like(y) if sample_counts is None else np.asarray(sample_counts, float)
    found = scan(y, counts)
    is_rise = np.nan_to_num(found.rise.z) > np.nan_to_num(found.fall.z)
    split = np.where(is_rise, found.rise.split, found.fall.split)
    is_before = np.arange(y.shape[1]) < split[:, None]
    middles = (_medians(np.where(part, y, np.nan)) for part in (is_before, ~is_before))
    x, _, n = _standardised(y - np.where(is_before, next(middles), next(middles)), counts)
    square = (x * x).sum(axis=1)
    r1 = (x[:, 1:] * x[:, :-1]).sum(axis=1) / np.where(square > 0, square, 1.0)
    return Prior(
        variance=np.where(split > 0, square / np.maximum(n - 2, 1), np.nan),
        phi=_bias_removed(r1, n),
    )


def warm_fall(oriented: ArrayLike, sample_counts: ArrayLike | None, before: Prior) -> Side:
    """Look for the most likely fall of short series with the noise of the version before.

    Parameters
    ----------
    oriented : array_like, shape (series, evaluations)
        The new version, where higher is better; NaN at the padding on the right.
    sample_counts : array_like, same shape, or None
        Rows behind each value; 0 where not reported.
    before : Prior
        One for each series.

    Returns
    -------
    Side
        Of splits with at least 5 evaluations on either side, ``T = sqrt(B)/s``, ``s² = (20 s0² +
        SS)/(20 + t - 2)`` with SS around the two means and ``s0²`` the larger of the prior
        variance and half the mean squared difference of neighbours; ``phi = (t phi^ + 30
        phi0)/(t + 30)``, never below ``phi^``. ``Z`` as in `change_point.scan` with 20 + t - 2
        degrees of freedom; NaN with fewer than 10 evaluations or without a prior.
    """
    y = np.asarray(oriented, float)
    counts = np.zeros_like(y) if sample_counts is None else np.asarray(sample_counts, float)
    x, root, n = _standardised(y, counts)
    k = np.arange(1, x.shape[1] + 1)
    allowed = (k >= FEWEST_EACH_SIDE) & (k <= n[:, None] - FEWEST_EACH_SIDE)
    contrast = np.where(allowed, _contrast(x, root), -np.inf)
    split = np.argmax(contrast, axis=1) + 1
    possible = (n >= FEWEST) & np.isfinite(before.variance)
    best = np.where(possible, contrast[np.arange(len(x)), split - 1], 0.0)
    rest = np.maximum((x * x).sum(axis=1) - best**2, 0.0)
    df = WEIGHT_OF_VARIANCE + n - 2
    own = np.maximum(before.variance, _half_mean_squared_difference(x, root, n))
    variance = (WEIGHT_OF_VARIANCE * own + rest) / df
    phi = _phi(x, root, n, split, before.phi)
    t = best / np.sqrt(np.where(variance > 0, variance, 1.0))
    z = z_from_t(t, df.astype(float)) * np.sqrt((1 - phi) / (1 + phi))
    return Side(z=np.where(possible, z, np.nan), split=np.where(possible, split, 0), phi=phi)


def split_statistics(oriented: Floats, sample_counts: Floats, before: Prior) -> Floats:
    """Return ``Z`` of every split, by the arguments of `warm_fall`.

    Returns
    -------
    ndarray, shape (series, evaluations)
        Of the split after each evaluation, by the phi of the best one; NaN where none is allowed.
    """
    x, root, n = _standardised(oriented, sample_counts)
    contrast = _contrast(x, root)
    df = (WEIGHT_OF_VARIANCE + n[:, None] - 2).astype(float)
    rest = np.maximum((x * x).sum(axis=1, keepdims=True) - contrast**2, 0.0)
    own = np.maximum(before.variance, _half_mean_squared_difference(x, root, n))
    variance = (WEIGHT_OF_VARIANCE * own[:, None] + rest) / df
    phi = warm_fall(oriented, sample_counts, before).phi[:, None]
    t = contrast / np.sqrt(np.where(variance > 0, variance, 1.0))
    z = z_from_t(t, df) * np.sqrt((1 - phi) / (1 + phi))
    k = np.arange(1, x.shape[1] + 1)
    allowed = (k >= FEWEST_EACH_SIDE) & (k <= n[:, None] - FEWEST_EACH_SIDE)
    return np.asarray(np.where(allowed, z, np.nan))


def _standardised(y: Floats, counts: Floats) -> tuple[Floats, Floats, Ints]:
    """Winsorised weighted deviations, roots of the weights (0 at the padding), and lengths."""
    ready, here = standardise(y, counts, REACH), ~np.isnan(y)
    root = here.astype(float) if ready.weight is None else np.sqrt(ready.weight)
    return ready.x, root, ready.n


def _contrast(x: Floats, root: Floats) -> Floats:
    """Signed sqrt(B) for every split after column 0, 1, ..; 0 where nothing lies after."""
    before, weight = np.cumsum(root * x, axis=1), np.cumsum(root**2, axis=1)
    balance = weight * (weight[:, -1:] - weight) / np.maximum(weight[:, -1:], 1e-300)
    return np.asarray(
        np.divide(
            before,
            np.sqrt(np.maximum(balance, 1e-300)),
            where=balance > 1e-12,
            out=np.zeros_like(before),
        )
    )


def _half_mean_squared_difference(x: Floats, root: Floats, n: Ints) -> Floats:
    both = (root[:, 1:] > 0) & (root[:, :-1] > 0)
    square = np.where(both, (x[:, 1:] - x[:, :-1]) ** 2, 0.0).sum(axis=1)
    return np.asarray(square / (2 * np.maximum(n - 1, 1)))


def _phi(x: Floats, root: Floats, n: Ints, split: Ints, before: Floats) -> Floats:
    is_before = np.arange(x.shape[1]) < split[:, None]
    residual = x.copy()
    for part in (is_before, ~is_before):
        weight = np.where(part, root**2, 0.0).sum(axis=1, keepdims=True)
        mean = np.where(part, root * x, 0.0).sum(axis=1, keepdims=True)
        residual -= np.where(part, root * mean / np.maximum(weight, 1e-300), 0.0)
    square = (residual**2).sum(axis=1)
    r1 = (residual[:, 1:] * residual[:, :-1]).sum(axis=1) / np.where(square > 0, square, 1.0)
    measured = _bias_removed(r1, n)
    drawn = (n * measured + WEIGHT_OF_PHI * before) / (n + WEIGHT_OF_PHI)
    return np.asarray(np.maximum(measured, drawn))


def _bias_removed(r1: Floats, n: Ints) -> Floats:
    return np.asarray(np.clip(r1 + (2 + 4 * r1) / np.maximum(n, 1), 0.0, _LARGEST_PHI))


def _medians(block: Floats) -> Floats:
    n = (~np.isnan(block)).sum(axis=1)[:, None]
    return row_quantile(np.sort(block, axis=1), n, 0.5)
