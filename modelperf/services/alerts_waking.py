"""Snoozes that are over: the time has come, it was seen often enough, or it is worse."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from modelperf.models import Notice
from modelperf.services import notices
from modelperf.services.database import execute


@transaction.atomic
def wake(*, now: datetime) -> list[uuid.UUID]:
    """Open the alerts whose snooze ends at a time that has come, and tell of it."""
    return _opened(_TIME_IS_OVER, [now], now)


@transaction.atomic
def wake_seen(*, alert_ids: Collection[uuid.UUID], now: datetime) -> list[uuid.UUID]:
    """Open those of some alerts that were seen as often, or are as bad, as ends their snooze."""
    return _opened(_SEEN_ENOUGH, [list(alert_ids)], now) if alert_ids else []


def _opened(which: str, params: list[Any], now: datetime) -> list[uuid.UUID]:
    woken = [pk for (pk,) in execute(_WAKE.format(which=which), params)]
    if woken:
        notices.tell(kind=Notice.Kind.WOKE, alert_ids=woken, now=now)
    return woken


# Nobody has acknowledged what is open again. What somebody else changes now is seen next time.
_WAKE: Final = """
    UPDATE model_alerts AS a SET state = 'open',
        snoozed_until = NULL, snoozed_until_count = NULL, snoozed_until_worse = false,
        snoozed_peak = NULL, acknowledged_at = NULL, acknowledged_by = ''
    FROM (
        SELECT s.id FROM model_alerts s WHERE s.state = 'snoozed' AND NOT s.is_resolved AND {which}
        ORDER BY s.id FOR NO KEY UPDATE SKIP LOCKED
    ) AS over
    WHERE a.id = over.id
    RETURNING a.id
"""
# What is about a machine out of service waits until that serves again.
_TIME_IS_OVER: Final = """s.snoozed_until <= %b::timestamptz AND NOT EXISTS (
    SELECT FROM machines c WHERE c.id = s.machine_id AND NOT c.is_active
)"""
_RANK: Final = "array_position(ARRAY['normal', 'warning', 'critical'], {}::text)"
# When it was snoozed is its newest step that began to be, or changed how it is, or in which
# somebody wanted the same anew.
_SEVERITY_THEN: Final = """(
    SELECT e.severity FROM (
        SELECT pgh_id, state, severity,
            (state, snoozed_until, snoozed_until_count, snoozed_until_worse) IS DISTINCT FROM
            lag((state, snoozed_until, snoozed_until_count, snoozed_until_worse))
                OVER (ORDER BY pgh_id) OR pgh_context ->> 'verb' = 'snooze' AS is_step
        FROM model_alert_events WHERE pgh_obj_id = s.id
    ) AS e
    WHERE e.is_step AND e.state = 'snoozed' ORDER BY e.pgh_id DESC LIMIT 1
)"""
_MEMBERS: Final = """(
    SELECT count(*) FROM model_alert_members m WHERE m.alert_id = s.id AND m.left_at IS NULL
)"""
# The peak is the worst there was: whichever way the metric is good, it is worse further away.
# What the fleet has is worse with more machines than there were.
_SEEN_ENOUGH: Final = f"""
    s.id = ANY(%b::uuid[]) AND (
        s.occurrences >= s.snoozed_until_count
        OR s.snoozed_until_worse AND (
            CASE WHEN s.machine_id IS NULL THEN {_MEMBERS} > s.snoozed_peak
            ELSE abs(s.peak_metric_value - coalesce(s.baseline_metric_value, s.threshold_value))
                > abs(s.snoozed_peak - coalesce(s.baseline_metric_value, s.threshold_value)) END
            OR {_RANK.format("s.severity")} > {_RANK.format(_SEVERITY_THEN)}
        )
    )
"""
