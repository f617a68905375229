"""The `webhook` channel: a signed request with all there is to tell, as JSON.

The body and the `Idempotency-Key`, the message's id, are the same at every attempt; only the time
in the signature differs. docs/notifications.md shows a receiver.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Struct

from modelperf.notifications.base import Envelope, Kind, register
from modelperf.notifications.posting import check_url, post
from modelperf.notifications.rendering import subject
from modelperf.outgoing.signatures import HEADER, signature

VERSION: Final = 1


class Event(Struct, frozen=True, kw_only=True):
    """One thing that is told; `alert` is what the alert was like then."""

    event_id: uuid.UUID
    alert_id: uuid.UUID
    kind: str
    occurred_at: datetime
    link: str
    alert: dict[str, Any]
    members: tuple[str, ...]


class Body(Struct, frozen=True, kw_only=True):
    """What a receiver gets."""

    version: int
    message_id: uuid.UUID
    route: str
    is_test: bool
    subject: str
    events: list[Event]


@register("webhook")
class Webhook(Kind, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An address that takes signed JSON: `{"url": ".."}`."""

    url: str
    secret: ClassVar[tuple[str, ...]] = ("url",)
    example: ClassVar[Mapping[str, Any]] = {"url": "https://hooks.example.org/modelperf"}

    def check(self) -> None:
        """Refuse what is no address."""
        check_url(self.url)

    def send(self, envelope: Envelope, at: datetime) -> str:
        """Send it."""
        content = msgspec.json.encode(_body(envelope))
        headers = {
            "Idempotency-Key": str(envelope.message_id),
            HEADER: signature(content, at=int(at.timestamp())),
        }
        return post(self.url, content, at=at, headers=headers)


def _body(envelope: Envelope) -> Body:
    return Body(
        version=VERSION,
        message_id=envelope.message_id,
        route=envelope.route,
        is_test=envelope.is_test,
        subject=subject(envelope),
        events=[
            Event(
                event_id=item.event_id,
                alert_id=item.alert_id,
                kind=item.kind,
                occurred_at=item.occurred_at,
                link=item.link,
                alert=item.says,
                members=item.members,
            )
            for item in envelope.items
        ],
    )
