"""The life of alerts: raised and cleared by verdicts, acknowledged and resolved by people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from modelperf.models import Alert
from modelperf.models.keys import uuid7
from modelperf.services.alerts_conditions import (
    JUDGED_TYPES,
    OpenAlert,
    Wanted,
    wanted_alerts,
)
from modelperf.services.database import execute
from modelperf.services.drift_rules import FALSE_DISCOVERY_RATE
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.metrics_rows import Subject

SYSTEM: Final = "system"
RESOLUTIONS: Final = ("fixed", "false_alarm", "accepted", "retrained_model", "recovered", "other")


def follow_verdict(
    *,
    subject: Subject,
    verdict: dict[str, Any],
    open_alerts: Iterable[OpenAlert],
    replayed: bool,
    now: datetime,
) -> None:
    """Raise, update and clear the alerts of a series by the verdict on its active version.

    Runs under the lock of the series. What another version was alerted for is not cleared by one
    that cannot be judged yet. An alert stays while its condition does, even where a growing fleet
    has lowered the cut-off since; only where the history or the rules changed (`replayed`) it must
    be earned anew, so that the order of arrival leaves no trace.
    """
    unresolved = {alert.condition_key: alert for alert in open_alerts}
    if not verdict["conditions"] and not unresolved:
        return
    conditions = wanted_alerts(subject, verdict, cut_off=_cut_off(verdict))
    kept = conditions if replayed else wanted_alerts(subject, verdict, cut_off=1.0)
    for key, wanted in kept.items():
        if key in unresolved:
            _update(unresolved[key], wanted, subject)
        elif key in conditions:
            _raise(wanted, subject, now)
    judged = verdict["status"] != "insufficient_data"
    gone = [
        alert
        for key, alert in unresolved.items()
        if key not in kept
        and alert.alert_type in JUDGED_TYPES
        and (judged or alert.model_id == subject.model_id)
    ]
    _clear(gone, replayed, now)


def _cut_off(verdict: dict[str, Any]) -> float:
    """Return q/m, m being the series in service that have an active version to judge.

    Fixed by the registry, so that the order in which evaluations arrive cannot move it.
    """
    if all(condition["rule"] != "change_point" for condition in verdict["conditions"]):
        return 0.0
    found = execute(
        "SELECT count(*) FROM model_versions v JOIN machines m ON m.id = v.machine_id"
        " WHERE v.is_active AND m.is_active"
    ).fetchone()
    return FALSE_DISCOVERY_RATE / max(1, found[0] if found else 1)


def _raise(wanted: Wanted, subject: Subject, now: datetime) -> None:
    """Open the alert of a condition: the one that was resolved before, or a new one."""
    earlier = (
        Alert.objects.filter(condition_key=wanted.condition_key, is_resolved=True)
        .order_by("-resolved_at", "-id")
        .first()
    )
    if earlier is None:
        alert = Alert(
            id=uuid7(),
            condition_key=wanted.condition_key,
            alert_type=wanted.alert_type,
            machine_id=subject.machine_id,
            model_type=subject.model_type,
            alert_timestamp=now,
            **_content(wanted, subject),
        )
        # A person may have reopened the condition's alert a moment ago: then it is there.
        Alert.objects.bulk_create([alert], ignore_conflicts=True)
    elif earlier.resolved_by == SYSTEM or _is_later(wanted.details, earlier.alert_details):
        Alert.objects.filter(pk=earlier.pk, is_resolved=True).update(
            **_content(wanted, subject), **_UNRESOLVED, alert_timestamp=now
        )


def _is_later(details: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Whether a change is another one than the change a person has resolved already."""
    return (details.get("changed_at") or "") > (earlier.get("changed_at") or "")


def _update(alert: OpenAlert, wanted: Wanted, subject: Subject) -> None:
    if alert.details != wanted.details or alert.occurrences != wanted.occurrences:
        Alert.objects.filter(pk=alert.id, is_resolved=False).update(**_content(wanted, subject))


def _content(wanted: Wanted, subject: Subject) -> dict[str, Any]:
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


def _clear(alerts: list[OpenAlert], replayed: bool, now: datetime) -> None:
    if alerts:
        Alert.objects.filter(pk__in=[alert.id for alert in alerts], is_resolved=False).update(
            state=Alert.State.RESOLVED,
            is_resolved=True,
            resolved_at=now,
            resolved_by=SYSTEM,
            resolution_action="history_changed" if replayed else "recovered",
        )


def acknowledge(*, alert: Alert, by: str) -> Alert:
    """Take note of an open alert, so that others see that somebody has."""
    return _swap(
        alert,
        [Alert.State.OPEN, Alert.State.SNOOZED],
        state=Alert.State.ACKNOWLEDGED,
        metadata={**alert.metadata, "acknowledged_by": by, "acknowledged_at": _stamp()},
    )


def resolve(*, alert: Alert, by: str, action: str, notes: str = "") -> Alert:
    """Close an alert for good, with what was done about it."""
    if action not in RESOLUTIONS:
        raise InvalidError.field("action", f"action is one of {', '.join(RESOLUTIONS)}.")
    return _swap(
        alert,
        [Alert.State.OPEN, Alert.State.ACKNOWLEDGED, Alert.State.SNOOZED],
        state=Alert.State.RESOLVED,
        is_resolved=True,
        resolved_at=timezone.now(),
        resolved_by=by,
        resolution_action=action,
        resolution_notes=notes,
    )


@transaction.atomic
def reopen(*, alert: Alert, by: str) -> Alert:
    """Open a resolved alert again; refused where its condition already has another open one."""
    open_twin = Alert.objects.unresolved().filter(condition_key=alert.condition_key)
    if open_twin.exclude(pk=alert.pk).exists():
        raise ConflictError("Another alert of this condition is open already.")
    return _swap(
        alert,
        [Alert.State.RESOLVED],
        **_UNRESOLVED,
        metadata={**alert.metadata, "reopened_by": by, "reopened_at": _stamp()},
    )


_UNRESOLVED: Final[dict[str, Any]] = {
    "state": Alert.State.OPEN,
    "is_resolved": False,
    "resolved_at": None,
    "resolved_by": None,
    "resolution_action": "",
    "resolution_notes": "",
}


def _swap(alert: Alert, states: list[Alert.State], **changes: Any) -> Alert:
    """Change an alert that is still in one of the given states, else tell who was first."""
    changed = Alert.objects.filter(pk=alert.pk, state__in=states).update(**changes)
    alert.refresh_from_db()
    if not changed:
        raise ConflictError(
            f"The alert is {alert.state}"
            + (f" by {alert.resolved_by}." if alert.resolved_by else "."),
            state=alert.state,
            resolved_by=alert.resolved_by,
        )
    return alert


def _stamp() -> str:
    return timezone.now().isoformat()
