"""How numbers and times are written for people. The exact value goes into a title."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog
from django import template
from django.utils import timezone

register = template.Library()

NOTHING = "–"
MINUS = "−"


@register.filter
def number(value: float | str | None) -> str:
    """Return about three significant digits with a true minus: 0.0804, −18.6, 290, 12,400.

    Templates hand over an empty text for what is not there.
    """
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-4:
        return f"{value:.1e}".replace("-", MINUS)
    return fixed(value, decimals_for([value]))


@register.filter
def exact(value: float | str | None) -> str:
    """Return every digit that is stored."""
    return "not reported" if value is None or isinstance(value, str) else repr(value)


@register.filter
def whole(value: int | None) -> str:
    """Return a count with thousands separators."""
    return NOTHING if value is None else f"{value:,}".replace("-", MINUS)


def fixed(value: float | None, decimals: int) -> str:
    """Return a number with so many decimals, so that a column of them lines up."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{decimals}f}"
    # What rounds to zero has no sign.
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def decimals_for(values: Iterable[float | None]) -> int:
    """Return how many decimals show about three digits of the median size."""
    sizes = sorted(abs(v) for v in values if v is not None and v != 0 and math.isfinite(v))
    if not sizes:
        return 0
    median = sizes[len(sizes) // 2]
    if float(median).is_integer() and all(size.is_integer() for size in map(float, sizes)):
        return 0
    return min(max(2 - math.floor(math.log10(median)), 0 if median >= 100 else 1), 6)


@register.filter
def percent(share: float | None) -> str:
    """Return a share of 1 as a percentage; nearly all is not all."""
    if share is None:
        return NOTHING
    rounded = f"{100 * share:.1f}".removesuffix(".0")
    told = "> 99.9" if rounded == "100" and share < 1 else rounded
    return f"{told}\N{NO-BREAK SPACE}%"


@register.filter
def day(value: datetime | None) -> str:
    """Return 4 Jan 2017 in UTC."""
    if value is None:
        return NOTHING
    local = value.astimezone(UTC)
    return f"{local.day} {local:%b %Y}"


@register.filter
def last_day(end: datetime | None) -> str:
    """Return the day of a window's last instant: one that ends at midnight was the day before."""
    return NOTHING if end is None else day(end - timedelta(microseconds=1))


@register.filter
def moment(value: datetime | None) -> str:
    """Return 4 Jan 2017 06:30 UTC."""
    return NOTHING if value is None else f"{day(value)} {value.astimezone(UTC):%H:%M} UTC"


@register.filter
def iso(value: datetime | None) -> str:
    """Return the machine-readable time."""
    return "" if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


@register.filter
def ago(value: datetime | None) -> str:
    """Return how long ago, or in how long."""
    if value is None:
        return ""
    passed = timezone.now() - value
    if abs(passed) < timedelta(minutes=1):
        return "just now"
    return f"{span(passed)} ago" if passed > timedelta() else f"in {span(-passed)}"


@register.filter
def span(value: timedelta | float | None) -> str:
    """Return a duration in its largest useful unit: 45 s, 12 min, 5 h, 9 d, 26 wk, 2.5 y."""
    if value is None:
        return NOTHING
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if 0 < seconds < 1:
        return "under 1 s"
    for unit, size, until in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48), ("d", 86400, 60)):
        if seconds < size * until:
            return f"{round(seconds / size)} {unit}"
    weeks = seconds / 604800
    return f"{round(weeks)} wk" if weeks < 104 else f"{weeks / 52.18:.1f} y"


@register.filter
def window(start: datetime, end: datetime) -> str:
    """Return the window [start, end) in UTC as shortly as it can be told."""
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    is_days = first.hour == first.minute == last.hour == last.minute == 0
    if is_days and last - first == timedelta(days=1):
        return day(first)
    if is_days:
        return f"{day(first)} – {day(last - timedelta(days=1))}"
    ending = f"{last.day} {last:%b}" if last.year == first.year else day(last)
    if first.date() == last.date():
        return f"{day(first)} {first:%H:%M}–{last:%H:%M}"
    return f"{day(first)} {first:%H:%M} – {ending} {last:%H:%M}"


@register.filter
def severity_state(severity: str) -> str:
    """Return the state whose colour a severity has."""
    return {"critical": "degraded", "warning": "drift"}.get(severity, "stable")


@register.filter
def words(value: str) -> str:
    """Return a stored choice as words: ab_test_completed is A/B test completed."""
    return value.replace("_", " ").capitalize().replace("Ab test", "A/B test") if value else NOTHING


@register.filter
def actor(value: str) -> str:
    """Return who did it: a person by name, a key or a command as such, modelperf by its name."""
    if value == "system" or value.startswith("system:"):
        return "modelperf"
    kind, _, name = value.partition(":")
    return f"{name} ({kind})" if kind in {"key", "command"} else value.removeprefix("user:")


@register.simple_tag
def request_id() -> str:
    """Return the id that the log lines of this request carry."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))
