"""What became of alerts, as it is told: every step of their lives in words, and by whom."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import msgspec
from django.db.models import F, Window
from django.db.models.functions import RowNumber

from modelperf.models import Alert, AlertComment, AlertEvent

MOST_STEPS: Final = 200
SYSTEM: Final = "system"
_INSERTED: Final = "insert"
_GONE: Final = "somebody who is gone"
_RANKS: Final = ["normal", "warning", "critical"]


class Step(msgspec.Struct, frozen=True):
    """One thing that happened to an alert.

    `actor` is who did it as it is stored, such as user:anna; `verb` what people call it, empty
    where nobody did. `word` says it in a few words, `old` and `new` are what was before and after.
    """

    when: datetime
    actor: str
    verb: str
    word: str
    old: str = ""
    new: str = ""
    note: str = ""


def story(alert: Alert) -> list[Step]:
    """Return what happened to an alert, oldest first; of a long story the newest steps."""
    return stories([alert])[alert.pk]


def stories(alerts: Iterable[Alert]) -> dict[uuid.UUID, list[Step]]:
    """Return the stories of some alerts, in as many statements as that of one."""
    every = {alert.pk: alert for alert in alerts}
    events, comments = _events(every), _comments(every)
    return {
        pk: _merged(_steps(alert, events[pk]), comments[pk])[-MOST_STEPS:]
        for pk, alert in every.items()
    }


def last_change(alert: Alert) -> Step:
    """Return the newest step of an alert; comments are none, they change nothing."""
    return _steps(alert, _events([alert.pk])[alert.pk])[-1]


def _events(alerts: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[Any]]:
    """Return the newest events of alerts, oldest first, and one more that tells what was before."""
    place = Window(RowNumber(), partition_by="pgh_obj_id", order_by=F("pgh_id").desc())
    found = (
        AlertEvent.objects.filter(pgh_obj_id__in=list(alerts))
        .annotate(place=place, person=F("assignee__username"), group=F("team__name"))
        .filter(place__lte=MOST_STEPS + 1)
        .order_by("pgh_id")
    )
    of_alert: dict[uuid.UUID, list[Any]] = defaultdict(list)
    for event in found:
        of_alert[event.pgh_obj_id].append(event)
    return of_alert


def _comments(alerts: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[Step]]:
    place = Window(RowNumber(), partition_by="alert_id", order_by=[F("created_at").desc(), "-id"])
    found = AlertComment.objects.filter(alert_id__in=list(alerts)).annotate(place=place)
    of_alert: dict[uuid.UUID, list[Step]] = defaultdict(list)
    for said in found.filter(place__lte=MOST_STEPS).order_by("created_at", "id"):
        step = Step(said.created_at, said.created_by, "comment", "Comment", note=said.text)
        of_alert[said.alert_id].append(step)
    return of_alert


def _merged(steps: Sequence[Step], comments: Sequence[Step]) -> list[Step]:
    """Return steps and comments by time; steps keep their order, whoever had to wait."""
    placed, latest = [], datetime.min.replace(tzinfo=UTC)
    for step in steps:
        latest = max(latest, step.when)
        placed.append((latest, step))
    placed += [(said.when, said) for said in comments]
    return [step for _, step in sorted(placed, key=lambda pair: pair[0])]


def _steps(alert: Alert, events: Sequence[Any]) -> list[Step]:
    steps = [] if len(events) > MOST_STEPS else _beginning(alert, events)
    for before, after in pairwise(events):
        steps += _told(before, after)
    return steps


def _beginning(alert: Alert, events: Sequence[Any]) -> list[Step]:
    """Return how it opened, of an alert that is older than the history as far as it is known."""
    first = events[0] if events else None
    if first is None or first.pgh_label != _INSERTED:
        opened = Step(alert.created_at, SYSTEM, "", "Opened", new=Alert.State.OPEN.value)
        return [opened, *(_told(None, first) if first else [])]
    word = f"Opened, {first.severity}"
    return [_step(first, word, new=first.state, note=first.alert_message)]


def _told(before: Any, after: Any) -> list[Step]:
    """Return the steps between two events of an alert, each aspect that changed by itself."""
    return [*_of_state(before, after), *([] if before is None else _of_rest(before, after))]


def _of_state(before: Any, after: Any) -> Iterator[Step]:
    """Yield what became of an alert's state: by people, by itself, or put off anew."""
    old = before.state if before else ""
    is_same = old == after.state
    if after.state == Alert.State.RESOLVED:
        if is_same and _resolution(before) == _resolution(after):
            return
        word = f"Resolved: {_words(after.resolution_action)}"
        old = _words(before.resolution_action) if is_same else old
        yield _step(after, word, old, after.state, after.resolution_notes)
    elif after.state == Alert.State.SNOOZED:
        if is_same and _ends(before) == _ends(after):
            return
        yield _step(after, f"Snoozed {_ends(after)}", _ends(before) if is_same else old, "snoozed")
    elif not is_same:
        why = _why_over(before, after) if old == Alert.State.SNOOZED else ""
        yield _step(after, _opened(old, after), old, after.state, why)


