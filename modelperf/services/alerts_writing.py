"""Changes of alerts carried out: raised, kept up to date, and resolved, a statement a kind.

Whatever the system does to alerts it does here, and what there is to tell of it is written along.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from modelperf.models import Alert, AlertMember, Notice
from modelperf.models.keys import uuid7
from modelperf.services import alerts_earlier, notices
from modelperf.services.alerts_conditions import Wanted, common_key
from modelperf.services.alerts_fleet import Member, write_members
from modelperf.services.alerts_following import SYSTEM, Changes, Place
from modelperf.services.alerts_news import News
from modelperf.services.database import execute


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is over: why, what there is to say of it, and how far evaluations show it."""

    id: uuid.UUID
    action: str
    notes: str = ""
    details: dict[str, Any] = {}
    seen_through: datetime | None = None


def apply(changes: Changes, *, now: datetime) -> None:
    """Carry the changes out; each kind is one statement, however many alerts it is about."""
    if changes.raised:
        _leave_to_fleet_alerts(changes)
    carry_out(changes, now=now)


def carry_out(changes: Changes, *, now: datetime, members: Sequence[Member] = ()) -> None:
    """Carry out changes that fleet alerts have been considered in, with who joins and who leaves.

    What is told says how many members there are, so it is written last.
    """
    news = News()
    reopened = _raise(changes, news, now) if changes.raised else []
    _end(
        [
            Ended(id=one.alert.id, action=one.action, seen_through=one.seen_through)
            for one in changes.cleared.values()
        ],
        news,
        now,
    )
    _update([*reopened, *_kept(changes, news, now)], news)
    alerts_earlier.note_over(changes.unmoved)
    joined = write_members(members, changes.alert_ids, now)
    news.tell(now)
    notices.tell_joined(joined=joined, unless={*news.opened, *news.reopened}, now=now)


def resolve(ended: Sequence[Ended], *, now: datetime) -> list[uuid.UUID]:
    """Resolve alerts for good that are not yet, and tell of it; return those that were resolved."""
    news = News()
    found = _end(ended, news, now)
    news.tell(now)
    return found


def _kept(changes: Changes, news: News, now: datetime) -> list[dict[str, Any]]:
    """Return what unresolved alerts say now: by new evidence, or that there is none as before."""
    kept = []
    for alert, wanted, place in changes.kept.values():
        then = alert.details, alert.occurrences, alert.seen_through, alert.model_id
        is_missing = wanted.alert_type == Alert.Type.EVALUATION_MISSING
        if is_missing or then != (
            wanted.details,
            wanted.occurrences,
            wanted.seen_through,
            place.model_id,
        ):
            kept.append(_content(wanted, place, now) | {"id": alert.id})
            if _RANK[wanted.severity] > _RANK[alert.severity]:
                news.rose.append(alert.id)
    return kept


_RANK: Final = {"normal": 0, "warning": 1, "critical": 2}


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
    elif not alerts_earlier.is_another_matter(
        wanted.details, member.details or alert.alert_details
    ):
        del changes.raised[key]
        changes.refuse(key, subject, alert.pk)


def foresee(changes: Changes, *, now: datetime) -> None:
    """Note what carrying out would open, and what a person has resolved; nothing is written."""
    _leave_to_fleet_alerts(changes)
    _raises(changes, now, "would_open")


def _raise(changes: Changes, news: News, now: datetime) -> list[dict[str, Any]]:
    """Open new alerts; return what those say that were resolved before and open again."""
    created, reopened = _raises(changes, now, "opened")
    # A person may have reopened the condition's alert a moment ago: then it is there.
    if created:
        Alert.objects.bulk_create(created, ignore_conflicts=True)
        news.opened += [alert.pk for alert in created]
    return reopened


def _raises(
    changes: Changes, now: datetime, decision: str
) -> tuple[list[Alert], list[dict[str, Any]]]:
    """Return new alerts, and what those say that were resolved before and are raised again."""
    earlier = alerts_earlier.newest_resolved(changes.raised)
    taken_back = alerts_earlier.undone(changes.raised, earlier)
    created: list[Alert] = []
    reopened: list[dict[str, Any]] = []
    for key, (wanted, subject) in list(changes.raised.items()):
        before = earlier.get(key)
        if (
            before
            and before.resolved_by != SYSTEM
            and key not in taken_back
            and not alerts_earlier.is_another_matter(wanted.details, before.alert_details)
        ):
            changes.refuse(key, subject, before.pk)
            continue
        if (there := changes.goes_on(key)) is not None:
            changes.alert_ids[key] = there.id
            continue
        if before is None:
            alert_id = uuid7()
            created.append(_new_alert(alert_id, wanted, subject, now))
        else:
            alert_id = before.pk
            reopened.append(_content(wanted, subject, now) | {"id": alert_id, "opened_at": now})
        changes.alert_ids[key] = alert_id
        changes.told(subject, key, decision, alert_id=str(alert_id))
    return created, reopened


def _new_alert(alert_id: uuid.UUID, wanted: Wanted, subject: Place, now: datetime) -> Alert:
    return Alert(
        id=alert_id,
        machine_id=subject.machine_id,
        model_type=subject.model_type,
        alert_timestamp=now,
        **_content(wanted, subject, now),
    )


