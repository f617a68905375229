"""The life of alerts in people's hands: each verb on one alert, told who was first if too late."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import Group, User
from django.db import transaction

from modelperf.models import Alert, AlertComment
from modelperf.services import alerts_bulk
from modelperf.services.alerts_verbs import (
    KEEP,
    RESOLUTIONS,
    Acknowledge,
    Assign,
    Keep,
    Reopen,
    Resolve,
    Snooze,
    Verb,
)
from modelperf.services.errors import ConflictError, NotFoundError

__all__ = [
    "KEEP",
    "RESOLUTIONS",
    "SYSTEM",
    "acknowledge",
    "assign",
    "comment",
    "reopen",
    "resolve",
    "snooze",
]

SYSTEM: Final = "system"


def acknowledge(*, alert: Alert, by: str, revision: int | None = None) -> Alert:
    """Take note of an open or snoozed alert, so that others see that somebody has."""
    return _do(alert, Acknowledge(), by, revision)


def resolve(
    *, alert: Alert, by: str, action: str, notes: str = "", revision: int | None = None
) -> Alert:
    """Close an alert for good, with what was done about it."""
    return _do(alert, Resolve(action=action, notes=notes), by, revision)


def snooze(
    *,
    alert: Alert,
    by: str,
    until: datetime | None = None,
    count: int | None = None,
    worse: bool = False,
    revision: int | None = None,
) -> Alert:
    """Put an alert off until a time, so many more occurrences, or until worse: what is first.

    One that is snoozed already is from now on as this says.
    """
    return _do(alert, Snooze(until=until, count=count, worse=worse), by, revision)


def assign(
    *,
    alert: Alert,
    by: str,
    assignee: User | Keep | None = KEEP,
    team: Group | Keep | None = KEEP,
    revision: int | None = None,
) -> Alert:
    """Give an unresolved alert to a person, a team, or both; None means nobody.

    To give it to who has it already changes nothing and is no step.
    """
    return _do(alert, Assign(assignee=assignee, team=team), by, revision)


def reopen(*, alert: Alert, by: str, revision: int | None = None) -> Alert:
    """Open a resolved alert again; refused where its condition has another unresolved one."""
    return _do(alert, Reopen(), by, revision)


@transaction.atomic
def comment(*, alert: Alert, by: str, text: str, revision: int | None = None) -> AlertComment:
    """Say something about an alert, in whatever state it is; that makes no new revision of it."""
    if revision is not None:
        found = Alert.objects.select_for_update(of=("self",), no_key=True).get(pk=alert.pk)
        if found.revision != revision:
            says = f"The alert is at revision {found.revision}, not {revision}."
            raise ConflictError(says, **_state(found))
    [said] = alerts_bulk.comment(alerts=[alert], by=by, text=text)
    return said


def _do(alert: Alert, verb: Verb, by: str, revision: int | None) -> Alert:
    changed, refused = alerts_bulk.carry_out(
        alert_ids=[alert.pk], verb=verb, by=by, revision=revision
    )
    for found, sentence in refused:
        raise ConflictError(sentence, **_state(found))
    if not changed:
        raise NotFoundError("Alert not found")
    alert.refresh_from_db()
    return alert


def _state(alert: Alert) -> dict[str, Any]:
    """Return how an alert stands, for whoever knew it otherwise."""
    return {
        "state": alert.state,
        "revision": alert.revision,
        "resolved_by": alert.resolved_by,
        "resolved_at": alert.resolved_at,
        "assignee": alert.assignee.username if alert.assignee else None,
    }
