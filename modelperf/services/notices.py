"""What there is to tell of alerts: written with them, in their transaction, and routed later."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from modelperf.models import Notice
from modelperf.models.keys import uuid7
from modelperf.services import alerts_thresholds
from modelperf.services.database import execute

# A window that people were told of never tells again, however late it arrives or is corrected.
_NEW_WINDOW: Final = (
    "(a.seen_through IS NULL OR a.told_through IS NULL OR a.seen_through > a.told_through)"
)
# A person takes back what people were told: that tells in any case.
_TAKEN_BACK: Final = f"({_NEW_WINDOW} OR a.reopened_at > a.alert_timestamp)"
# A rise to what was told since the alert opened is none.
_NEW_HEIGHT: Final = """NOT EXISTS (
        SELECT FROM notices n WHERE n.alert_id = a.id AND n.occurred_at >= a.alert_timestamp
        AND array_position('{normal,warning,critical}', n.says ->> 'severity')
            >= array_position('{normal,warning,critical}', a.severity::text)
    )"""
_RULES: Final = {
    Notice.Kind.OPENED: _NEW_WINDOW,
    Notice.Kind.REOPENED: _TAKEN_BACK,
    Notice.Kind.ROSE: _NEW_HEIGHT,
}
# Numbers that JSON does not know are none.
_FINITE: Final = "CASE WHEN a.{0} > '-Infinity' AND a.{0} < 'Infinity' THEN a.{0} END"
_TELL: Final = """
    WITH told AS (
        UPDATE model_alerts AS a SET told_through = greatest(a.told_through, a.seen_through)
        FROM unnest(%b::uuid[], %b::uuid[], %b::jsonb[]) AS w (notice_id, alert_id, more)
        WHERE a.id = w.alert_id AND {rule}
        RETURNING a.*, w.notice_id, w.more
    )
    INSERT INTO notices (id, alert_id, kind, occurred_at, says)
    SELECT a.notice_id, a.id, %b, %b, jsonb_build_object(
        'alert_type', a.alert_type, 'severity', a.severity, 'state', a.state,
        'message', a.alert_message, 'model_type', a.model_type,
        'machine_id', a.machine_id, 'machine_name', m.name, 'model_version', a.model_version,
        'metric', a.alert_details ->> 'metric', 'current', {current},
        'baseline', {baseline}, 'threshold', {threshold},
        'threshold_of', {threshold_of},
        'peak', {peak}, 'count', a.occurrences,
        'opened_at', a.alert_timestamp, 'seen_through', a.seen_through,
        'changed_at', a.alert_details ->> 'changed_at',
        'n_members', CASE WHEN a.machine_id IS NULL THEN (
            SELECT count(*) FROM model_alert_members b WHERE b.alert_id = a.id AND b.left_at IS NULL
        ) END,
        'resolved_by', a.resolved_by, 'resolved_at', a.resolved_at,
        'resolution_action', nullif(a.resolution_action, ''),
        'resolution_notes', nullif(a.resolution_notes, '')
    ) || a.more
    FROM told a LEFT JOIN machines m ON m.id = a.machine_id
"""
_VALUES: Final = {
    "threshold_of": alerts_thresholds.SQL,
    "current": _FINITE.format("current_metric_value"),
    "baseline": _FINITE.format("baseline_metric_value"),
    "threshold": _FINITE.format("threshold_value"),
    "peak": _FINITE.format("peak_metric_value"),
}


def tell(*, kind: str, alert_ids: Iterable[uuid.UUID], now: datetime) -> int:
    """Note that there is something to tell of alerts, as they are now; return of how many there is.

    It is to be called in the transaction that changes them, after the change and after the
    members of fleet alerts were written: what is rolled back is told to nobody. That something
    opened is told only where it was seen in a later window than people were told of, and a
    severity that rose only where it was not told since the alert opened.
    """
    rule = _RULES.get(Notice.Kind(kind), "true")
    return _tell(kind, dict.fromkeys(alert_ids, b"{}"), rule, now)


def tell_joined(
    *,
    joined: Mapping[uuid.UUID, Sequence[uuid.UUID]],
    unless: Container[uuid.UUID],
    now: datetime,
) -> int:
    """Note that machines joined fleet alerts, but those that are told of anyway; return how many.

    It is told as their opening, to those only whom no machine concerned that was in them before.
    """
    more = {
        alert_id: msgspec.json.encode({"joined": machine_ids})
        for alert_id, machine_ids in joined.items()
        if alert_id not in unless
    }
    return _tell(Notice.Kind.OPENED, more, "NOT a.is_resolved", now)


def _tell(kind: str, wanted: Mapping[uuid.UUID, bytes], rule: str, now: datetime) -> int:
    """Write a notice of each alert that a rule holds for, with more to say of it."""
    if not wanted:
        return 0
    columns = [uuid7() for _ in wanted], list(wanted), [more.decode() for more in wanted.values()]
    return execute(_TELL.format(rule=rule, **_VALUES), [*columns, str(kind), now]).rowcount