def _opened(old: str, after: Any) -> str:
    if after.state == Alert.State.ACKNOWLEDGED:
        return "Acknowledged"
    if old == Alert.State.SNOOZED:
        return "Snooze over"
    is_again = old == Alert.State.RESOLVED
    return ("Reopened" if after.pgh_context else "Opened again") if is_again else "Opened"


def _why_over(before: Any, after: Any) -> str:
    """Return which end of a snooze came first, where it ended by itself."""
    often, until = before.snoozed_until_count, before.snoozed_until
    if after.pgh_context or after.state != Alert.State.OPEN:
        return ""
    if often is not None and after.occurrences >= often:
        return f"It was seen {after.occurrences:,} times."
    is_time = until is not None and until <= after.pgh_created_at
    return "Its time was over." if is_time or not before.snoozed_until_worse else "It is worse."


def _of_rest(before: Any, after: Any) -> Iterator[Step]:
    """Yield what else changed: how bad it is, who has it, and which version it is about."""
    if before.severity != after.severity:
        rose = _RANKS.index(after.severity) > _RANKS.index(before.severity)
        word = f"Severity {'rose' if rose else 'fell'}"
        yield _step(after, word, before.severity, after.severity, after.alert_message)
    if before.assignee_id != after.assignee_id:
        old, new = (_name(one.assignee_id, one.person) for one in (before, after))
        yield _step(after, f"Assigned to {new}" if new else "Assigned to nobody", old, new)
    if before.team_id != after.team_id:
        old, new = (_name(one.team_id, one.group) for one in (before, after))
        yield _step(after, f"Assigned to team {new}" if new else "Assigned to no team", old, new)
    if before.model_version != after.model_version:
        versions = [str(one.model_version or "") for one in (before, after)]
        yield _step(after, "About another version", *versions)
    is_still_open = not before.is_resolved and not after.is_resolved
    if is_still_open and before.alert_timestamp != after.alert_timestamp:
        moments = [_moment(one.alert_timestamp) for one in (before, after)]
        yield _step(after, "Began anew", *moments)


def _step(event: Any, word: str, old: str = "", new: str = "", note: str = "") -> Step:
    context = event.pgh_context or {}
    actor, verb = (str(context.get(name) or "") for name in ("actor", "verb"))
    said = note or str(context.get("note") or "")
    return Step(event.pgh_created_at, actor or SYSTEM, verb, word, old, new, said)


def _resolution(event: Any) -> tuple[str, str]:
    return event.resolution_action, event.resolution_notes


def _ends(event: Any) -> str:
    """Return when a snooze is over, in words."""
    ends = [
        f"until {_moment(event.snoozed_until)}" if event.snoozed_until else "",
        f"until seen {event.snoozed_until_count:,} times" if event.snoozed_until_count else "",
        "until it is worse" if event.snoozed_until_worse else "",
    ]
    return " or ".join(end for end in ends if end)


def _name(key: int | None, name: str | None) -> str:
    return "" if key is None else name or _GONE


def _words(choice: str) -> str:
    return choice.replace("_", " ")


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
