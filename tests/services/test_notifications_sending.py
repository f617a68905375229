"""Messages go at least once, and again until they are taken or too old."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pytest_django import Settings
from structlog.testing import capture_logs

from modelperf.models import Alert, Channel, Delivery, Message
from modelperf.notifications.webhook import Webhook
from modelperf.services import notifications_sending
from modelperf.services.notifications_sending import (
    due_channels,
    give_up_what_is_off,
    pause,
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


def test_a_message_tells_what_there_is_once(site: Site, settings: Settings) -> None:  # noqa: F811
    settings.PUBLIC_URL = "https://models.example.org"
    over = route(site, name="ops")
    alerts = AlertFactory.create_batch(2)
    notices = [told(alert) for alert in alerts]
    assert due_channels(now=DUE - SECOND) == send(over, DUE - SECOND) == []
    assert due_channels(now=DUE) == [over.channel_id]
    assert [outcome.is_sent for outcome in send(over, DUE)] == [True]
    assert due_channels(now=DUE + DAY) == send(over, DUE + DAY) == []

    message, [body] = Message.objects.get(), arrived(site)
    assert (message.status, message.attempts, message.lease_id) == ("sent", 1, None)
    assert (message.sealed_at, message.ended_at) == (DUE, DUE)
    assert (body["message_id"], body["route"]) == (str(message.pk), "ops")
    assert [event["event_id"] for event in body["events"]] == [str(one.pk) for one in notices]
    link = f"https://models.example.org/admin/modelperf/alert/{alerts[0].pk}/change/"
    assert body["events"][0]["link"] == link
    assert body["events"][0]["alert"]["message"] == "The model got worse."


def test_a_fleet_alert_of_300_machines_is_one_message_that_names_them_all(
    site: Site,  # noqa: F811
) -> None:
    over = route(site)
    names = [f"pump {number:03}" for number in range(300)]
    told(fleet_alert(*names))
    send(over, DUE)
    [body] = arrived(site)
    assert body["events"][0]["members"] == names
    assert body["events"][0]["alert"]["n_members"] == 300
    assert "members" not in body["events"][0]["alert"]


def test_what_is_not_taken_is_sent_again_with_the_same_ids(site: Site) -> None:  # noqa: F811
    over = route(site)
    alert = fleet_alert("a", "b")
    told(alert)
    site.answer = DOWN
    [outcome] = send(over, DUE)
    assert not outcome.is_sent
    alert.members.update(left_at=NOW)
    Alert.objects.update(alert_message="Something else.")
    site.answer = OK
    assert send(over, DUE + 3 * SECOND) == []
    send(over, DUE + 7 * SECOND)
    first, second = site.received
    assert first.content == second.content
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    message = Message.objects.get()
    assert (message.status, message.attempts) == ("sent", 2)
    assert [(entry["is_sent"], entry["said"][-4:]) for entry in message.attempts_log] == [
        (False, " no."),
        (True, " 202"),
    ]


@pytest.mark.parametrize(
    ("age", "usual"),
    [(0 * SECOND, 5), (40 * SECOND, 5), (80 * SECOND, 10), (10 * MINUTE, 75), (5 * HOUR, 900)],
)
def test_pauses_grow_with_age_and_vary(age: timedelta, usual: float) -> None:
    found = [pause(age).total_seconds() for _ in range(200)]
    assert usual * 0.8 <= min(found) < usual * 0.9
    assert usual * 1.1 < max(found) <= usual * 1.2


def test_a_receiver_says_how_long_it_wants_to_be_left_alone(site: Site) -> None:  # noqa: F811
    over = route(site)
    told(AlertFactory.create())
    site.answer = answering(b"", status=429, **{"Retry-After": "120"})
    send(over, DUE)
    assert Message.objects.get().due_at == DUE + 120 * SECOND
    assert pause(DAY, 5 * 3600.0) <= timedelta(minutes=18)


def test_after_ten_minutes_without_a_sink_all_arrives_within_two(site: Site) -> None:  # noqa: F811
    over = route(site, group_seconds=0)
    site.answer = DOWN
    alerts = AlertFactory.create_batch(3)
    for number, alert in enumerate(alerts):
        told(alert, now=NOW + number * MINUTE)
        send(over, NOW + number * MINUTE)
    now = NOW
    while now < NOW + 10 * MINUTE:
        now += 5 * SECOND
        send(over, now)
    assert not Message.objects.filter(status="sent").exists()
    site.answer, before = OK, len(site.received)
    while Message.objects.filter(status="waiting").exists():
        now += 5 * SECOND
        send(over, now)
    assert now <= NOW + 12 * MINUTE
    assert {alert for body in arrived(site)[before:] for _, alert in events(body)} == {
        str(alert.pk) for alert in alerts
    }


def test_one_that_is_not_taken_lets_the_others_wait_for_the_next_look(
    site: Site,  # noqa: F811
) -> None:
    over = channel(site)
    for one in (route(over), route(over)):
        told(AlertFactory.create())
        one.delete()
    site.answer = DOWN
    assert len(send(over, DUE)) == 1
    assert len(send(over, DUE)) == 1
    assert send(over, DUE) == []
    site.answer = OK
    assert len(send(over, DUE + 10 * SECOND)) == 2


def test_a_success_hastens_what_waits_to_be_tried_again(site: Site) -> None:  # noqa: F811
    over = channel(site)
    route(over, matchers={"severity": ["warning"]})
    route(over, matchers={"severity": ["critical"]})
    told(AlertFactory.create())
    site.answer = DOWN
    send(over, DUE)
    Message.objects.update(due_at=DUE + HOUR)
    site.answer = OK
    told(AlertFactory.create(severity="critical"), now=DUE)
    assert [one.is_sent for one in send(over, DUE + GROUPED)] == [True, True]


def test_what_can_never_be_taken_is_given_up_at_once(site: Site) -> None:  # noqa: F811
    over = route(site)
    site.answer = answering(b"", status=410)
    told(AlertFactory.create())
    send(over, DUE)
    assert Message.objects.get().status == "failed"


def test_settings_that_are_none_wait_for_a_person(site: Site) -> None:  # noqa: F811
    over = route(site)
    Channel.objects.update(kind="pigeon")
    told(AlertFactory.create())
    send(over, DUE)
    message = Message.objects.get()
    assert (message.status, message.due_at) == ("waiting", DUE + 15 * MINUTE)
    assert message.attempts_log[0]["said"].startswith("The kind of a channel is one of")
    Channel.objects.update(kind="webhook")
    send(over, DUE + 15 * MINUTE)
    assert Message.objects.get().status == "sent"


def test_no_secret_of_an_address_is_kept_or_logged(site: Site) -> None:  # noqa: F811
    over = route(site)
    place = {"url": f"{site.url}/secret-path?token=secret-token"}
    Channel.objects.update(settings=place)
    told(AlertFactory.create())
    with capture_logs() as logs:
        for answer in (DOWN, answering(b"", status=410)):
            site.answer = answer
            send(over, DUE + len(site.received) * HOUR)
    kept = str(Message.objects.values_list("attempts_log", flat=True))
    assert len(logs) == 2
    assert "secret" not in kept + str(logs)


def test_what_breaks_is_kept_without_its_text(
    site: Site,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = route(site)

    def broken(*_: object) -> str:
        raise RuntimeError("secret")

    monkeypatch.setattr(Webhook, "send", broken)
    told(AlertFactory.create())
    with capture_logs() as logs:
        send(over, DUE)
    said = Message.objects.get().attempts_log[0]["said"]
    assert said.startswith("Sending broke: RuntimeError in broken:")
    assert "secret" not in str(logs)


def test_over_a_channel_that_is_off_nothing_goes_until_it_is_on_again(site: Site) -> None:  # noqa: F811
    over = route(site)
    told(AlertFactory.create())
    Channel.objects.update(is_enabled=False)
    assert due_channels(now=DUE) == send(over, DUE) == []
    assert give_up_what_is_off(now=DUE + DAY - SECOND) == 0
    Channel.objects.update(is_enabled=True)
    assert len(send(over, DUE + HOUR)) == 1


def test_only_the_last_attempts_are_kept(site: Site) -> None:  # noqa: F811
    over = route(site)
    told(AlertFactory.create())
    site.answer = DOWN
    for number in range(25):
        send(over, DUE + number * 20 * MINUTE)
    message = Message.objects.get()
    assert (message.attempts, len(message.attempts_log)) == (25, notifications_sending._MOST_LOGGED)
    assert Delivery.objects.get().message == message
