"""A message is sealed when its time has come: what it tells by then, it tells at each attempt."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import structlog

from modelperf.models import Delivery, Message, Notice

log = structlog.get_logger(__name__)

HOUR: Final = timedelta(hours=1)
MOST_AT_ONCE: Final = 500
_RESOLVED: Final = Notice.Kind.RESOLVED
_TOLD: Final = Delivery.Decision.TOLD
_OVER: Final = "It was over before the message went."


def seal(message: Message, *, now: datetime) -> bool:
    """Seal a locked message that still gathers; whether there is something to send.

    Where its route has told as much as it may in an hour, it goes on gathering. What began and
    ended meanwhile is left out; without anything left it is dropped.
    """
    free_at = _free_at(message, now)
    if free_at is not None:
        message.due_at = free_at
        message.save(update_fields=["due_at"])
        log.info("notifications_limited", route=_name(message), until=free_at.isoformat())
        return False
    _leave_out_what_is_over(message)
    message.sealed_at = now
    told = message.deliveries.filter(decision=_TOLD).order_by("notice_id")
    ids = list(told.values_list("id", flat=True))
    if not ids:
        message.status, message.ended_at = Message.Status.DROPPED, now
    message.save(update_fields=["sealed_at", "status", "ended_at"])
    if len(ids) > MOST_AT_ONCE:
        _leave_to_next(message, ids[MOST_AT_ONCE:], now)
    return bool(ids)


def _leave_to_next(message: Message, deliveries: list[uuid.UUID], now: datetime) -> None:
    """Let the next message tell what is too much for one: receivers refuse what is too large."""
    following = Message.objects.create(
        route=message.route, channel=message.channel, is_held=message.is_held, due_at=now
    )
    Delivery.objects.filter(pk__in=deliveries).update(message=following)


def _name(message: Message) -> str:
    return message.route.name if message.route else ""


def _free_at(message: Message, now: datetime) -> datetime | None:
    """Return when a route may tell more than it has within the hour; None: now."""
    if message.route is None:
        return None
    sealed = Message.objects.filter(route=message.route_id, sealed_at__gt=now - HOUR)
    counted = sealed.exclude(status=Message.Status.DROPPED).order_by("-sealed_at")
    times = counted.values_list("sealed_at", flat=True)[: message.route.most_per_hour]
    newest = [at for at in times if at is not None]
    return newest[-1] + HOUR if len(newest) >= message.route.most_per_hour else None


@dataclass(frozen=True, slots=True)
class _Told:
    """What is to tell of an alert, and how this route told of it: here, elsewhere, or not."""

    notice_id: uuid.UUID
    kind: str
    here: uuid.UUID | None
    is_elsewhere: bool


def _leave_out_what_is_over(message: Message) -> None:
    """Decide anew about what began and ended before this message, and that nobody was told of."""
    left_out = [
        delivery_id
        for told in _histories(message)
        for span in _spans(told)
        if _is_over_before(span)
        for one in span
        if (delivery_id := one.here) is not None
    ]
    if left_out:
        Delivery.objects.filter(pk__in=left_out).update(
            decision=Delivery.Decision.OVER_BEFORE, reason=_OVER, message=None
        )


def _histories(message: Message) -> Iterator[list[_Told]]:
    """Yield all there was to tell of each alert in the message, in its order."""
    here = Delivery.objects.filter(message=message, decision=_TOLD)
    alert_ids = here.order_by().values("notice__alert_id")
    sent = Delivery.objects.filter(
        route=message.route_id,
        notice__alert__in=alert_ids,
        decision=_TOLD,
        message__sealed_at__isnull=False,
    )
    elsewhere = set(sent.exclude(message=message).values_list("notice_id", flat=True))
    own = dict(here.values_list("notice_id", "id"))
    every = Notice.objects.filter(alert__in=alert_ids).order_by("id")
    of_alerts: dict[uuid.UUID, list[_Told]] = defaultdict(list)
    for pk, alert_id, kind in every.values_list("id", "alert_id", "kind"):
        of_alerts[alert_id].append(_Told(pk, kind, own.get(pk), pk in elsewhere))
    yield from of_alerts.values()


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
