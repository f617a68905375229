"""What people do to alerts: from which states, what it changes, and who else was first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, ClassVar, Final

from django.contrib.auth.models import Group, User
from django.db.models import Case, Count, F, FloatField, OuterRef, Subquery, When
from django.db.models.functions import Cast, Coalesce
from django.utils import timezone
from django.utils.timesince import timesince

from modelperf.models import Alert, AlertMember, Notice
from modelperf.services.errors import InvalidError

RESOLUTIONS: Final = ("fixed", "false_alarm", "accepted", "retrained_model", "recovered", "other")
NOTES_LENGTH: Final = 2_000
COMMENT_LENGTH: Final = 5_000
LONGEST_SNOOZE: Final = timedelta(days=366)
MOST_OCCURRENCES: Final = 1_000_000
UNSNOOZED: Final[dict[str, Any]] = {
    "snoozed_until": None,
    "snoozed_until_count": None,
    "snoozed_until_worse": False,
    "snoozed_peak": None,
}
UNACKNOWLEDGED: Final[dict[str, Any]] = {"acknowledged_at": None, "acknowledged_by": ""}
# Their condition is there or not, and is one occurrence however long it lasts.
UNCOUNTED: Final = frozenset(
    {
        Alert.Type.DATA_DRIFT,
        Alert.Type.EVALUATION_MISSING,
        Alert.Type.RETRAINING_NOT_HELPING,
        Alert.Type.AB_TEST_COMPLETED,
    }
)
# Of a series; the others have neither a peak nor another severity.
_WORSENING: Final = frozenset(
    {Alert.Type.DRIFT_DETECTED, Alert.Type.PERFORMANCE_DEGRADATION, Alert.Type.DATA_DRIFT}
)
_UNRESOLVED: Final = frozenset({Alert.State.OPEN, Alert.State.ACKNOWLEDGED, Alert.State.SNOOZED})


class Keep(Enum):
    """What is left as it is, where None means nobody."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Something people do to alerts: `states` are those that allow it, `tells` what it is told as.

    One that is refused says who was first.
    """

    name: ClassVar[str]
    states: ClassVar[frozenset[Alert.State]] = _UNRESOLVED
    tells: ClassVar[Notice.Kind | None] = None

    @property
    def note(self) -> str:
        """What is noted with the step in an alert's history."""
        return ""

    def check(self) -> None:
        """Refuse what is wrong in itself, whatever the alerts are like."""

    def refusal(self, alert: Alert, now: datetime) -> str | None:
        """Return why an alert does not allow it, as a sentence; None where it does."""
        return None if alert.state in self.states else standing(alert, now)

    def changes(self, by: str, now: datetime) -> dict[str, Any]:
        """Return the columns that change."""
        raise AssertionError(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge(Verb):
    """Taking note, so that others see that somebody has."""

    name = "acknowledge"
    states = frozenset({Alert.State.OPEN, Alert.State.SNOOZED})

    def changes(self, by: str, now: datetime) -> dict[str, Any]:
        """Return who took note, and when; a snooze is over with it."""
        noted = {"acknowledged_at": now, "acknowledged_by": by}
        return {"state": Alert.State.ACKNOWLEDGED, **noted, **UNSNOOZED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve(Verb):
    """Closing for good, with what was done about it."""

    name = "resolve"
    tells = Notice.Kind.RESOLVED

    action: str
    notes: str = ""

    @property
    def note(self) -> str:
        """What was noted about the resolution."""
        return self.notes

    def check(self) -> None:
        """Refuse an action that is none."""
        if self.action not in RESOLUTIONS:
            raise InvalidError.field("action", f"action is one of {', '.join(RESOLUTIONS)}.")
        check_text("notes", self.notes, NOTES_LENGTH)

    def changes(self, by: str, now: datetime) -> dict[str, Any]:
        """Return the resolution; a snooze is over with it."""
        return {
            "state": Alert.State.RESOLVED,
            "is_resolved": True,
            "resolved_at": now,
            "resolved_by": by,
            "resolution_action": self.action,
            "resolution_notes": self.notes,
            **UNSNOOZED,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Snooze(Verb):
    """Putting off until a time, until so many more occurrences, or until it is worse."""

    name = "snooze"

    until: datetime | None = None
    count: int | None = None
    worse: bool = False

    def check(self) -> None:
        """Refuse a snooze that has no end, or none that it could reach."""
        if self.until is None and self.count is None and not self.worse:
            raise InvalidError.field("until", "Send when the snooze ends: until, count or worse.")
        if self.until is not None:
            self._check_until(self.until)
        if self.count is not None and not 1 <= self.count <= MOST_OCCURRENCES:
            msg = f"count is how many more occurrences end it, from 1 to {MOST_OCCURRENCES}."
            raise InvalidError.field("count", msg)

    def _check_until(self, until: datetime) -> None:
        if timezone.is_naive(until):
            raise InvalidError.field("until", "until needs a time zone.")
        if not timedelta() < until - timezone.now() <= LONGEST_SNOOZE:
            raise InvalidError.field("until", "until lies in the future, within a year.")

    def refusal(self, alert: Alert, now: datetime) -> str | None:
        """Return also which of the ends an alert of its type never reaches."""
        if refused := Verb.refusal(self, alert, now):
            return refused
        counts, worsens = alert.alert_type not in UNCOUNTED, _may_worsen(alert)
        others = [name for name, ends in (("count", counts), ("worse", worsens)) if ends]
        instead = f"Send {' or '.join(['until', *others])} instead."
        kind = alert.alert_type.replace("_", " ")
        if self.count is not None and not counts:
            return f"Alerts of type {kind} are not counted up: count would never end it. {instead}"
        if self.until is None and self.count is None and not worsens:
            return f"Alerts of type {kind} do not get worse: that would never end it. {instead}"
        return None

    def changes(self, by: str, now: datetime) -> dict[str, Any]:
        """Return the ends of the snooze, counted and measured from what the alert is like now.

        A revision it is also where they are what they were: somebody has decided anew.
        """
        return {
            "state": Alert.State.SNOOZED,
            "revision": F("revision") + 1,
            "snoozed_until": self.until,
            "snoozed_until_count": F("occurrences") + self.count if self.count else None,
            "snoozed_until_worse": self.worse,
            "snoozed_peak": _as_bad_as_now() if self.worse else None,
        }


def _may_worsen(alert: Alert) -> bool:
    """Whether more machines may join, or there is a peak or a severity that may rise."""
    return alert.machine_id is None or alert.alert_type in _WORSENING


def _as_bad_as_now() -> Case:
    """Return what is worse when it is exceeded: the peak, or how many are in a fleet alert."""
    members = AlertMember.objects.present().filter(alert=OuterRef("pk")).order_by()
    counted = members.values("alert").annotate(n=Count("pk")).values("n")
    return Case(
        When(machine__isnull=True, then=Cast(Coalesce(Subquery(counted), 0), FloatField())),
        default=Coalesce("peak_metric_value", "current_metric_value"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign(Verb):
    """Giving to a person and to a team, each by itself; None takes it from whoever has it."""

    name = "assign"

    assignee: User | Keep | None = KEEP
    team: Group | Keep | None = KEEP

    def check(self) -> None:
        """Refuse somebody who could not even see the alert."""
        if self.assignee is KEEP and self.team is KEEP:
            raise InvalidError.field("assignee", "Send assignee, team or both; null means nobody.")
        person = self.assignee
        if isinstance(person, User) and not person.is_active:
            raise InvalidError.field("assignee", f"{person.username} is not active.")
        if isinstance(person, User) and not person.has_perm("modelperf.view_alert"):
            msg = f"{person.username} may not see alerts. Assign somebody who may."
            raise InvalidError.field("assignee", msg)

    def changes(self, by: str, now: datetime) -> dict[str, Any]:
        """Return who has it, as far as that is to change."""
        given = {"assignee": self.assignee, "team": self.team}
        return {name: whom for name, whom in given.items() if whom is not KEEP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen(Verb):
    """Opening what is resolved again, as nobody's who had acknowledged it."""

    name = "reopen"
    states = frozenset({Alert.State.RESOLVED})
    tells = Notice.Kind.REOPENED

    def changes(self, by: str, now: datetime) -> dict[str, Any]:
        """Return an open alert, and who made it one."""
        return {
            "state": Alert.State.OPEN,
            "is_resolved": False,
            "resolved_at": None,
            "resolved_by": None,
            "resolution_action": "",
            "resolution_notes": "",
            "reopened_at": now,
            "reopened_by": by,
            **UNACKNOWLEDGED,
        }


VERBS: Final[dict[str, type[Verb]]] = {
    verb.name: verb for verb in (Acknowledge, Resolve, Snooze, Assign, Reopen)
}
HAS_TWIN: Final = "Another alert of its condition is unresolved: act on that one."


def standing(alert: Alert, now: datetime) -> str:
    """Return how an alert stands and who made it so, as a sentence."""
    if alert.resolved_at is not None:
        done = alert.resolution_action.replace("_", " ")
        return f"The alert was resolved {_by(alert.resolved_by, alert.resolved_at, now)}: {done}."
    if alert.state == Alert.State.ACKNOWLEDGED and alert.acknowledged_at is not None:
        since = _by(alert.acknowledged_by, alert.acknowledged_at, now)
        return f"The alert was acknowledged {since}."
    reopened_at = alert.reopened_at
    if alert.state == Alert.State.OPEN and reopened_at and reopened_at >= alert.alert_timestamp:
        return f"The alert was reopened {_by(alert.reopened_by, reopened_at, now)}."
    return f"The alert is {alert.state}, not resolved."


def _by(actor: str | None, when: datetime, now: datetime) -> str:
    return f"by {named(actor or '')} {since(when, now)}"


def since(when: datetime, now: datetime) -> str:
    """Return how long ago something was, in one unit: 2 minutes ago."""
    if now - when < timedelta(minutes=1):
        return "just now"
    return f"{timesince(when, now, depth=1)} ago".replace("\N{NO-BREAK SPACE}", " ")


def named(actor: str) -> str:
    """Return an actor as people are told of him: a person by name, a program as such."""
    kind, _, name = actor.partition(":")
    if kind == "system":
        return "modelperf"
    return name if kind == "user" else f"{name} ({kind})" if name else actor


def check_text(field: str, text: str, most: int) -> None:
    """Refuse a text that is too long, or that the database cannot keep."""
    if len(text) > most:
        raise InvalidError.field(field, f"{field} has at most {most:,} characters.")
    if "\x00" in text:
        raise InvalidError.field(field, f"{field} holds a NUL character. Leave it out.")
