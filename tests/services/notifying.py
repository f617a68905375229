"""Channels that are real sites on this machine, routes to them, and what arrived there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from modelperf.models import Alert, AlertMember, Channel, Delivery, Notice, Route
from modelperf.services import notices, notifications_routing, notifications_sending
from modelperf.services.notifications_sending import Outcome
from tests.factories import AlertFactory, ModelVersionFactory
from tests.sites import LOOPBACK, Site, answering

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
GROUPED = 30 * SECOND
OK = answering(b"", status=202)
DOWN = answering(b"no", status=503)


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    """A site that takes every message."""
    settings.OUTGOING_NETWORKS = LOOPBACK
    settings.OUTGOING_TIMEOUT_SECONDS = 30
    with Site().served() as there:
        there.answer = OK
        yield there


def channel(site: Site | None = None, **fields: Any) -> Channel:
    """Store a channel to a site, or to where nobody is."""
    url = f"{site.url if site else 'http://127.0.0.1:9'}/hook"
    known = {"name": f"channel {Channel.objects.count()}", "kind": "webhook"}
    return Channel.objects.create(**{**known, "settings": {"url": url}, **fields})


def route(to: Channel | Site | None = None, **fields: Any) -> Route:
    """Store a route over a channel, or over a new one to a site."""
    over = to if isinstance(to, Channel) else channel(to)
    name = f"route {Route.objects.count()}"
    return Route.objects.create(**{"name": name, "channel": over, **fields})


def tell(alert: Alert, kind: str = "opened", now: datetime = NOW) -> Notice:
    """Note that there is something to tell of an alert."""
    assert notices.tell(kind=kind, alert_ids=[alert.pk], now=now) == 1
    return Notice.objects.filter(alert=alert).latest("id")


def told(alert: Alert, kind: str = "opened", now: datetime = NOW) -> Notice:
    """Note it, and decide about it."""
    notice = tell(alert, kind, now)
    notifications_routing.route_notices(now=now)
    return notice


def resolve(alert: Alert) -> None:
    """Store that an alert is over."""
    Alert.objects.filter(pk=alert.pk).update(
        state="resolved",
        snoozed_until=None,
        is_resolved=True,
        resolved_at=NOW,
        resolved_by="system",
        resolution_action="recovered",
    )


def reopen(alert: Alert) -> None:
    """Store that an alert is open again."""
    Alert.objects.filter(pk=alert.pk).update(
        state="open", is_resolved=False, resolved_at=None, resolved_by=None, resolution_action=""
    )


def fleet_alert(*names: str, **fields: Any) -> Alert:
    """Store an alert of the fleet about machines of these names."""
    alert = AlertFactory.create(fleet=True, **fields)
    for name in names:
        model = ModelVersionFactory.create(machine__name=name)
        AlertMember.objects.create(alert=alert, machine=model.machine, model=model, joined_at=NOW)
    return alert


def decisions(notice: Notice) -> dict[str, str]:
    """Return what was decided of a notice, by route."""
    found = Delivery.objects.filter(notice=notice)
    return dict(found.order_by("route_name").values_list("route_name", "decision"))


def decision(notice: Notice) -> str:
    """Return what was decided of it for the only route."""
    return Delivery.objects.get(notice=notice).decision


def send(over: Channel | Route, now: datetime) -> list[Outcome]:
    """Send what is due at a time."""
    place = over.channel_id if isinstance(over, Route) else over.pk
    return notifications_sending.send_due(channel_id=place, now=now)


def arrived(site: Site) -> list[dict[str, Any]]:
    """Return the messages that came to a site, taken or not."""
    return [json.loads(received.content) for received in site.received]


def events(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the kind and the alert of each event in a message."""
    return [(event["kind"], event["alert_id"]) for event in message["events"]]
