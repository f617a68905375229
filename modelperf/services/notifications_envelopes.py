"""What a message says to its channel: the same at every attempt."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.urls import reverse

from modelperf.models import Delivery, Message, Notice
from modelperf.models.keys import uuid7
from modelperf.notifications import Envelope, Item

_TOLD = Delivery.Decision.TOLD
_TIMES: Final = ("opened_at", "changed_at", "seen_through", "resolved_at")


def of_message(message: Message) -> Envelope:
    """Return what a sealed message tells, in the order in which it came to be."""
    found = message.deliveries.filter(decision=_TOLD).select_related("notice")
    deliveries = list(found.order_by("notice_id"))
    first = _first_messages(message, {one.notice.alert_id for one in deliveries})
    return Envelope(
        message_id=message.pk,
        route=deliveries[0].route_name if deliveries else "",
        public_url=settings.PUBLIC_URL,
        items=tuple(_item(one.notice, first.get(one.notice.alert_id)) for one in deliveries),
        attempt=message.attempts,
    )


def of_test(name: str) -> Envelope:
    """Return a message that tells of nothing that happened."""
    return Envelope(
        message_id=uuid7(), route=name, public_url=settings.PUBLIC_URL, items=(), is_test=True
    )


def _first_messages(message: Message, alert_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
    """Return in which earlier message the same route told of an alert first."""
    told = Delivery.objects.filter(
        route=message.route_id,
        notice__alert__in=list(alert_ids),
        decision=_TOLD,
        message__sealed_at__lt=message.sealed_at,
    )
    newest_first = told.order_by("-message__sealed_at", "-message_id")
    return dict(newest_first.values_list("notice__alert_id", "message_id"))


def _item(notice: Notice, first_message_id: uuid.UUID | None) -> Item:
    return Item(
        event_id=notice.pk,
        alert_id=notice.alert_id,
        kind=notice.kind,
        occurred_at=notice.occurred_at,
        says=_says(notice),
        link=_link(notice.alert_id),
        members=tuple(notice.says.get("members", ())),
        first_message_id=first_message_id,
    )


def _says(notice: Notice) -> dict[str, Any]:
    """Return what the alert was like, its times in UTC with Z as all others are told."""
    said = {name: value for name, value in notice.says.items() if name != "members"}
    return said | {name: _with_z(said[name]) for name in _TIMES if said.get(name)}


def _with_z(moment: str) -> str:
    try:
        told = datetime.fromisoformat(moment).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):  # whoever reads it leaves it out
        return moment
    return told.isoformat().replace("+00:00", "Z")


def _link(alert_id: uuid.UUID) -> str:
    """Return where an alert is looked at; empty where it is not known where this is reached."""
    if not settings.PUBLIC_URL:
        return ""
    path = reverse("admin:modelperf_alert_change", args=[alert_id])
    return f"{settings.PUBLIC_URL.rstrip('/')}{path}"
