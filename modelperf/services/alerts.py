"""The life of alerts: raised and cleared by verdicts, acknowledged and resolved by people."""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from modelperf.models import Alert
from modelperf.services.errors import ConflictError, InvalidError

SYSTEM: Final = "system"
RESOLUTIONS: Final = ("fixed", "false_alarm", "accepted", "retrained_model", "recovered", "other")


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
