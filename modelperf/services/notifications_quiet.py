"""Quiet hours of routes: when they are, in the route's own time zone, and what waits in them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from modelperf.models import Alert, Route

log = structlog.get_logger(__name__)

RANKS: Final = {
    Alert.Severity.NORMAL.value: 0,
    Alert.Severity.WARNING.value: 1,
    Alert.Severity.CRITICAL.value: 2,
}
_DAY: Final = timedelta(days=1)


def waits_until(route: Route, severity: str, at: datetime) -> datetime | None:
    """Return until when quiet hours keep something of a severity waiting; None: not at all."""
    if RANKS[severity] > RANKS[route.quiet_severity]:
        return None
    return quiet_until(route, at)


def quiet_until(route: Route, at: datetime) -> datetime | None:
    """Return when the quiet hours end in which a time is, None where it is in none.

    They end on the day after they begin where their end is no later than their beginning. Where
    clocks are set, they begin with the first and end with the last moment of that name.
    """
    if route.quiet_from is None or route.quiet_until is None:
        return None
    zone = _zone(route.quiet_timezone)
    is_over_midnight = route.quiet_until <= route.quiet_from
    today = at.astimezone(zone).date()
    for day in (today - _DAY, today):
        begin = min(_moments(day, route.quiet_from, zone))
        last_day = day + _DAY if is_over_midnight else day
        end = max(_moments(last_day, route.quiet_until, zone))
        if begin <= at < end:
            return end
    return None


def _moments(day: date, clock: time, zone: ZoneInfo) -> list[datetime]:
    """Return the moments that a clock may mean on a day; two where it is set back, or forward."""
    wall = datetime.combine(day, clock, zone)
    return [wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        log.warning("quiet_hours_in_no_known_time_zone", time_zone=name)
        return ZoneInfo("UTC")
