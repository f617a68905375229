"""What the notifier does: looks at what there is to tell, and has it sent."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import structlog
from django.utils import timezone

from modelperf.models import Channel, Route
from modelperf.notifications import DeliveryError, SettingsError, find
from modelperf.services import (
    alerts_waking,
    jobs,
    notifications_envelopes,
    notifications_routing,
    notifications_sending,
    notifications_unsilencing,
)
from modelperf.services.errors import ConflictError, NotFoundError
from modelperf.services.notifications_sending import Outcome

log = structlog.get_logger(__name__)

DELIVER: Final = "deliver"
QUEUE: Final = "notifications"


def look(*, now: datetime | None = None) -> list[uuid.UUID]:
    """Wake, unsilence and route what is due; return the channels that have something to send.

    Where one step breaks, the others are still taken.
    """
    moment = now or timezone.now()
    steps: list[Callable[..., Any]] = [
        alerts_waking.wake,
        notifications_unsilencing.unsilence,
        notifications_routing.route_notices,
        notifications_routing.follow_routes,
        notifications_sending.give_up_what_is_off,
    ]
    for step in steps:
        try:
            step(now=moment)
        except Exception:
            log.exception("notifier_step_broke", step=step.__name__)
    return notifications_sending.due_channels(now=moment)


def enqueue(channel_ids: list[uuid.UUID]) -> None:
    """Have a worker send what is due, each channel by a job of its own."""
    for channel_id in channel_ids:
        jobs.defer(DELIVER, queue=QUEUE, once=f"{DELIVER}:{channel_id}", channel_id=str(channel_id))


def one_pass(*, now: datetime | None = None) -> list[Outcome]:
    """Look, and send what is due here and now, one channel after another."""
    return [
        outcome
        for channel_id in look(now=now)
        for outcome in notifications_sending.send_due(channel_id=channel_id, now=now)
    ]


def send_test(*, name: str, now: datetime | None = None) -> str:
    """Send a message that says it is a test, by the name of a channel or route.

    It goes at once, also where that is switched off. Returns what was answered.

    Raises
    ------
    NotFoundError
        There is no channel or route of that name.
    ConflictError
        It was not taken; the text says why.
    """
    channel = _channel(name)
    envelope = notifications_envelopes.of_test(name)
    try:
        answered = find(channel.kind, channel.settings).send(envelope, now or timezone.now())
    except (SettingsError, DeliveryError) as error:
        log.warning("notification_test_failed", channel=channel.name, said=str(error))
        raise ConflictError(str(error)) from None
    except Exception as error:
        raise ConflictError(_broke(error, channel)) from None
    log.info("notification_test_sent", channel=channel.name, said=answered)
    return answered


def _broke(error: Exception, channel: Channel) -> str:
    """Return and log what broke and where, without its text: that may hold a secret."""
    where, kind = traceback.extract_tb(error.__traceback__)[-1], type(error).__name__
    place = f"{where.name}:{where.lineno}"
    log.error("notification_test_broke", channel=channel.name, error=kind, where=place)
    return f"Sending broke: {kind} in {place}."


def _channel(name: str) -> Channel:
    channel = Channel.objects.filter(name=name).first()
    route = Route.objects.filter(name=name).select_related("channel").first()
    if channel is not None:
        return channel
    if route is None:
        raise NotFoundError(f"There is no channel or route named {name}.")
    return route.channel
