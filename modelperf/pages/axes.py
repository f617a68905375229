"""Scales and ticks of the charts: where a value lies, and which values are worth a label."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from modelperf.templatetags.presentation import fixed

MINUTE, HOUR, DAY = 60, 3600, 86400
TIME_STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR,
        DAY, 2 * DAY, 7 * DAY, 14 * DAY,
    )
)  # fmt: skip
MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60)


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis; a minor one gives way on narrow screens."""

    at: float
    label: str
    is_minor: bool = False


@dataclass(frozen=True, slots=True)
class ValueScale:
    """Values to pixels from the top. What lies outside is drawn at the edge."""

    low: float
    high: float
    top: float
    bottom: float

    def __call__(self, value: float) -> float:
        """Return the pixels."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.bottom - share * (self.bottom - self.top), 1)

    def shows(self, value: float) -> bool:
        """Whether the value lies within the drawing."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class TimeScale:
    """Times to percent of the width."""

    start: datetime
    end: datetime

    def __call__(self, when: datetime) -> float:
        """Return the percentage."""
        share = (when - self.start) / (self.end - self.start)
        return round(100 * min(max(share, 0.0), 1.0), 2)


def value_range(values: Sequence[float], also: Sequence[float]) -> tuple[float, float]:
    """Return the range to draw: nearly all values and everything in `also`.

    A few far outliers would flatten the rest, so the outer fiftieths count only where they lie
    near; `also` holds means, always inside.
    """
    ordered = sorted(values)
    edge = len(ordered) // 50
    low, high = ordered[edge], ordered[-1 - edge]
    room = 0.6 * (high - low)
    low, high = max(ordered[0], low - room), min(ordered[-1], high + room)
    low, high = min(low, *also, high), max(high, *also, low)
    if high - low <= 1e-9 * max(abs(high), abs(low)):
        pad = abs(high) * 0.1 or 1.0
        return low - pad, high + pad
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def value_ticks(low: float, high: float, unit: str, wanted: int = 5) -> list[Tick]:
    """Return ticks at round numbers within the range."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)
    decimals = _decimals(step)
    # A hair's breadth of tolerance: 0.95 / 0.05 is a little less than 19.
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    suffix = f" {unit}" if unit == "%" else ""
    return [Tick(i * step, fixed(i * step, decimals) + suffix) for i in range(first, last + 1)]


def _decimals(step: float) -> int:
    digits = max(0, -math.floor(math.log10(step)))
    is_half = abs(step * 10**digits - round(step * 10**digits)) > 1e-9
    return digits + (1 if is_half else 0)


def time_ticks(start: datetime, end: datetime, wanted: int = 9) -> list[Tick]:
    """Return ticks at round times in UTC; `at` is a percentage of the width."""
    scale = TimeScale(start, end)
    ticks = [
        Tick(scale(when), label)
        for when, label in _labelled(start.astimezone(UTC), end.astimezone(UTC), wanted)
    ]
    return [Tick(t.at, t.label, is_minor=i % 2 == 1) for i, t in enumerate(ticks)]


def _labelled(start: datetime, end: datetime, wanted: int) -> Iterator[tuple[datetime, str]]:
    step = next((s for s in TIME_STEPS if (end - start) / s <= wanted), None)
    if step is None:
        yield from _months(start, end, wanted)
        return
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    when = midnight
    while when <= end:
        if when >= start:
            is_midnight = when.hour == when.minute == 0
            yield when, f"{when.day} {when:%b}" if is_midnight else f"{when:%H:%M}"
        when += step


def _months(start: datetime, end: datetime, wanted: int) -> Iterator[tuple[datetime, str]]:
    months = (end.year - start.year) * 12 + end.month - start.month
    step = next((s for s in MONTH_STEPS if months / s <= wanted), MONTH_STEPS[-1] * 2)
    for year in range(start.year, end.year + 1):
        for month in range(1, 13, step) if step <= 12 else [1]:
            when = datetime(year, month, 1, tzinfo=UTC)
            is_due = step <= 12 or year % (step // 12) == 0
            if start <= when <= end and is_due:
                yield when, str(year) if month == 1 else f"{when:%b}"
