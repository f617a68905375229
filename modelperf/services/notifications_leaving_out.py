"""What a message leaves out when it is sealed: what is over, what is old news, what is silenced."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from modelperf.models import Alert, Delivery, Message, Notice, Silence
from modelperf.services import matching
from modelperf.services.notifications_deciding import came, of_silence
from modelperf.services.silences import InForce

_Decision = Delivery.Decision
_RESOLVED: Final = Notice.Kind.RESOLVED
_OVER: Final = "It was over before the message went."
_OLD: Final = "Something newer of the alert was told before the message went."
_BACK: Final = "It was open again before the message went, as people had been told."
_OFF: Final = "The route was switched off before the message went."
_RANK: Final = {severity: rank for rank, severity in enumerate(Alert.Severity.values)}


@dataclass(frozen=True, slots=True)
class _Told:
    """What is to tell of an alert, and how this route told of it: here, elsewhere, or not."""

    notice_id: uuid.UUID
    kind: str
    severity: str
    here: uuid.UUID | None
    is_elsewhere: bool


def leave_out(message: Message, *, now: datetime) -> None:
    """Decide anew about what a message tells that is sealed now."""
    if message.route is not None and not message.route.is_enabled:
        off = message.deliveries.filter(decision=_Decision.TOLD)
        off.update(decision=_Decision.NOT_WANTED, reason=_OFF, message=None)
        return
    left: dict[str, list[uuid.UUID]] = {_BACK: [], _OLD: [], _OVER: []}
    for told in _histories(message):
        left[_BACK] += [one.here for one in _back_again(told) if one.here is not None]
        left[_OLD] += [one.here for one in _before_newer(told) if one.here is not None]
        left[_OVER] += [one.here for one in _over_before(told) if one.here is not None]
    for reason, some in left.items():
        if some:
            Delivery.objects.filter(pk__in=some).update(
                decision=_Decision.OVER_BEFORE, reason=reason, message=None
            )
    if Silence.objects.in_force(now).exists():
        _silence(message, now)


def _histories(message: Message) -> Iterator[list[_Told]]:
    """Yield all there was to tell of each alert in the message, in its order."""
    here = Delivery.objects.filter(message=message, decision=_Decision.TOLD).order_by()
    own, alert_ids = {}, set()
    for pk, notice_id, alert_id in here.values_list("id", "notice_id", "notice__alert_id"):
        own[notice_id] = pk
        alert_ids.add(alert_id)
    sent = Delivery.objects.filter(
        came(),
        route=message.route_id,
        notice__alert__in=alert_ids,
        decision=_Decision.TOLD,
        message__sealed_at__isnull=False,
    )
    elsewhere = set(sent.exclude(message=message).values_list("notice_id", flat=True))
    every = Notice.objects.filter(alert__in=alert_ids).order_by("id")
    of_alerts: dict[uuid.UUID, list[_Told]] = defaultdict(list)
    columns = every.values_list("id", "alert_id", "kind", "says__severity")
    for pk, alert_id, kind, severity in columns:
        told = _Told(pk, kind, severity or "", own.get(pk), pk in elsewhere)
        of_alerts[alert_id].append(told)
    yield from of_alerts.values()


def _over_before(told: list[_Told]) -> Iterator[_Told]:
    """Yield what began and ended before this message, and that nobody was told of."""
    for span in _spans(told):
        if _is_over_before(span):
            yield from span


def _spans(told: list[_Told]) -> Iterator[list[_Told]]:
    """Yield what belongs together: from a beginning to the end, where there is one yet."""
    ends = [number + 1 for number, one in enumerate(told) if one.kind == _RESOLVED]
    for begin, end in pairwise([0, *ends, len(told)]):
        yield told[begin:end]


def _is_over_before(span: list[_Told]) -> bool:
    """Whether this message has nothing to tell of a span.

    It is over, and nobody was told that it began, or is told of its end here.
    """
    if not span or span[-1].kind != _RESOLVED:
        return False
    was_told = any(one.is_elsewhere for one in span[:-1])
    return not was_told or span[-1].here is None


def _back_again(told: list[_Told]) -> Iterator[_Told]:
    """Yield an end and a new beginning that this message would tell at once.

    To those who know of the beginning before, nothing has changed, if it is no more severe now.
    """
    for before, after in pairwise(_spans(told)):
        known = [_RANK.get(one.severity, 0) for one in before[:-1] if one.is_elsewhere]
        both = bool(before and after) and before[-1].here and after[0].here
        if both and known and _RANK.get(after[0].severity, 0) <= max(known):
            yield before[-1]
            yield after[0]


def _before_newer(told: list[_Told]) -> list[_Told]:
    """Return what came before something that this route has told already."""
    newest = [number for number, one in enumerate(told) if one.is_elsewhere][-1:]
    return told[: newest[0]] if newest else []


def _silence(message: Message, now: datetime) -> None:
    """Keep back what a silence is over by now; it is told when that ends. Ends are told."""
    told = message.deliveries.filter(decision=_Decision.TOLD)
    begun = list(told.exclude(notice__kind=_RESOLVED).select_related("notice"))
    ids = {one.notice.alert_id for one in begun}
    alerts, in_force = matching.load(Alert.objects.filter(pk__in=ids)), InForce(now)
    silenced = []
    for one in begun:
        matched = matching.matched(alerts[one.notice.alert_id], one.notice.says)
        if (silence := in_force.over(matched)) is not None:
            one.decision, one.reason = _Decision.SILENCED, of_silence(silence)
            one.silence, one.message = silence, None
            silenced.append(one)
    Delivery.objects.bulk_update(silenced, ["decision", "reason", "silence", "message"])
