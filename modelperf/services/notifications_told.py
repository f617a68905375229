"""Why somebody was told of an alert, or was not; and what is forgotten of it in the end."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone
from msgspec import Struct

from modelperf.models import Alert, Delivery, Message, Notice
from modelperf.services.notifications_deciding import of_silence

AT_ONCE: Final = 1_000
_TOLD: Final = Delivery.Decision.TOLD
_WORDS: Final = {
    Notice.Kind.OPENED: "Opened",
    Notice.Kind.REOPENED: "Opened again",
    Notice.Kind.ROSE: "Severity rose",
    Notice.Kind.WOKE: "Snooze over",
    Notice.Kind.UNSILENCED: "Silence over",
    Notice.Kind.RESOLVED: "Over",
}


class Told(Struct, frozen=True, kw_only=True):
    """What became of a notice on a route, in a sentence; `route` is empty where there was none.

    `status` is what became of the message by which it is told, None where it is told by none.
    """

    notice_id: uuid.UUID
    kind: str
    occurred_at: datetime
    route: str
    decision: str
    status: str | None
    sentence: str

    def __str__(self) -> str:
        """Return it with what it is about."""
        return f"{_WORDS[Notice.Kind(self.kind)]} at {_at(self.occurred_at)}: {self.sentence}"


def why(alert: Alert) -> list[str]:
    """Return why who was or was not told of an alert, a sentence for each notice and route."""
    return [str(told) for told in deliveries_of(alert)]


def deliveries_of(alert: Alert) -> list[Told]:
    """Return what became of everything there was to tell of an alert, oldest first."""
    found = Notice.objects.filter(alert=alert).order_by("id")
    told: list[Told] = []
    for notice in found.prefetch_related("deliveries__message", "deliveries__silence"):
        deliveries = sorted(notice.deliveries.all(), key=lambda one: one.route_name)
        told.extend(
            _told(notice, one.route_name, one.decision, _sentence(one), _status(one))
            for one in deliveries
        )
        if not deliveries:
            is_decided = notice.routed_at is not None
            said = "There was no route." if is_decided else "Nothing is decided yet."
            told.append(_told(notice, "", "", said))
    return told


def _told(
    notice: Notice, route: str, decision: str, sentence: str, status: str | None = None
) -> Told:
    return Told(
        notice_id=notice.pk,
        kind=notice.kind,
        occurred_at=notice.occurred_at,
        route=route,
        decision=decision,
        status=status,
        sentence=sentence,
    )


def _status(delivery: Delivery) -> str | None:
    return delivery.message.status if delivery.message else None


def _sentence(delivery: Delivery) -> str:
    route, message = delivery.route_name, delivery.message
    if delivery.silence is not None and delivery.decision == Delivery.Decision.SILENCED:
        return f"Not told to {route}: s{of_silence(delivery.silence)[1:]}"
    if delivery.decision != _TOLD or message is None:
        return f"Not told to {route}: {delivery.reason[:1].lower()}{delivery.reason[1:]}"
    if message.status == Message.Status.SENT:
        return f"Told to {route} at {_at(message.ended_at)} (attempt {message.attempts})."
    if message.status == Message.Status.FAILED:
        often = f"{message.attempts} attempt{'' if message.attempts == 1 else 's'}"
        return f"Not told to {route}: given up after {often}. {_last_said(message)}".strip()
    return _of_waiting(route, message)


def _of_waiting(route: str, message: Message) -> str:
    if message.sealed_at is None:
        quiet = ", when its quiet hours end" if message.is_held else ""
        return f"To be told to {route} at {_at(message.due_at)}{quiet}."
    if message.lease_id is not None:
        return f"On its way to {route} (attempt {message.attempts})."
    said = _last_said(message)
    return (
        f"Not told to {route} yet (attempt {message.attempts}), again at {_at(message.due_at)}."
        f" {said}".strip()
    )


def _last_said(message: Message) -> str:
    return str(message.attempts_log[-1]["said"]) if message.attempts_log else ""


def _at(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "some time"


def forget(*, now: datetime | None = None) -> dict[str, int]:
    """Delete what is older than MODELPERF_NOTIFICATION_DAYS of alerts that are over since then.

    In batches, so that nobody waits for long; returns how many notices and messages those were.
    """
    long_ago = (now or timezone.now()) - timedelta(days=settings.NOTIFICATION_DAYS)
    return {
        "notices": _in_batches(lambda: _forget_notices(long_ago)),
        "messages": _in_batches(lambda: _forget_messages(long_ago)),
    }


def _in_batches(forget_some: Callable[[], int]) -> int:
    total = 0
    while some := forget_some():
        total += some
    return total


def _forget_notices(long_ago: datetime) -> int:
    waits = Delivery.objects.filter(notice=OuterRef("pk"), message__status=Message.Status.WAITING)
    old = Notice.objects.filter(
        ~Exists(waits),
        occurred_at__lt=long_ago,
        routed_at__isnull=False,
        alert__is_resolved=True,
        alert__resolved_at__lt=long_ago,
    )
    ids = list(old.order_by("id").values_list("id", flat=True)[:AT_ONCE])
    Notice.objects.filter(pk__in=ids).delete()
    return len(ids)


def _forget_messages(long_ago: datetime) -> int:
    """Delete messages that ended and tell of nothing that is still there."""
    told = Delivery.objects.filter(message=OuterRef("pk"))
    old = Message.objects.filter(~Exists(told), ended_at__lt=long_ago)
    ids = list(old.order_by("ended_at", "id").values_list("id", flat=True)[:AT_ONCE])
    return Message.objects.filter(pk__in=ids).delete()[0]
