"""The last evaluations of many series at once, for drawings that stand in a list."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelperf.drawing.sparklines import Point
from modelperf.services.database import execute

EVALUATIONS: Final = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose evaluations: a metric of a series, not of versions beside it, and none after `until`.

    Versions above `version` are challengers of the one that is looked at, or came later.
    """

    machine_id: uuid.UUID
    model_type: str
    metric: str
    version: int | None = None
    until: datetime | None = None


def recent(asked: Sequence[Asked]) -> list[list[Point]]:
    """Return the last evaluations of each, oldest first, by one statement.

    Where several versions were judged on one window the newest of them counts.
    """
    found: list[list[Point]] = [[] for _ in asked]
    if not asked:
        return found
    columns = [
        list(range(len(asked))),
        [one.machine_id for one in asked],
        [one.model_type for one in asked],
        [one.metric for one in asked],
        [one.version for one in asked],
        [one.until for one in asked],
    ]
    for place, end, value in execute(_RECENT, [*columns, EVALUATIONS]):
        found[place].append((end, value))
    return found


_RECENT: Final = """
    SELECT place, evaluation_end, value FROM (
        SELECT DISTINCT ON (w.place, e.evaluation_end) w.place, e.evaluation_end, e.value
        FROM unnest(%b::int4[], %b::uuid[], %b::text[], %b::text[], %b::int4[], %b::timestamptz[])
            AS w (place, machine_id, model_type, metric, version, until)
        CROSS JOIN LATERAL (
            SELECT m.evaluation_end, m.model_version, (m.metrics ->> w.metric)::float8 AS value
            FROM model_performance_metrics m
            WHERE m.machine_id = w.machine_id AND m.model_type = w.model_type
                AND m.evaluation_end <= coalesce(w.until, 'infinity')
                AND (w.version IS NULL OR m.model_version <= w.version)
            ORDER BY m.evaluation_end DESC, m.evaluation_start DESC
            LIMIT %b
        ) e
        WHERE e.value IS NOT NULL
        ORDER BY w.place, e.evaluation_end, e.model_version DESC
    ) newest
    ORDER BY place, evaluation_end
"""
