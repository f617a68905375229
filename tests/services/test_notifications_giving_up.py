"""What is not taken for a day is given up and said aloud; a person may have it sent again."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from modelperf.models import Channel, Message
from modelperf.services.errors import ConflictError
from modelperf.services.notifications_again import send_again
from modelperf.services.notifications_sending import (
    FEWEST_ATTEMPTS,
    give_up_what_is_off,
)
from tests.factories import AlertFactory
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
from tests.sites import Site, answering

pytestmark = pytest.mark.django_db
DUE = NOW + GROUPED
DAY = 24 * HOUR


def test_after_a_day_it_is_given_up_and_said_aloud(site: Site) -> None:  # noqa: F811
    over = route(site)
    site.answer = DOWN
    notice = told(AlertFactory.create())
    for number in range(FEWEST_ATTEMPTS - 1):
        send(over, DUE + number * HOUR)
    with capture_logs() as logs:
        send(over, DUE + DAY - MINUTE)
    assert Message.objects.get().status == "waiting"
    assert [entry["event"] for entry in logs] == ["notification_failed"]
    with capture_logs() as logs:
        send(over, DUE + DAY + 20 * MINUTE)
    assert Message.objects.get().status == "failed"
    [entry] = logs
    assert (entry["event"], entry["log_level"]) == ("notification_given_up", "error")
    assert entry["not_told"] == ["opened: The model got worse."]
    assert decision(notice) == "told"


def test_who_was_away_for_days_tries_a_few_times_before_it_gives_up(site: Site) -> None:  # noqa: F811
    over = route(site)
    site.answer = DOWN
    told(AlertFactory.create())
    send(over, DUE)
    for number in range(1, FEWEST_ATTEMPTS):
        assert Message.objects.get().status == "waiting"
        send(over, DUE + 2 * DAY + number * HOUR)
    message = Message.objects.get()
    assert (message.status, message.attempts) == ("failed", FEWEST_ATTEMPTS)


def test_what_is_sent_again_is_tried_for_another_day(site: Site) -> None:  # noqa: F811
    over = route(site)
    told(AlertFactory.create())
    site.answer = answering(b"", status=410)
    send(over, DUE)
    site.answer = DOWN
    send_again(message=Message.objects.get(), by="user:anna", now=DUE + 2 * DAY)
    for number in range(25):  # more than attempts are kept
        send(over, DUE + 2 * DAY + number * 20 * MINUTE)
    message = Message.objects.get()
    assert message.status == "waiting"
    assert message.attempts_log[0]["said"] == "To be sent again, says anna."
    with pytest.raises(ConflictError):
        send_again(message=message, by="user:anna")
    send(over, DUE + 3 * DAY)
    assert Message.objects.get().status == "failed"


def test_what_waits_for_a_day_over_a_channel_that_is_off_is_given_up() -> None:
    route(channel(name="pager"))
    told(AlertFactory.create())
    Channel.objects.update(is_enabled=False)
    with capture_logs() as logs:
        assert give_up_what_is_off(now=DUE + DAY) == 1
    message = Message.objects.get()
    assert (message.status, message.attempts_log[0]["said"]) == (
        "failed",
        "The channel pager is off.",
    )
    assert [entry["event"] for entry in logs] == ["notification_given_up"]
