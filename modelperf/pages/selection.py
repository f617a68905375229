"""What the address asks for: a machine, a model type, a period and a metric."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.http import QueryDict

MOST_DAYS = 3660
PERIODS = {
    7: "7 days",
    30: "30 days",
    90: "90 days",
    365: "1 year",
    730: "2 years",
    MOST_DAYS: "All",
}
READABLE_WINDOWS = 800
LONGEST_TEXT = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters as read; `problem` is a sentence where one cannot be meant."""

    machine: uuid.UUID | None
    model_type: str
    days: int | None
    metric: str
    find: str
    problem: str = ""
    is_unknown_machine: bool = False


def read(query: QueryDict) -> Asked:
    """Read the address. An identifier that is none names no machine; days are checked."""
    machine, is_unknown = _machine(query.get("machine", ""))
    days, problem = _days(query.get("days", ""))
    return Asked(
        machine=machine,
        model_type=_text(query, "type"),
        days=days,
        metric=_text(query, "metric"),
        find=_text(query, "find"),
        problem=problem,
        is_unknown_machine=is_unknown,
    )


def _machine(text: str) -> tuple[uuid.UUID | None, bool]:
    if not text:
        return None, False
    try:
        return uuid.UUID(text), False
    except ValueError:
        return None, True


def usual_days(window: timedelta) -> int:
    """Return the longest period, up to two years, that has a readable number of such windows."""
    fitting = [
        d for d in PERIODS if d < MOST_DAYS and timedelta(days=d) <= READABLE_WINDOWS * window
    ]
    return max(fitting, default=min(PERIODS))


def _days(text: str) -> tuple[int | None, str]:
    if not text:
        return None, ""
    # int() would also read digits of other scripts and underscores.
    if text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MOST_DAYS:
        return int(text), ""
    return None, f"The period must be a whole number of days from 1 to {MOST_DAYS:,}."


def _text(query: QueryDict, name: str) -> str:
    # PostgreSQL cannot hold a zero byte, and nothing here is named that long.
    return query.get(name, "").replace("\x00", "")[:LONGEST_TEXT].strip()