def _content(wanted: Wanted, subject: Place, now: datetime) -> dict[str, Any]:
    return {
        "condition_key": wanted.condition_key,
        "alert_type": wanted.alert_type,
        "severity": wanted.severity,
        "alert_message": wanted.message,
        "occurrences": wanted.occurrences,
        "current_metric_value": wanted.current,
        "threshold_value": wanted.threshold,
        "baseline_metric_value": wanted.baseline,
        "peak_metric_value": wanted.peak,
        "last_seen_at": now,
        "seen_through": wanted.seen_through,
        "alert_details": wanted.details,
        "model_id": subject.model_id,
        "model_version": subject.model_version,
    }


class _Written(NamedTuple):
    """An alert that was written, and the kind of what was told of it last."""

    id: uuid.UUID
    state: str
    last_told: str | None


# A beginning that was not told, since an old window brought it back, is told with a new window.
_LAST_TOLD: Final = """
    (SELECT n.kind FROM notices n WHERE n.alert_id = a.id
    ORDER BY n.occurred_at DESC, n.id DESC LIMIT 1)
"""


def _update(contents: list[dict[str, Any]], news: News) -> None:
    """Write what alerts say now; those with `opened_at` are open again since then."""
    if not contents:
        return
    found = execute(_UPDATE, [msgspec.json.encode(contents).decode()])
    written = [_Written(*row) for row in found]
    there = {one.id for one in written}
    news.rose = [pk for pk in news.rose if pk in there]
    opened = {content["id"] for content in contents if "opened_at" in content}
    news.reopened += [
        one.id for one in written if one.id in opened or one.last_told == Notice.Kind.RESOLVED
    ]
    news.snoozed += [one.id for one in written if one.state == Alert.State.SNOOZED]


_CONTENT: Final = {
    "condition_key": "text",
    "alert_type": "text",
    "severity": "text",
    "alert_message": "text",
    "occurrences": "int4",
    "current_metric_value": "float8",
    "threshold_value": "float8",
    "baseline_metric_value": "float8",
    "peak_metric_value": "float8",
    "last_seen_at": "timestamptz",
    "seen_through": "timestamptz",
    "alert_details": "jsonb",
    "model_id": "uuid",
    "model_version": "int4",
}
# Judging knows the worst since a change; of distributions only those of the newest windows.
_SAID: Final = {
    "peak_metric_value": "CASE WHEN w.opened_at IS NULL AND w.alert_type = 'data_drift'"
    " THEN greatest(a.peak_metric_value, w.peak_metric_value) ELSE w.peak_metric_value END"
}
# Whoever had it has it still; what somebody took note of was the time before.
_WHEN_OPENED: Final = {
    "state": "'open'",
    "acknowledged_at": "NULL",
    "acknowledged_by": "''",
    "resolved_at": "NULL",
    "resolved_by": "NULL",
    "resolution_action": "''",
    "resolution_notes": "''",
    "alert_timestamp": "w.opened_at",
}
_UPDATE: Final = f"""
    UPDATE model_alerts AS a SET is_resolved = false,
        {", ".join(f"{name} = {_SAID.get(name, f'w.{name}')}" for name in _CONTENT)},
        {
    ", ".join(
        f"{name} = CASE WHEN w.opened_at IS NULL THEN a.{name} ELSE {value} END"
        for name, value in _WHEN_OPENED.items()
    )
}
    FROM jsonb_to_recordset(%s::jsonb) AS w (id uuid, opened_at timestamptz,
        {", ".join(f"{name} {kind}" for name, kind in _CONTENT.items())})
    WHERE a.id = w.id AND a.is_resolved = (w.opened_at IS NOT NULL)
    RETURNING a.id, a.state, {_LAST_TOLD}
"""


def _end(ended: Sequence[Ended], news: News, now: datetime) -> list[uuid.UUID]:
    """Resolve alerts that are not yet; the end of what nobody was told of is not told either."""
    if not ended:
        return []
    found = execute(_RESOLVE, [now, SYSTEM, msgspec.json.encode(ended).decode()])
    written = [_Written(*row) for row in found]
    news.resolved += [one.id for one in written if one.last_told != Notice.Kind.RESOLVED]
    return [one.id for one in written]


# People have been told of all windows up to the one that ended it.
_RESOLVE: Final = f"""
    UPDATE model_alerts AS a SET state = 'resolved', is_resolved = true,
        resolved_at = %s, resolved_by = %s, resolution_action = w.action,
        resolution_notes = w.notes, alert_details = a.alert_details || w.details,
        told_through = greatest(a.told_through, w.seen_through),
        snoozed_until = NULL, snoozed_until_count = NULL, snoozed_until_worse = false,
        snoozed_peak = NULL
    FROM jsonb_to_recordset(%s::jsonb)
        AS w (id uuid, action text, notes text, details jsonb, seen_through timestamptz)
    WHERE a.id = w.id AND NOT a.is_resolved
    RETURNING a.id, a.state, {_LAST_TOLD}
"""
