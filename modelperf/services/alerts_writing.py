"""Changes of alerts carried out: raised, kept up to date, and cleared, a statement a kind."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from modelperf.models import Alert, AlertMember
from modelperf.models.keys import uuid7
from modelperf.services.alerts_conditions import Wanted, common_key
from modelperf.services.alerts_following import SYSTEM, Changes, Place
from modelperf.services.database import execute


def apply(changes: Changes, *, now: datetime) -> None:
    """Carry the changes out; each kind is one statement, however many alerts it is about."""
    if changes.raised:
        _leave_to_fleet_alerts(changes)
    carry_out(changes, now=now)


def carry_out(changes: Changes, *, now: datetime) -> None:
    """Carry out changes that fleet alerts have been considered in."""
    _clear(changes, now)
    reopened = _raise(changes, now) if changes.raised else []
    kept = [
        _content(wanted, subject) | {"id": alert.id}
        for alert, wanted, subject in changes.kept.values()
        if alert.details != wanted.details
        or alert.occurrences != wanted.occurrences
        or alert.model_id != subject.model_id
    ]
    _update(reopened + kept)


def _leave_to_fleet_alerts(changes: Changes) -> None:
    """Raise no alert for what a fleet alert is about, or was when a person resolved it."""
    raised: dict[str, list[str]] = defaultdict(list)
    for key in changes.raised:
        raised[common_key(key)].append(key)
    members = AlertMember.objects.present().filter(condition_key__in=raised)
    of_people = members.exclude(alert__resolved_by=SYSTEM).select_related("alert")
    for member in of_people.order_by("alert__is_resolved"):
        for key in raised[member.condition_key]:
            if key in changes.raised:
                _leave_to(member, key, changes)


def _leave_to(member: AlertMember, key: str, changes: Changes) -> None:
    wanted, subject = changes.raised[key]
    alert = member.alert
    if not alert.is_resolved:
        del changes.raised[key]
        changes.told(subject, key, "in_fleet_alert", alert_id=str(alert.pk))
    elif not is_later(wanted.details, member.details or alert.alert_details):
        del changes.raised[key]
        changes.refuse(key, subject, alert.pk)


def foresee(changes: Changes, *, now: datetime) -> None:
    """Note what carrying out would open, and what a person has resolved; nothing is written."""
    _leave_to_fleet_alerts(changes)
    _raises(changes, now, "would_open")


def _raise(changes: Changes, now: datetime) -> list[dict[str, Any]]:
    """Open new alerts; return what those say that were resolved before and open again."""
    created, reopened = _raises(changes, now, "opened")
    # A person may have reopened the condition's alert a moment ago: then it is there.
    if created:
        Alert.objects.bulk_create(created, ignore_conflicts=True)
    return reopened


def _raises(
    changes: Changes, now: datetime, decision: str
) -> tuple[list[Alert], list[dict[str, Any]]]:
    """Return new alerts, and what those say that were resolved before and are raised again."""
    earlier = _newest_resolved(changes.raised)
    created: list[Alert] = []
    reopened: list[dict[str, Any]] = []
    for key, (wanted, subject) in changes.raised.items():
        before = earlier.get(key)
        if before is None:
            alert_id = uuid7()
            created.append(_new_alert(alert_id, wanted, subject, now))
        elif before.resolved_by == SYSTEM or is_later(wanted.details, before.alert_details):
            alert_id = before.pk
            reopened.append(_content(wanted, subject) | {"id": alert_id, "opened_at": now})
        else:
            changes.refuse(key, subject, before.pk)
            continue
        changes.alert_ids[key] = alert_id
        changes.told(subject, key, decision, alert_id=str(alert_id))
    return created, reopened


def _newest_resolved(keys: Iterable[str]) -> dict[str, Alert]:
    found = Alert.objects.filter(condition_key__in=list(keys), is_resolved=True)
    newest_last = found.order_by("resolved_at", "id")
    return {alert.condition_key: alert for alert in newest_last}


def _new_alert(alert_id: uuid.UUID, wanted: Wanted, subject: Place, now: datetime) -> Alert:
    return Alert(
        id=alert_id,
        condition_key=wanted.condition_key,
        alert_type=wanted.alert_type,
        machine_id=subject.machine_id,
        model_type=subject.model_type,
        alert_timestamp=now,
        **_content(wanted, subject),
    )


def is_later(details: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Whether a change is another one than the change a person has resolved already.

    Windows of features slide on while the same features stay where they have moved to. In a storm
    are only machines that a person has not resolved already.
    """
    if details.get("rule") == "storm":
        return True
    if "features" in details:
        return bool(_names(details) - _names(earlier))
    return (details.get("changed_at") or "") > (earlier.get("changed_at") or "")


def _names(details: dict[str, Any]) -> set[str]:
    return {feature["name"] for feature in details.get("features", ())}


def _content(wanted: Wanted, subject: Place) -> dict[str, Any]:
    return {
        "severity": wanted.severity,
        "alert_message": wanted.message,
        "occurrences": wanted.occurrences,
        "current_metric_value": wanted.current,
        "threshold_value": wanted.threshold,
        "baseline_metric_value": wanted.baseline,
        "alert_details": wanted.details,
        "model_id": subject.model_id,
        "model_version": subject.model_version,
    }


def _update(contents: list[dict[str, Any]]) -> None:
    """Write what alerts say now; those with `opened_at` are open again since then."""
    if contents:
        execute(_UPDATE, [msgspec.json.encode(contents).decode()])


_CONTENT: Final = {
    "severity": "text",
    "alert_message": "text",
    "occurrences": "int4",
    "current_metric_value": "float8",
    "threshold_value": "float8",
    "baseline_metric_value": "float8",
    "alert_details": "jsonb",
    "model_id": "uuid",
    "model_version": "int4",
}
_WHEN_OPENED: Final = {
    "state": "'open'",
    "resolved_at": "NULL",
    "resolved_by": "NULL",
    "resolution_action": "''",
    "resolution_notes": "''",
    "alert_timestamp": "w.opened_at",
}
_UPDATE: Final = f"""
    UPDATE model_alerts AS a SET is_resolved = false,
        {", ".join(f"{name} = w.{name}" for name in _CONTENT)},
        {
    ", ".join(
        f"{name} = CASE WHEN w.opened_at IS NULL THEN a.{name} ELSE {value} END"
        for name, value in _WHEN_OPENED.items()
    )
}
    FROM jsonb_to_recordset(%s::jsonb) AS w (id uuid, opened_at timestamptz,
        {", ".join(f"{name} {kind}" for name, kind in _CONTENT.items())})
    WHERE a.id = w.id AND a.is_resolved = (w.opened_at IS NOT NULL)
"""


def _clear(changes: Changes, now: datetime) -> None:
    if changes.cleared:
        execute(
            """
            UPDATE model_alerts AS a SET state = 'resolved', is_resolved = true,
                resolved_at = %b, resolved_by = %b, resolution_action = w.action
            FROM unnest(%b::uuid[], %b::text[]) AS w (id, action)
            WHERE a.id = w.id AND NOT a.is_resolved
            """,
            [
                now,
                SYSTEM,
                [alert.id for alert, _ in changes.cleared.values()],
                [action for _, action in changes.cleared.values()],
            ],
        )
