"""Verbs on many alerts at once: all that allow it are changed, the others say why not."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError
from django.db.models import QuerySet
from django.utils import timezone

from modelperf.models import Alert, AlertComment
from modelperf.services import alerts_history, notices
from modelperf.services.alerts_verbs import (
    COMMENT_LENGTH,
    HAS_TWIN,
    VERBS,
    Reopen,
    Verb,
    check_text,
    named,
    since,
)
from modelperf.services.database import repeated
from modelperf.services.errors import InvalidError
from modelperf.services.recorded import recorded

MOST_AT_ONCE: Final = 5_000
Refusals = list[tuple[Alert, str]]


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """The alerts that were changed, as they are now, and those refused with a sentence each."""

    changed: list[Alert]
    refused: Refusals


def change(
    *, alerts: QuerySet[Alert] | Iterable[uuid.UUID], verb: str, by: str, **what: Any
) -> BulkOutcome:
    """Do to many alerts what `verb` does to one; `what` is what that takes besides.

    However many they are, it takes as many statements. Those that do not allow it are left as
    they are.
    """
    ids, wanted = _ids(alerts), _verb(verb, what)
    changed, refused = carry_out(alert_ids=ids, verb=wanted, by=by)
    rows = Alert.objects.filter(pk__in=changed).select_related("assignee", "team")
    order = {pk: place for place, pk in enumerate(ids)}
    return BulkOutcome(
        sorted(rows, key=lambda alert: order[alert.pk]),
        sorted(refused, key=lambda pair: order[pair[0].pk]),
    )


def comment(*, alerts: Iterable[Alert], by: str, text: str) -> list[AlertComment]:
    """Say the same about each of some alerts, in whatever state they are."""
    said = text.strip()
    if not said:
        raise InvalidError.field("text", "Send a text: a comment says something.")
    check_text("text", said, COMMENT_LENGTH)
    return AlertComment.objects.bulk_create(
        [AlertComment(alert=alert, text=said, created_by=by) for alert in alerts]
    )


def _verb(name: str, what: dict[str, Any]) -> Verb:
    if name not in VERBS:
        raise InvalidError.field("verb", f"verb is one of {', '.join(VERBS)}.")
    kind = VERBS[name]
    needed = {one.name for one in fields(kind) if one.default is MISSING}
    known = [one.name for one in fields(kind)]
    if not needed <= what.keys() <= set(known):
        takes = f"takes {', '.join(known)}" if known else "takes nothing besides"
        raise InvalidError.field("verb", f"{name} {takes}.")
    return kind(**what)


def _ids(alerts: QuerySet[Alert] | Iterable[uuid.UUID]) -> list[uuid.UUID]:
    if isinstance(alerts, QuerySet):
        alerts = alerts.values_list("pk", flat=True)[: MOST_AT_ONCE + 1]
    ids = list(dict.fromkeys(alerts))
    if len(ids) > MOST_AT_ONCE:
        msg = f"Too many alerts: choose at most {MOST_AT_ONCE:,} at once."
        raise InvalidError.field("alerts", msg)
    return ids


def carry_out(
    *, alert_ids: Sequence[uuid.UUID], verb: Verb, by: str, revision: int | None = None
) -> tuple[list[uuid.UUID], Refusals]:
    """Do something to the alerts that allow it; with a `revision`, to one that still has it."""
    verb.check()
    return repeated(lambda: _unless_overtaken(alert_ids, verb, by, revision))


def _unless_overtaken(
    alert_ids: Sequence[uuid.UUID], verb: Verb, by: str, revision: int | None
) -> tuple[list[uuid.UUID], Refusals]:
    try:
        return _once(alert_ids, verb, by, revision)
    except IntegrityError:
        # An alert of the same condition opened meanwhile: now it is seen.
        return _once(alert_ids, verb, by, revision)


def _once(
    alert_ids: Sequence[uuid.UUID], verb: Verb, by: str, revision: int | None
) -> tuple[list[uuid.UUID], Refusals]:
    with recorded(by=by, verb=verb.name, note=verb.note):
        found = _locked(alert_ids)
        now = timezone.now()
        sentences = _refusals(found, verb, revision, now)
        chosen = [alert.pk for alert in found if alert.pk not in sentences]
        if chosen:
            swapped = Alert.objects.filter(pk__in=chosen, state__in=verb.states)
            swapped.update(**verb.changes(by, now))
            if verb.tells is not None:
                notices.tell(kind=verb.tells, alert_ids=chosen, now=now)
    refused = [(alert, sentences[alert.pk]) for alert in found if alert.pk in sentences]
    return chosen, refused


def _locked(alert_ids: Sequence[uuid.UUID]) -> list[Alert]:
    """Return the alerts as they are, which nobody else changes now.

    Always in the same order, so that two who act on the same ones wait, and never for each other.
    """
    found = Alert.objects.filter(pk__in=alert_ids).select_related("assignee")
    heavy = ("alert_details", "auto_action_result", "metadata")
    return list(found.defer(*heavy).select_for_update(of=("self",), no_key=True).order_by("pk"))


def _refusals(
    found: Sequence[Alert], verb: Verb, revision: int | None, now: datetime
) -> dict[uuid.UUID, str]:
    refused = {alert.pk: says for alert in found if (says := verb.refusal(alert, now))}
    if revision is not None:
        for alert in found:
            if alert.revision != revision:
                refused.setdefault(alert.pk, _changed_since(alert, revision, now))
    if isinstance(verb, Reopen):
        refused = dict.fromkeys(_twins(found, now), HAS_TWIN) | refused
    return refused


def _changed_since(alert: Alert, revision: int, now: datetime) -> str:
    """Return who changed an alert that somebody knows as it was before."""
    last = alerts_history.last_change(alert)
    done = f"by {named(last.actor)} {since(last.when, now)}: {last.word[:1].lower()}{last.word[1:]}"
    return f"The alert was changed {done}. It is at revision {alert.revision}, not {revision}."


def _twins(found: Sequence[Alert], now: datetime) -> set[uuid.UUID]:
    """Return the alerts whose condition has another that is unresolved, or newer among these."""
    keys = {alert.condition_key for alert in found}
    taken = set(
        Alert.objects.unresolved()
        .filter(condition_key__in=keys)
        .values_list("condition_key", flat=True)
    )
    twins = set()
    for alert in sorted(found, key=lambda one: (one.resolved_at or now, one.pk), reverse=True):
        if alert.condition_key in taken:
            twins.add(alert.pk)
        taken.add(alert.condition_key)
    return twins
