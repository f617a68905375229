"""When a metric crosses its limit, if it goes on like this.

References
----------
Fieller, E. C. (1954). "Some problems in interval estimation". J. R. Statist. Soc. B 16, 175-185.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from modelperf.stats.robust_line import fit_lines
from modelperf.stats.t_process import Floats
from modelperf.stats.trend import FEWEST, finite

HORIZON_DAYS = 365.0
COVERAGE = 0.95


class OutlookStatus(StrEnum):
    """Whether the limit will be crossed."""

    CROSSED = "crossed"
    CROSSES = "crosses"
    OVERDUE = "overdue"
    NOT_WITHIN_A_YEAR = "not_within_a_year"
    NO_LIMIT = "no_limit"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """When the line through a series crosses its limit, in the days that were given.

    Attributes
    ----------
    status : OutlookStatus
        By the line itself; ``crossed`` only where the line is surely beyond the limit already,
        ``overdue`` where it crosses before now and no evaluation has surely said so.
    crosses_at : float or None
        When the line crosses; None where it does not within the horizon, or has already.
    earliest, latest : float or None
        The interval of the crossing; None where that end is not within the horizon, or where the
        limit is crossed. An interval may begin within the horizon though the line crosses later.
    """

    status: OutlookStatus
    crosses_at: float | None = None
    earliest: float | None = None
    latest: float | None = None


def outlook(
    days: ArrayLike,
    values: ArrayLike,
    *,
    limit: float | None,
    higher_is_better: bool = False,
    target_zero: bool = False,
    now: float | None = None,
    window: int = 60,
    horizon: float = HORIZON_DAYS,
    coverage: float = COVERAGE,
) -> Outlook:
    """Tell when a series crosses its limit if its trend goes on, with an interval.

    The line is that of `trend`, and so is its error, autocorrelation included. The interval has
    the moments at which the limit lies within the line's confidence band (Fieller 1954), the noise
    of single evaluations left aside: it is about the level. Where the slope is not surely towards
    the limit, the interval has no end.

    Parameters
    ----------
    days, values, window
        As in `trend`.
    limit : float or None
        On the metric's own scale; None where there is none.
    higher_is_better, target_zero : bool
        As in `trend`. Where zero is the target the limit holds on both sides of it.
    now : float, optional
        The present, in the days that were given. Default: the newest evaluation.
    horizon : float
        Days after the newest evaluation beyond which nothing is told.
    coverage : float
        Nominal coverage of the interval, between 0 and 1.

    Returns
    -------
    Outlook
        Fewer than 10 evaluations, or all at one moment: ``insufficient_data``. A level that may
        be on either side of the limit, with the line beyond: it crosses at the newest evaluation.

    Raises
    ------
    ValueError
        As in `trend`.
    """
    if limit is None:
        return Outlook(status=OutlookStatus.NO_LIMIT)
    x, y = finite(days, values, window)
    n = min(x.size, window)
    if n < FEWEST or x[-1] == x[-n]:
        return Outlook(status=OutlookStatus.INSUFFICIENT_DATA)
    unit = _unit(y[-n:])
    line = _Line.through(x[-n:], y[-n:] / unit, coverage)
    # Worse is up for losses, down where higher is better, both where zero is the target.
    limits = [(-1.0 if higher_is_better else 1.0, limit / unit)]
    if target_zero:
        limits = [(side, side * limit / unit) for side in (1.0, -1.0)]
    crossings = [line.crossing(side, position, horizon) for side, position in limits]
    if None in crossings:
        return Outlook(status=OutlookStatus.CROSSED)
    at, earliest, latest = (min(ends) for ends in zip(*filter(None, crossings), strict=True))
    return Outlook(
        status=_status(at, now),
        crosses_at=_within(at),
        earliest=_within(earliest),
        latest=_within(latest),
    )


def _status(at: float, now: float | None) -> OutlookStatus:
    if at == inf:
        return OutlookStatus.NOT_WITHIN_A_YEAR
    return OutlookStatus.OVERDUE if now is not None and at < now else OutlookStatus.CROSSES


def _unit(y: Floats) -> float:
    """Return a power of two by which no square of a value overflows."""
    return float(np.ldexp(1.0, int(np.frexp(np.abs(y).max())[1]) - 1))


def _within(moment: float) -> float | None:
    return moment if moment < inf else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line from its newest evaluation on, with its band of `width` standard errors."""

    now: float
    value: float  # at the newest evaluation
    slope: float
    variance: float  # of the value
    covariance: float  # of value and slope
    slope_variance: float
    width: float

    @classmethod
    def through(cls, x: Floats, y: Floats, coverage: float) -> _Line:
        lines = fit_lines(x[None, :], y[None, :], np.ones((1, x.size), bool))
        level, level_error = float(lines.level[0]), float(lines.level_error[0])
        slope, slope_error = float(lines.slope[0]), float(lines.slope_error[0])
        ahead = float(x[-1] - lines.middle[0])
        covariance = float(lines.correlation[0]) * level_error * slope_error
        slope_variance = slope_error**2
        return cls(
            now=float(x[-1]),
            value=level + ahead * slope,
            slope=slope,
            variance=level_error**2 + ahead * (2 * covariance + ahead * slope_variance),
            covariance=covariance + ahead * slope_variance,
            slope_variance=slope_variance,
            width=float(special.stdtrit(lines.df[0], (1 + coverage) / 2)),
        )

    def crossing(
        self, side: float, limit: float, horizon: float
    ) -> tuple[float, float, float] | None:
        """Return when a limit above (side 1) or below (-1) is met, at the earliest, at the latest.

        Infinite where not within the horizon; None where the whole band is beyond it already.
        """
        room, speed = side * (limit - self.value), side * self.slope

        def best(after: float) -> float:
            return room - speed * after + self.width * self._error(after)

        def worst(after: float) -> float:
            return room - speed * after - self.width * self._error(after)

        if best(0.0) < 0:
            return None
        # A band that is not surely on its way may leave the limit and come back to it.
        is_sure = speed > self.width * sqrt(self.slope_variance)
        ends = (
            _first(lambda after: room - speed * after, horizon),
            _first(worst, horizon),
            _first(best, horizon) if is_sure else inf,
        )
        at, earliest, latest = (self.now + end for end in ends)
        return at, earliest, latest

    def _error(self, after: float) -> float:
        variance = self.variance + after * (2 * self.covariance + after * self.slope_variance)
        return sqrt(max(variance, 0.0))


def _first(room: Callable[[float], float], horizon: float) -> float:
    """Return the first time at which there is no room left; it does not come back before then."""
    if room(0.0) <= 0:
        return 0.0
    if room(horizon) > 0:
        return inf
    return float(optimize.brentq(room, 0.0, horizon))
