"""One message of a channel is on its way at a time, whoever dies, hangs or comes late."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from pytest_django import Settings
from structlog.testing import capture_logs

from modelperf.models import Channel, Message
from modelperf.notifications import DeliveryError
from modelperf.notifications.webhook import Webhook
from modelperf.services.notifications_sending import FEWEST_ATTEMPTS, due_channels
from tests.factories import AlertFactory
from tests.services.concurrency import at_once
from tests.services.notifying import (  # noqa: F401 -- a fixture
    DOWN,
    GROUPED,
    HOUR,
    MINUTE,
    NOW,
    OK,
    SECOND,
    arrived,
    channel,
    decision,
    events,
    fleet_alert,
    reopen,
    resolve,
    route,
    send,
    site,
    tell,
    told,
)
from tests.sites import Page, Site

pytestmark = pytest.mark.django_db
DUE = NOW + GROUPED
DAY = 24 * HOUR


def interrupted(*_: object) -> str:
    raise KeyboardInterrupt


def test_who_died_is_followed_by_another_once_its_lease_is_over(
    site: Site,  # noqa: F811
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.NOTIFICATION_LEASE_SECONDS = 20
    over = route(site)
    told(AlertFactory.create())
    with monkeypatch.context() as patched:
        patched.setattr(Webhook, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            send(over, DUE)
    assert due_channels(now=DUE + 19 * SECOND) == send(over, DUE + 19 * SECOND) == []
    send(over, DUE + 20 * SECOND)
    message = Message.objects.get()
    assert (message.status, message.attempts) == ("sent", 2)
    assert message.attempts_log[0]["said"] == "Nobody knows: who sent it was not heard of."


TAKEN_OVER = {"at": "2026-05-04T12:01:00+00:00", "said": "Taken over.", "is_sent": False}


@pytest.mark.parametrize("is_taken", [False, True])
def test_who_lost_the_lease_changes_nothing_but_that_it_was_taken(
    site: Site,  # noqa: F811
    is_taken: bool,
) -> None:
    over = route(site)
    told(AlertFactory.create())
    lease = uuid.uuid4()

    def late(*_: object) -> str:
        Message.objects.update(
            lease_id=lease, leased_until=DUE + DAY, attempts_log=[TAKEN_OVER], attempts=2
        )
        if is_taken:
            return "late"
        raise DeliveryError("late")

    with pytest.MonkeyPatch.context() as patched, capture_logs() as logs:
        patched.setattr(Webhook, "send", late)
        send(over, DUE)
    message = Message.objects.get()
    noted = [entry["said"] for entry in message.attempts_log]
    assert [entry["event"] for entry in logs] == [
        "notification_sent" if is_taken else "notification_lease_lost"
    ]
    if is_taken:
        assert (message.status, message.lease_id) == ("sent", None)
        assert noted == ["Taken over.", "late"]
    else:
        assert (message.status, message.lease_id) == ("waiting", lease)
        assert noted == ["Taken over."]


def test_who_is_never_heard_of_again_is_followed_for_a_day(
    site: Site,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = route(site)
    told(AlertFactory.create())
    monkeypatch.setattr(Webhook, "send", interrupted)
    for number in range(FEWEST_ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            send(over, DUE + number * 5 * HOUR)
    assert Message.objects.get().status == "waiting"
    with capture_logs() as logs:
        assert send(over, DUE + 25 * HOUR) == []
    message = Message.objects.get()
    assert (message.status, message.lease_id, message.attempts) == ("failed", None, FEWEST_ATTEMPTS)
    assert [entry["event"] for entry in logs] == ["notification_given_up"]


@pytest.mark.django_db(transaction=True)
def test_one_message_of_a_channel_is_on_its_way_at_a_time(site: Site) -> None:  # noqa: F811
    over = channel(site)
    for severity in ("warning", "critical", "normal"):
        route(over, matchers={"severity": [severity]})
        told(AlertFactory.create(severity=severity))
    busy, most = [0], [0]
    counting = threading.Lock()

    def answer(page: Page) -> None:
        with counting:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        OK(page)
        with counting:
            busy[0] -= 1

    site.answer = answer
    at_once(4, lambda _: send(over, DUE))
    assert most == [1]
    assert len({body["message_id"] for body in arrived(site)}) == len(site.received) == 3


@pytest.mark.django_db(transaction=True)
def test_a_channel_that_hangs_keeps_no_other_waiting(site: Site) -> None:  # noqa: F811
    hung, quick = route(site, name="hung"), channel(site, name="quick")
    route(quick)
    told(AlertFactory.create())
    answered = threading.Event()

    def answer(page: Page) -> None:
        if page.server.asked[-1] == "/hook":
            answered.wait()
        OK(page)

    Channel.objects.filter(pk=quick.pk).update(settings={"url": f"{site.url}/quick"})
    site.answer = answer

    def work(number: int) -> Any:
        try:
            return send(hung, DUE) if number else [*send(quick, DUE)]
        finally:
            if not number:
                answered.set()

    outcomes = at_once(2, work)
    assert [[one.is_sent for one in found] for found in outcomes] == [[True], [True]]
