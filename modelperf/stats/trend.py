"""Is a series getting worse, and how fast, told by a label that does not flicker."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy import special

from modelperf.stats.robust_line import Lines, fit_lines
from modelperf.stats.t_process import Flags, Floats

FEWEST = 10
ENTER, LEAVE = 0.001, 0.1
COVERAGE = 0.95
CLEAR = 2.0  # standard errors that a level must be off zero to have a side


class Direction(StrEnum):
    """Where a series is heading."""

    IMPROVING = "improving"
    STABLE = "stable"
    DEGRADING = "degrading"


HEADINGS = {1.0: Direction.DEGRADING, 0.0: Direction.STABLE, -1.0: Direction.IMPROVING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The trend of one series over its last evaluations.

    Attributes
    ----------
    direction : Direction
        The label, with hysteresis.
    rate : float or None
        Change a day on the metric's own scale, positive = getting worse; None with fewer than 10
        evaluations or when all fall on one moment.
    low, high : float or None
        95 % interval of the rate.
    percent : float or None
        The rate in percent of the level, a day; None where the level is zero or zero is the target.
    p_value : float or None
        Two-sided, of the rate at the last evaluation alone.
    level : float or None
        Fitted value in the middle of the window.
    phi : float or None
        Allowance for lag-1 autocorrelation of the residuals.
    n : int
        Evaluations fitted, at most the window.
    insufficient_data : bool
        No rate could be estimated; the direction is then stable.
    """

    direction: Direction
    rate: float | None
    low: float | None
    high: float | None
    percent: float | None
    p_value: float | None
    level: float | None
    phi: float | None
    n: int
    insufficient_data: bool


def trend(
    days: ArrayLike,
    values: ArrayLike,
    *,
    higher_is_better: bool = False,
    target_zero: bool = False,
    window: int = 60,
) -> Trend:
    """Estimate the trend of a series and label it.

    The label is a fold over the prefixes of what is given, each judged on its last `window`
    evaluations: it becomes degrading or improving at p < .001 and stable again at p > .1 or when
    the slope turns. The same evaluations give the same label, whenever and however often asked.

    Parameters
    ----------
    days : array_like, shape (n,)
        Times in days, ascending; gaps and ties are allowed.
    values : array_like, shape (n,)
        The metric as recorded. Evaluations that are not finite are left out.
    higher_is_better : bool
        Orientation of the metric; without meaning where zero is the target.
    target_zero : bool
        The metric (a signed bias) should be zero: worse means away from it, by the sign of the
        level. A level within two standard errors of zero has no side, so no label is entered on it.
    window : int
        Evaluations fitted, at least 10.

    Returns
    -------
    Trend
        Constant values: stable, rate 0, p 1. An exact line: p 0.

    Raises
    ------
    ValueError
        Different lengths, more than one dimension, descending or infinite days, `window` below 10.
    """
    x, y = finite(days, values, window)
    n = min(x.size, window)
    if n < FEWEST or x[-1] == x[-n]:
        return _insufficient(n)
    lines = fit_lines(*_windows(x, y, window))
    worse = _worse(lines, higher_is_better=higher_is_better, target_zero=target_zero)
    rate, level = float(lines.slope[-1] * worse[-1]), float(lines.level[-1])
    reach = float(lines.slope_error[-1] * special.stdtrit(lines.df[-1], (1 + COVERAGE) / 2))
    return Trend(
        direction=_labels(lines, worse, target_zero=target_zero)[-1],
        rate=rate,
        low=rate - reach,
        high=rate + reach,
        percent=None if target_zero or level == 0 else 100 * rate / abs(level),
        p_value=float(lines.p_value[-1]),
        level=level,
        phi=float(lines.phi[-1]),
        n=n,
        insufficient_data=False,
    )


def directions(
    days: ArrayLike,
    values: ArrayLike,
    *,
    higher_is_better: bool = False,
    target_zero: bool = False,
    window: int = 60,
) -> list[Direction]:
    """Return the label at each evaluation, as `trend` gave it when that was the last one.

    Parameters
    ----------
    days, values, higher_is_better, target_zero, window
        As in `trend`.

    Returns
    -------
    list of Direction
        One for each finite value; the first nine are stable.

    Raises
    ------
    ValueError
        As in `trend`.
    """
    x, y = finite(days, values, window)
    young = [Direction.STABLE] * min(x.size, FEWEST - 1)
    if x.size < FEWEST:
        return young
    lines = fit_lines(*_windows(x, y, window))
    worse = _worse(lines, higher_is_better=higher_is_better, target_zero=target_zero)
    return young + _labels(lines, worse, target_zero=target_zero)


def finite(days: ArrayLike, values: ArrayLike, window: int) -> tuple[Floats, Floats]:
    """Check times and values, and leave out the values that are not finite.

    Parameters
    ----------
    days, values, window
        As in `trend`.

    Returns
    -------
    tuple of ndarray
        Days and values, of equal length.

    Raises
    ------
    ValueError
        As in `trend`.
    """
    if window < FEWEST:
        raise ValueError(f"window must be at least {FEWEST}")
    x, y = np.asarray(days, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError("days and values must be one-dimensional and of equal length")
    if not np.isfinite(x).all() or np.any(x[1:] < x[:-1]):
        raise ValueError("days must be finite and ascending")
    finite = np.isfinite(y)
    return x[finite], y[finite]


def _insufficient(n: int) -> Trend:
    return Trend(
        direction=Direction.STABLE,
        rate=None,
        low=None,
        high=None,
        percent=None,
        p_value=None,
        level=None,
        phi=None,
        n=n,
        insufficient_data=True,
    )


def _windows(x: Floats, y: Floats, window: int) -> tuple[Floats, Floats, Flags]:
    """Return, for each prefix of at least 10, its last `window` values, right-aligned."""
    width = min(window, x.size)
    rows = slice(FEWEST - 1, None)
    x_rows = sliding_window_view(np.concatenate([np.full(width - 1, x[0]), x]), width)[rows]
    y_rows = sliding_window_view(np.concatenate([np.full(width - 1, y[0]), y]), width)[rows]
    prefix = np.arange(FEWEST, x.size + 1)
    inside = np.arange(width)[None, :] >= width - np.minimum(prefix, width)[:, None]
    return x_rows, y_rows, inside


def _worse(lines: Lines, *, higher_is_better: bool, target_zero: bool) -> Floats:
    """Return +1 where a rising value is getting worse, -1 where a falling one is."""
    if target_zero:
        return np.where(lines.level < 0, -1.0, 1.0)
    return np.full(lines.level.shape, -1.0 if higher_is_better else 1.0)


def _labels(lines: Lines, worse: Floats, *, target_zero: bool) -> list[Direction]:
    """Fold: a significant slope enters its label, an insignificant or turned one leaves it."""
    sign = np.sign(lines.slope) * worse
    if target_zero:
        sign = np.where(np.abs(lines.level) > CLEAR * lines.level_error, sign, 0.0)
    state, labels = 0.0, []
    for p, heading in zip(lines.p_value.tolist(), sign.tolist(), strict=True):
        if p < ENTER and heading:
            state = heading
        elif p > LEAVE or heading * state < 0:
            state = 0.0
        labels.append(HEADINGS[state])
    return labels
