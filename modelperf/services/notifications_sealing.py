"""A message is sealed when its time has come: what it tells by then, it tells at each attempt."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db.models import Exists, OuterRef, QuerySet

from modelperf.models import Alert, Delivery, Message, Notice
from modelperf.services.notifications_leaving_out import leave_out

log = structlog.get_logger(__name__)

HOUR: Final = timedelta(hours=1)
MOST_AT_ONCE: Final = 500
_TOLD: Final = Delivery.Decision.TOLD


def seal(message: Message, *, now: datetime) -> Message | None:
    """Seal what a locked message tells that still gathers; return what is to be sent, if anything.

    Where its route has told as much as it may in an hour, all but what is critical goes on
    gathering, and so does what is too much for one message. What need not be told any more is left
    out; without anything left the message is dropped.
    """
    told = _told(message)
    free_at = _free_at(message, now)
    if free_at is not None:
        told = _urgent(told)
        if not told.exists():
            _wait(message, free_at)
            return None
    sealed = _with(message, list(told.values_list("id", flat=True)[:MOST_AT_ONCE]), now)
    leave_out(sealed, now=now)
    is_empty = not _told(sealed).exists()
    if is_empty:
        sealed.status, sealed.ended_at = Message.Status.DROPPED, now
    sealed.sealed_at = now
    sealed.save(update_fields=["sealed_at", "status", "ended_at"])
    return None if is_empty else sealed


def _told(message: Message) -> QuerySet[Delivery]:
    return message.deliveries.filter(decision=_TOLD).order_by("notice_id")


def _urgent(told: QuerySet[Delivery]) -> QuerySet[Delivery]:
    """Keep what no limit holds back."""
    critical = told.filter(notice__says__severity=Alert.Severity.CRITICAL)
    return critical.exclude(notice__kind=Notice.Kind.RESOLVED)


def _wait(message: Message, until: datetime) -> None:
    message.due_at = until
    message.save(update_fields=["due_at"])
    name = message.route.name if message.route else ""
    log.info("notifications_limited", route=name, until=until.isoformat())


def _with(message: Message, deliveries: Sequence[uuid.UUID], now: datetime) -> Message:
    """Return the message that tells these; what is left of a larger one goes on gathering."""
    if not _told(message).exclude(pk__in=deliveries).exists():
        return message
    part = Message.objects.create(
        route=message.route,
        channel=message.channel,
        is_held=message.is_held,
        due_at=now,
        sealed_at=now,
    )
    Delivery.objects.filter(pk__in=deliveries).update(message=part)
    return part


def _free_at(message: Message, now: datetime) -> datetime | None:
    """Return when a route may tell more than it has within the hour; None: now."""
    if message.route is None:
        return None
    sealed = Message.objects.filter(route=message.route_id, sealed_at__gt=now - HOUR)
    counted = sealed.exclude(status=Message.Status.DROPPED).order_by("-sealed_at")
    times = counted.values_list("sealed_at", flat=True)[: message.route.most_per_hour]
    newest = [at for at in times if at is not None]
    return newest[-1] + HOUR if len(newest) >= message.route.most_per_hour else None


def older(message: Message) -> Message | None:
    """Return the message of the same route that is to be sent first: it tells of the same alert.

    Else an end that was sent at once might come before its beginning that is tried again.
    """
    sealed = Message.objects.filter(
        route=message.route_id, status=Message.Status.WAITING, sealed_at__isnull=False
    ).exclude(pk=message.pk)
    if message.sealed_at is not None:
        sealed = sealed.filter(sealed_at__lt=message.sealed_at)
    if message.route_id is None or not sealed.exists():
        return None
    same = _told(message).order_by().values("notice__alert_id")
    shared = Delivery.objects.filter(message=OuterRef("pk"), decision=_TOLD, notice__alert__in=same)
    found = sealed.filter(Exists(shared)).select_related("route", "channel")
    return found.order_by("sealed_at", "id").first()
