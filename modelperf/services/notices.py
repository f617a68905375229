"""What there is to tell of alerts: written with them, in their transaction, and routed later."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Final

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
_TELL: Final = """
    WITH told AS (
        UPDATE model_alerts AS a SET told_through = greatest(a.told_through, a.seen_through)
        FROM unnest(%b::uuid[], %b::uuid[]) AS w (notice_id, alert_id)
        WHERE a.id = w.alert_id AND {rule}
        RETURNING a.*, w.notice_id
    )
    INSERT INTO notices (id, alert_id, kind, occurred_at, says)
    SELECT a.notice_id, a.id, %b, %b, jsonb_build_object(
        'alert_type', a.alert_type, 'severity', a.severity, 'state', a.state,
        'message', a.alert_message, 'model_type', a.model_type,
        'machine_id', a.machine_id, 'machine_name', m.name, 'model_version', a.model_version,
        'metric', a.alert_details ->> 'metric', 'current', a.current_metric_value,
        'baseline', a.baseline_metric_value, 'threshold', a.threshold_value,
        'threshold_of', {threshold_of},
        'peak', a.peak_metric_value, 'count', a.occurrences,
        'opened_at', a.alert_timestamp, 'seen_through', a.seen_through,
        'changed_at', a.alert_details ->> 'changed_at',
        'n_members', CASE WHEN a.machine_id IS NULL THEN (
            SELECT count(*) FROM model_alert_members b WHERE b.alert_id = a.id AND b.left_at IS NULL
        ) END,
        'resolved_by', a.resolved_by, 'resolved_at', a.resolved_at,
        'resolution_action', nullif(a.resolution_action, ''),
        'resolution_notes', nullif(a.resolution_notes, '')
    )
    FROM told a LEFT JOIN machines m ON m.id = a.machine_id
"""


def tell(*, kind: str, alert_ids: Iterable[uuid.UUID], now: datetime) -> int:
    """Note that there is something to tell of alerts, as they are now; return of how many there is.

    It is to be called in the transaction that changes them, after the change and after the
    members of fleet alerts were written: what is rolled back is told to nobody. That something
    opened is told only where it was seen in a later window than people were told of, and a
    severity that rose only where it was not told since the alert opened.
    """
    wanted = list(dict.fromkeys(alert_ids))
    if not wanted:
        return 0
    rule = _RULES.get(Notice.Kind(kind), "true")
    notices = [uuid7() for _ in wanted]
    parameters = [notices, wanted, str(kind), now]
    return execute(_TELL.format(rule=rule, threshold_of=alerts_thresholds.SQL), parameters).rowcount
