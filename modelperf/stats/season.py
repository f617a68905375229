"""A season that the policy declares: taken out of the series and out of the step alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.change_point import standardise
from modelperf.stats.fleet import FEWEST_AFTER, FEWEST_BEFORE
from modelperf.stats.orientation import metric_value, orient
from modelperf.stats.results import MetricKind, Rules

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]

FEWEST_DF = 10
_COLLINEAR = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """Season and best step of each series, fitted together.

    ``season`` and ``step`` (height times 0 or 1) are zero where nothing could be fitted; ``share``
    is what of the step's variance no season explains.
    """

    season: Floats
    step: Floats
    share: Floats


def removed(
    oriented: ArrayLike, times_days: ArrayLike, *, period_days: float, harmonics: int = 2
) -> Floats:
    """Take the season out of series, and out of their best step what may be season of it.

    Parameters
    ----------
    oriented : array_like, shape (series, evaluations)
        Values where higher is better, in order of time; NaN where missing.
    times_days : array_like, shape (evaluations,) or that of `oriented`
        When each was evaluated, in days from any day; dates may be irregular.
    period_days : float
        Length of the season, 365.25 for a year.
    harmonics : int
        Pairs of sine and cosine, at least 1.

    Returns
    -------
    ndarray of float64, shape (series, evaluations)
        Series of the same mean, to be judged like any other, from their first evaluation on:
        with each new one the season is fitted anew and the past values move a little. Unchanged
        where fewer than ``12 + 2 harmonics`` evaluations are there.

    Raises
    ------
    ValueError
        If shapes differ, or period or harmonics are out of range.

    Notes
    -----
    Sines, cosines and a step at every split are fitted together (Frisch & Waugh 1933, Econometrica
    1, 387-401). What is fitted of the season at the best split is taken out. The step stays only
    by the share of its variance that no season explains: within a single period both look alike,
    and a step left whole beside a season taken out would alarm on nine of ten unchanged series.
    """
    y, days = np.asarray(oriented, float), np.asarray(times_days, float)
    if y.ndim != 2 or days.shape not in (y.shape, y.shape[1:]):
        raise ValueError("a season wants series of shape (series, evaluations) and their times")
    if not period_days > 0 or harmonics < 1:
        raise ValueError("period_days is positive, harmonics at least 1")
    if y.shape[1] == 0:
        return y.copy()
    gone = np.isnan(y)
    order = np.argsort(gone, axis=1, kind="stable")
    packed = np.take_along_axis(y, order, axis=1)
    at = np.take_along_axis(np.broadcast_to(days, y.shape), order, axis=1)
    waves = _waves(np.where(np.isnan(packed), 0.0, at), period_days, harmonics)
    taken = np.empty_like(y)
    np.put_along_axis(taken, order, _taken(packed, waves), axis=1)
    return np.asarray(y - taken)


def judged_values(
    values: ArrayLike, sample_counts: ArrayLike, times_days: ArrayLike, rules: Rules
) -> Floats:
    """Return what `fold.judge` is to judge: the values, without their season where rules name one.

    Parameters
    ----------
    values, sample_counts, times_days : array_like, shape (evaluations,)
        As in `values_without_season`, the whole history where there is a season.
    rules : Rules
        The rules.

    Returns
    -------
    ndarray of float64, shape (evaluations,)
    """
    if rules.season_period_days is None:
        return np.asarray(values, float)
    return values_without_season(
        values,
        sample_counts,
        times_days,
        kind=rules.kind,
        period_days=rules.season_period_days,
        harmonics=rules.season_harmonics,
    )


def values_without_season(
    values: ArrayLike,
    sample_counts: ArrayLike,
    times_days: ArrayLike,
    *,
    kind: MetricKind,
    period_days: float,
    harmonics: int = 2,
) -> Floats:
    """Take the season out of one series in the metric's own unit.

    Parameters
    ----------
    values, sample_counts, times_days : array_like, shape (evaluations,)
        The metric, the rows behind each value (0 where not reported) and when each was evaluated.
    kind : MetricKind
        How the metric is read: the season is removed on its oriented scale.
    period_days, harmonics
        As in `removed`.

    Returns
    -------
    ndarray of float64, shape (evaluations,)
        What `fold.judge` is to judge, without a state; values that are not finite stay missing.

    Raises
    ------
    ValueError
        As `removed`.
    """
    raw, counts = np.asarray(values, float), np.asarray(sample_counts, float)
    oriented = orient(np.where(np.isfinite(raw), raw, np.nan), counts, kind)
    free = removed(oriented[None, :], times_days, period_days=period_days, harmonics=harmonics)
    return metric_value(free[0], counts, kind)


def _waves(days: Floats, period: float, harmonics: int) -> Floats:
    """Sines and cosines, shape (series, evaluations, 2 harmonics)."""
    angle = 2 * np.pi / period * days[:, :, None] * np.arange(1, harmonics + 1)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=2)


def _taken(y: Floats, waves: Floats) -> Floats:
    """Fit twice: outliers are winsorised where a first season no longer hides them."""
    first = _fit(y, waves)
    second = _fit(y - first.season, waves)
    taken = first.season + second.season + (1 - second.share[:, None]) * second.step
    here = ~np.isnan(y)
    n = np.maximum(here.sum(axis=1, keepdims=True), 1)
    mean = np.where(here, taken, 0.0).sum(axis=1, keepdims=True) / n
    return np.where(here & second.step.any(axis=1, keepdims=True), taken - mean, 0.0)


def _fit(y: Floats, waves: Floats) -> _Fit:
    ready, here = standardise(y, np.zeros_like(y)), ~np.isnan(y)
    level_and_waves = np.concatenate([np.ones_like(waves[:, :, :1]), waves], axis=2)
    basis = np.linalg.qr(level_and_waves * here[:, :, None])[0]
    split = _best_split(ready.x, here, basis)
    step = (np.arange(y.shape[1]) < split[:, None]) * here.astype(float)
    regressors = np.concatenate([level_and_waves, step[:, :, None]], axis=2) * here[:, :, None]
    moments, product = (_transposed(regressors) @ x for x in (regressors, ready.x[:, :, None]))
    fitted = np.linalg.pinv(moments, hermitian=True) @ product
    fitted[split == 0] = 0.0
    return _Fit(
        season=(waves @ fitted[:, 1:-1])[:, :, 0],
        step=step * fitted[:, -1],
        share=_share(ready.n, step, basis),
    )


def _best_split(x: Floats, here: Flags, basis: Floats) -> Ints:
    """Evaluations before the step that explains most beside the season; 0 where none is allowed."""
    free, n = x - _onto(basis, x), here.sum(axis=1, keepdims=True)
    length = np.cumsum(here, axis=1) - (np.cumsum(basis, axis=1) ** 2).sum(axis=2)
    k = np.arange(1, x.shape[1] + 1)
    allowed = (k >= FEWEST_BEFORE) & (k <= n - FEWEST_AFTER) & (length > _COLLINEAR * n)
    allowed &= n - 1 - basis.shape[2] >= FEWEST_DF
    explained = np.cumsum(free, axis=1) ** 2 / np.where(allowed, length, 1.0)
    best = np.argmax(np.where(allowed, explained, -1.0), axis=1)
    return np.where(allowed.any(axis=1), best + 1, 0)


def _share(n: Ints, step: Floats, basis: Floats) -> Floats:
    before = step.sum(axis=1)
    plain = before * (n - before) / np.maximum(n, 1)
    left = ((step - _onto(basis, step)) ** 2).sum(axis=1)
    return np.asarray(np.clip(left / np.where(plain > 0, plain, 1.0), 0.0, 1.0))


def _onto(basis: Floats, x: Floats) -> Floats:
    """Project each series onto its basis."""
    return np.asarray((basis @ (_transposed(basis) @ x[:, :, None]))[:, :, 0])


def _transposed(block: Floats) -> Floats:
    return np.asarray(block.swapaxes(1, 2))
