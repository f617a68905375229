"""The verbs of triage: on one alert, where If-Match says which state is meant, and on many."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final, Literal

from django.contrib.auth.models import Group, User
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from modelperf.api.alerts_answers import AlertAnswer, BulkAlertAnswer, CommentAnswer, named
from modelperf.api.authentication import TRIAGE
from modelperf.api.base import Answer, Endpoint, Rows, call, rows
from modelperf.api.parameters import Time, invalid
from modelperf.models import Alert, AlertComment
from modelperf.services import alerts, alerts_bulk
from modelperf.services.alerts import KEEP
from modelperf.services.errors import FieldError, InvalidError

MOST_AT_ONCE: Final = 1000
Resolution = Literal[alerts.RESOLUTIONS]  # type: ignore[valid-type]
Notes = Annotated[str, Meta(max_length=2000)]
Text = Annotated[str, Meta(min_length=1, max_length=5000)]
Count = Annotated[int, Meta(ge=1, le=1_000_000, description="So many more occurrences end it.")]
Worse = Annotated[bool, Meta(description="It ends when the condition gets worse.")]
Username = Annotated[str, Meta(min_length=1, max_length=150)]
Ids = Annotated[list[uuid.UUID], Meta(min_length=1, max_length=MOST_AT_ONCE)]


class Resolving(Struct):
    """What was done about an alert."""

    action: Resolution
    notes: Notes = ""


class Snoozing(Struct):
    """When a snooze ends: at a time, after a count, or when it gets worse; what comes first."""

    until: Time | None = None
    count: Count | None = None
    worse: Worse = False


class Assigning(Struct):
    """Who is to have it, by name; what is left out stays, null is nobody."""

    assignee: Username | UnsetType | None = UNSET
    team: Username | UnsetType | None = UNSET


class Commenting(Struct):
    """What there is to say."""

    text: Text


class Triaging(Struct):
    """A verb, what it takes on a single alert, and the alerts."""

    verb: Literal["acknowledge", "resolve", "snooze", "assign", "reopen"]
    ids: Ids
    action: Resolution | UnsetType = UNSET
    notes: Notes | UnsetType = UNSET
    until: Time | UnsetType | None = UNSET
    count: Count | UnsetType | None = UNSET
    worse: Worse | UnsetType = UNSET
    assignee: Username | UnsetType | None = UNSET
    team: Username | UnsetType | None = UNSET


TAKES: Final[dict[str, tuple[str, ...]]] = {
    "acknowledge": (),
    "resolve": Resolving.__struct_fields__,
    "snooze": Snoozing.__struct_fields__,
    "assign": Assigning.__struct_fields__,
    "reopen": (),
}


class Triage(Endpoint):
    """What people do to alerts."""

    @call(answers=AlertAnswer, scope=TRIAGE, problems=(404, 409), if_match=True)
    def acknowledge(self, id: uuid.UUID) -> Answer:
        """Take note of an alert."""
        alert, revision = self.alert(id), self.revision
        return self._told(alerts.acknowledge(alert=alert, by=self.actor, revision=revision))

    @call(
        takes=Resolving,
        answers=AlertAnswer,
        scope=TRIAGE,
        style="body",
        problems=(404, 409),
        if_match=True,
    )
    def resolve(self, given: Resolving, id: uuid.UUID) -> Answer:
        """Close an alert with what was done about it."""
        return self._told(
            alerts.resolve(
                alert=self.alert(id),
                by=self.actor,
                action=given.action,
                notes=given.notes,
                revision=self.revision,
            )
        )

    @call(
        takes=Snoozing,
        answers=AlertAnswer,
        scope=TRIAGE,
        style="body",
        problems=(404, 409),
        if_match=True,
    )
    def snooze(self, given: Snoozing, id: uuid.UUID) -> Answer:
        """Put an alert off until a time, so many more occurrences, or until it gets worse."""
        return self._told(
            alerts.snooze(
                alert=self.alert(id),
                by=self.actor,
                until=given.until,
                count=given.count,
                worse=given.worse,
                revision=self.revision,
            )
        )

    @call(
        takes=Assigning,
        answers=AlertAnswer,
        scope=TRIAGE,
        style="body",
        problems=(404, 409),
        if_match=True,
    )
    def assign(self, given: Assigning, id: uuid.UUID) -> Answer:
        """Give an alert to a person, to a team, or to both."""
        return self._told(
            alerts.assign(
                alert=self.alert(id),
                by=self.actor,
                revision=self.revision,
                assignee=KEEP if given.assignee is UNSET else _person(given.assignee),
                team=KEEP if given.team is UNSET else _team(given.team),
            )
        )

    @call(answers=AlertAnswer, scope=TRIAGE, problems=(404, 409), if_match=True)
    def reopen(self, id: uuid.UUID) -> Answer:
        """Open a resolved alert again."""
        alert, revision = self.alert(id), self.revision
        return self._told(alerts.reopen(alert=alert, by=self.actor, revision=revision))

    @call(
        takes=Commenting,
        answers=CommentAnswer,
        scope=TRIAGE,
        style="body",
        problems=(404, 409),
        if_match=True,
    )
    def comment(self, given: Commenting, id: uuid.UUID) -> Answer:
        """Say something about an alert; that makes no new revision of it."""
        alert, revision = self.alert(id), self.revision
        said: AlertComment = alerts.comment(
            alert=alert, by=self.actor, text=given.text, revision=revision
        )
        return Answer(said, headers=etag(alert.revision))

    @call(takes=Triaging, answers=list[BulkAlertAnswer], scope=TRIAGE, style="body")
    def bulk(self, given: Triaging) -> Rows:
        """Do a verb to 1 to 1,000 alerts, each on its own; answers stand in their order.

        A revision is that of one alert: with If-Match this is refused.
        """
        if "If-Match" in self.request.headers:
            msg = "A revision is that of one alert: leave If-Match out, or send each by itself."
            raise invalid([FieldError(("header", "If-Match"), msg, "value_error")])
        what = _what(given)
        visible = Alert.objects.within(self.access.machine_ids).filter(pk__in=given.ids)
        outcome = alerts_bulk.change(
            alerts=list(visible.values_list("pk", flat=True)),
            verb=given.verb,
            by=self.actor,
            **what,
        )
        told = {alert.pk: _became(alert) for alert in outcome.changed}
        told |= {alert.pk: _became(alert, sentence) for alert, sentence in outcome.refused}
        return Rows([told.get(one) or BulkAlertAnswer(one, "not_found") for one in given.ids])

    def alert(self, id: uuid.UUID) -> Alert:
        """Return an alert that the caller may see."""
        found = Alert.objects.within(self.access.machine_ids)
        alert: Alert = self.one(found, id, "Alert not found")
        return alert

    def _told(self, alert: Alert) -> Answer:
        (told,) = rows(named(Alert.objects.filter(pk=alert.pk)), AlertAnswer).shaped
        return Answer(Rows(told), headers=etag(told["revision"]))


def etag(revision: int) -> dict[str, str]:
    """Return the header that names a revision."""
    return {"ETag": f'"{revision}"'}


def _became(alert: Alert, sentence: str | None = None) -> BulkAlertAnswer:
    status: Literal["changed", "conflict"] = "conflict" if sentence else "changed"
    state: Any = alert.state
    return BulkAlertAnswer(alert.pk, status, sentence, state, alert.revision)


def _what(given: Triaging) -> dict[str, Any]:
    """Return what the verb takes; refuse what it does not, and that nothing is given it needs."""
    what = {name: value for name, value in structs.asdict(given).items() if value is not UNSET}
    del what["verb"], what["ids"]
    for name in what:
        if name not in TAKES[given.verb]:
            takes = ", ".join(TAKES[given.verb]) or "nothing more"
            raise InvalidError.field(name, f"{name} is not for {given.verb}, which takes {takes}.")
    if given.verb == "resolve" and "action" not in what:
        raise InvalidError.field("action", "This is required.", type="missing")
    if "assignee" in what:
        what["assignee"] = _person(what["assignee"])
    if "team" in what:
        what["team"] = _team(what["team"])
    return what


def _person(name: str | None) -> User | None:
    found = None if name is None else User.objects.filter(username=name).first()
    if name is not None and found is None:
        raise InvalidError.field("assignee", f"There is no user {name}. Send a username, or null.")
    return found


def _team(name: str | None) -> Group | None:
    found = None if name is None else Group.objects.filter(name=name).first()
    if name is not None and found is None:
        raise InvalidError.field("team", f"There is no group {name}. Send a group's name, or null.")
    return found
