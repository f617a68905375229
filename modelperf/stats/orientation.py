"""One scale for every metric: higher is better, and the noise is close to normal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.order_statistics import row_median
from modelperf.stats.results import HIGHER_IS_BETTER, MetricKind

Floats = NDArray[np.float64]

# A season that is taken out may lift a share beyond 1, but not by so much; percents are beyond it.
_OVERSHOOT = 1.0
_SMALLEST_LOSS = float(np.nextafter(0.0, 1.0))  # half of it would be zero again
_SMALLEST_UNIT = float(np.finfo(np.float64).tiny)  # a part of what is smaller may be zero

_KINDS = {
    "r_squared": MetricKind.R_SQUARED,
    "rmse": MetricKind.LOSS,
    "mse": MetricKind.LOSS,
    "mae": MetricKind.LOSS,
    "mape": MetricKind.LOSS,
    "smape": MetricKind.LOSS,
    "cv_rmse": MetricKind.LOSS,
    "log_loss": MetricKind.LOSS,
    "precision_score": MetricKind.PROPORTION,
    "recall_score": MetricKind.PROPORTION,
    "f1_score": MetricKind.PROPORTION,
    "accuracy": MetricKind.PROPORTION,
    "nmbe": MetricKind.TARGET_ZERO,
    "bias": MetricKind.TARGET_ZERO,
}


def kind_of(metric_name: str) -> MetricKind | None:
    """Return the kind of a registered metric, or None for a name nobody registered."""
    return _KINDS.get(metric_name)


def orient(values: ArrayLike, sample_counts: ArrayLike, kind: MetricKind) -> Floats:
    """Map metric values to a scale on which higher is better.

    Parameters
    ----------
    values : array_like, shape (..., evaluations)
        The metric in its own unit; NaN where missing.
    sample_counts : array_like, same shape
        Rows behind each value, 0 where not reported; used by proportions alone.
    kind : MetricKind
        How the metric is read.

    Returns
    -------
    ndarray of float64, same shape
        ``-log(1 - r2)`` for R², ``-log(x)`` for losses, the Anscombe arcsine for proportions (the
        plain one where the count is not reported), ``-x`` for other metrics where lower is
        better, ``x`` otherwise (``TARGET_ZERO`` has no better side). NaN stays NaN.

    Notes
    -----
    A loss of zero (R² of 1) is floored at half the smallest positive loss of its series, so that
    scaling a loss moves every value alike; a series of zeros maps to zeros. A series with a
    negative loss has no logarithm and is mapped by ``-x``. A proportion beyond [0, 1], such as
    one in percent, goes on in a straight line from the end of its scale.
    Anscombe (1948), Biometrika 35, 246-254.
    """
    values = np.asarray(values, float)
    match kind:
        case MetricKind.R_SQUARED:
            return -_log(np.maximum(1.0 - values, 0.0))
        case MetricKind.LOSS:
            return -_log(values)
        case MetricKind.PROPORTION:
            return _arcsine(values, np.asarray(sample_counts, float))
        case MetricKind.LOWER:
            return -values
        case _:
            return values.copy()


def metric_value(oriented: ArrayLike, sample_counts: ArrayLike, kind: MetricKind) -> Floats:
    """Map oriented values back to the metric's own unit.

    Parameters
    ----------
    oriented : array_like, shape (..., evaluations)
        Values on the scale of `orient`; NaN where missing.
    sample_counts : array_like, same shape
        Rows behind each value, 0 where not reported; used by proportions alone.
    kind : MetricKind
        How the metric is read.

    Returns
    -------
    ndarray of float64, same shape
        The inverse of `orient` (up to its floor under losses of zero). Proportions lie in [0, 1]
        unless they are so far beyond that they cannot be shares.
    """
    oriented = np.asarray(oriented, float)
    match kind:
        case MetricKind.R_SQUARED:
            return np.asarray(1.0 - np.exp(-oriented))
        case MetricKind.LOSS:
            return np.asarray(np.exp(-oriented))
        case MetricKind.PROPORTION:
            return _share(oriented, np.asarray(sample_counts, float))
        case MetricKind.LOWER:
            return -oriented
        case _:
            return oriented.copy()


def orient_one_by_one(values: Floats, counts: Floats, kind: MetricKind) -> Floats | None:
    """Return `orient` of a series where it is the same in every part of the series, else None.

    It is not where a zero loss must be floored by the smallest loss of its part, or where a loss
    is negative.
    """
    if kind not in (MetricKind.R_SQUARED, MetricKind.LOSS):
        return orient(values, counts, kind)
    loss = 1.0 - values if kind is MetricKind.R_SQUARED else values
    return np.asarray(-np.log(loss)) if (loss > 0).all() else None


def level(values: Floats, weights: Floats, kind: MetricKind) -> float:
    """Return the robust mean level of some evaluations on the metric's own scale.

    Parameters
    ----------
    values : ndarray, shape (evaluations,)
        The metric in its own unit, finite, at least one.
    weights : ndarray, same shape
        Positive weights.
    kind : MetricKind
        Losses are averaged as logarithms, R² as ``log(1 - r2)``, others as they are.

    Returns
    -------
    float
        The mean of `robust_mean`, in the metric's unit.
    """
    return float(levels(values[None, :], weights[None, :], kind)[0])


def levels(values: Floats, weights: Floats, kind: MetricKind) -> Floats:
    """Return the `level` of each row, shape (rows, evaluations) with NaN where there is none."""
    if kind is MetricKind.R_SQUARED:
        return np.asarray(1.0 - _mean_losses(np.maximum(1.0 - values, 0.0), weights))
    if kind is MetricKind.LOSS:
        return _mean_losses(values, weights)
    return _robust_means(values, weights)


def robust_mean(values: Floats, weights: Floats) -> float:
    """Return the weighted mean of values winsorised at 3 MAD/.6745 around their median.

    Where more than half the values are equal nothing is winsorised.
    """
    return float(_robust_means(values[None, :], weights[None, :])[0])


def winsorised(values: Floats) -> Floats:
    """Return the values, shape (evaluations,), clipped at 3 MAD/.6745 around their median."""
    return np.asarray(_winsorised(values[None, :])[0])


def _robust_means(values: Floats, weights: Floats) -> Floats:
    here = ~np.isnan(values)
    share = np.where(here, weights, 0.0)
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray(np.where(here, share * _winsorised(values), 0.0).sum(axis=1))


def _winsorised(values: Floats) -> Floats:
    n = np.count_nonzero(~np.isnan(values), axis=1)[:, None]
    centre = row_median(np.sort(values, axis=1), n)
    with np.errstate(over="ignore"):
        deviation = np.sort(np.abs(values - centre), axis=1)
        reach = 3.0 * row_median(deviation, n) / 0.6745
        reach = np.where(reach > 0, reach, np.inf)
        return np.asarray(np.clip(values, centre - reach, centre + reach))


def effect(before: float, after: float, kind: MetricKind) -> float:
    """Return how much worse a metric became.

    Parameters
    ----------
    before, after : float
        Levels on the metric's own scale.
    kind : MetricKind
        Direction of the metric.

    Returns
    -------
    float
        ``TARGET_ZERO``: growth of the absolute level, in its unit. Otherwise the change relative
        to the absolute level before, positive where worse; a level before of (nearly) zero counts
        as a millionth of the level after, so that the ratio stays finite. 0 without a change.
    """
    if kind is MetricKind.TARGET_ZERO:
        return abs(after) - abs(before)
    unit = max(abs(before), 1e-6 * abs(after), _SMALLEST_UNIT)
    if before == after:
        return 0.0
    growth = after / unit - before / unit
    return -growth if kind in HIGHER_IS_BETTER else growth


def _log(loss: Floats) -> Floats:
    """Logarithm of non-negative losses with zeros floored; the losses where one is negative."""
    with np.errstate(invalid="ignore"):
        usable = not (loss <= 0).any()
    return np.log(loss) if usable else _floored_log(loss)


def _floored_log(loss: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        smallest = np.where(loss > 0, loss, np.inf).min(axis=-1, keepdims=True)
        negative = (loss < 0).any(axis=-1, keepdims=True)
        floor = np.where(np.isinf(smallest), 1.0, np.maximum(smallest / 2, _SMALLEST_LOSS))
        return np.where(negative, loss, np.log(np.maximum(loss, floor)))


def _arcsine(values: Floats, counts: Floats) -> Floats:
    share = np.clip(values, 0.0, 1.0)
    reported = counts > 0
    n = np.where(reported, counts, 1.0)
    anscombe = (share * n + 0.375) / (n + 0.75)
    # What lies beyond is added: nothing at all to a share, so that no bit of it changes.
    return np.asarray(np.arcsin(np.sqrt(np.where(reported, anscombe, share)))) + (values - share)


def _share(oriented: Floats, counts: Floats) -> Floats:
    share = np.sin(np.clip(oriented, 0.0, np.pi / 2)) ** 2
    n = np.where(counts > 0, counts, 1.0)
    share = np.where(counts > 0, (share * (n + 0.75) - 0.375) / n, share)
    share = np.clip(share, 0.0, 1.0)
    least, most = _arcsine(np.zeros_like(n), counts), _arcsine(np.ones_like(n), counts)
    beyond = oriented - np.clip(oriented, least, most)
    is_share = ~(np.abs(beyond) > _OVERSHOOT)
    return np.asarray(np.where(is_share, share, share + beyond))


def _mean_losses(loss: Floats, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        negative, positive = (loss < 0).any(axis=1), (loss > 0).any(axis=1)
    mean = _robust_means(_log(loss), weights)
    logarithmic = np.exp(np.where(negative, 0.0, mean))
    return np.where(negative, mean, np.where(positive, logarithmic, 0.0))
