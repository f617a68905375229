"""No news comes after newer news of the same alert, and none that a silence is over by now."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest

from modelperf.models import Alert, Delivery, Message, Silence
from modelperf.services import notifications_unsilencing
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
    decision,
    reopen,
    resolve,
    route,
    send,
    site,
    told,
)
from tests.sites import Site, answering, silent

pytestmark = pytest.mark.django_db
NIGHT = {"quiet_from": time(22), "quiet_until": time(7)}
EVENING = NOW.replace(hour=23)
MORNING = EVENING + 8 * HOUR + MINUTE


def kinds(site: Site, since: int = 0) -> list[list[str]]:  # noqa: F811
    return [[event["kind"] for event in body["events"]] for body in arrived(site)[since:]]


def silenced(since: Any, hours: int) -> Silence:
    return Silence.objects.create(
        matchers={"machine": ["*"]},
        reason="Maintenance.",
        owner="Anna",
        starts_at=since,
        ends_at=since + timedelta(hours=hours),
        created_by="user:anna",
    )


def test_an_end_never_comes_before_its_beginning_that_is_tried_again(site: Site) -> None:  # noqa: F811
    over = route(site)
    alert, other = AlertFactory.create_batch(2)
    told(alert)
    site.answer = DOWN
    send(over, NOW + GROUPED)
    Message.objects.update(due_at=NOW + 10 * MINUTE)
    resolve(alert)
    told(alert, "resolved", now=NOW + MINUTE)
    told(other, now=NOW + MINUTE)
    site.answer = OK
    assert send(over, NOW + 2 * MINUTE) == []
    send(over, NOW + 10 * MINUTE)
    assert kinds(site, since=1) == [["opened"], ["resolved", "opened"]]


def test_of_two_that_are_due_the_older_goes_first(site: Site) -> None:  # noqa: F811
    over = route(site)
    alert = AlertFactory.create()
    told(alert)
    site.answer = DOWN
    send(over, NOW + GROUPED)
    Alert.objects.update(severity="critical")
    told(alert, "severity_rose", now=NOW + MINUTE)
    Message.objects.filter(sealed_at__isnull=False).update(due_at=NOW + 5 * MINUTE)
    site.answer = OK
    send(over, NOW + 5 * MINUTE)
    assert kinds(site, since=1) == [["opened"], ["severity_rose"]]


def test_what_was_given_up_keeps_nothing_waiting_and_its_end_is_not_told(site: Site) -> None:  # noqa: F811
    over = route(site, group_seconds=0)
    alert, other = AlertFactory.create_batch(2)
    opened = told(alert)
    site.answer = answering(b"", status=410)
    send(over, NOW)
    site.answer = OK
    resolve(alert)
    ended = told(alert, "resolved", now=NOW + MINUTE)
    told(other, now=NOW + MINUTE)
    send(over, NOW + MINUTE)
    assert [decision(opened), decision(ended)] == ["told", "never_told"]
    assert kinds(site, since=1) == [["opened"]]


def test_an_end_that_waited_for_what_was_given_up_is_left_out(site: Site) -> None:  # noqa: F811
    over = route(site, group_seconds=0)
    alert = AlertFactory.create()
    told(alert)
    site.answer = DOWN
    send(over, NOW)
    resolve(alert)
    ended = told(alert, "resolved", now=NOW + MINUTE)
    site.answer = answering(b"", status=410)
    assert len(send(over, NOW + MINUTE)) == 1
    assert send(over, NOW + 2 * MINUTE) == []
    assert decision(ended) == "over_before"


def test_the_end_of_what_may_have_come_is_told(site: Site, settings: Any) -> None:  # noqa: F811
    over = route(site, group_seconds=0)
    alert = AlertFactory.create()
    told(alert)
    settings.OUTGOING_TIMEOUT_SECONDS = 1
    site.answer = silent
    send(over, NOW)
    settings.OUTGOING_TIMEOUT_SECONDS = 30
    site.answer = DOWN
    for number in range(25):  # more than attempts are kept
        send(over, NOW + number * HOUR)
    assert Message.objects.get().status == "failed"
    site.answer = OK
    resolve(alert)
    assert decision(told(alert, "resolved", now=NOW + 30 * HOUR)) == "told"


def test_an_end_that_waited_for_the_morning_is_old_once_it_opened_again(site: Site) -> None:  # noqa: F811
    over = route(site, group_seconds=0, **NIGHT)
    alert = AlertFactory.create(severity="critical")
    told(alert, now=EVENING)
    send(over, EVENING)
    Alert.objects.update(severity="warning")
    resolve(alert)
    ended = told(alert, "resolved", now=EVENING + HOUR)
    reopen(alert)
    Alert.objects.update(severity="critical")
    told(alert, "reopened", now=EVENING + 2 * HOUR)
    send(over, EVENING + 2 * HOUR)
    assert send(over, MORNING) == []
    assert (kinds(site), decision(ended)) == ([["opened"], ["reopened"]], "over_before")
    reason = "Something newer of the alert was told before the message went."
    assert Delivery.objects.get(notice=ended).reason == reason


def test_a_beginning_that_waited_for_the_morning_is_old_once_it_got_worse(site: Site) -> None:  # noqa: F811
    over = route(site, group_seconds=0, **NIGHT)
    alert = AlertFactory.create()
    opened = told(alert, now=EVENING)
    Alert.objects.update(severity="critical")
    told(alert, "severity_rose", now=EVENING + HOUR)
    send(over, EVENING + HOUR)
    assert send(over, MORNING) == []
    assert (kinds(site), decision(opened)) == ([["severity_rose"]], "over_before")


def test_a_silence_that_is_set_while_news_wait_keeps_them_back(site: Site) -> None:  # noqa: F811
    over = route(site, group_seconds=0, **NIGHT)
    alert = AlertFactory.create()
    opened = told(alert, now=EVENING)
    one = silenced(EVENING + HOUR, hours=24)
    assert send(over, MORNING) == []
    delivery = Delivery.objects.get(notice=opened)
    assert (delivery.decision, delivery.silence, delivery.message) == ("silenced", one, None)
    assert notifications_unsilencing.unsilence(now=MORNING) == 0
    assert notifications_unsilencing.unsilence(now=one.ends_at) == 1


def test_an_end_is_told_though_a_silence_was_set_since(site: Site) -> None:  # noqa: F811
    over = route(site)
    alert = AlertFactory.create()
    told(alert)
    send(over, NOW + GROUPED)
    silenced(NOW, hours=24)
    resolve(alert)
    told(alert, "resolved", now=NOW + MINUTE)
    send(over, NOW + 2 * MINUTE)
    assert kinds(site) == [["opened"], ["resolved"]]


def test_no_limit_by_the_hour_holds_back_what_is_critical(site: Site) -> None:  # noqa: F811
    over = route(site, most_per_hour=1)
    told(AlertFactory.create())
    send(over, NOW + GROUPED)
    told(AlertFactory.create(), now=NOW + MINUTE)
    assert send(over, NOW + 2 * MINUTE) == []
    told(AlertFactory.create(severity="critical"), now=NOW + 3 * MINUTE)
    send(over, NOW + 3 * MINUTE + GROUPED)
    assert [body["events"][0]["alert"]["severity"] for body in arrived(site)] == [
        "warning",
        "critical",
    ]
    assert Message.objects.get(status="waiting").due_at > NOW + HOUR
    assert send(over, NOW + HOUR) == []
    send(over, NOW + 2 * HOUR)
    assert len(site.received) == 3
