"""What a message tells is settled when it goes: nothing over, not too much, not too often."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from modelperf.models import Alert, Message, Route
from modelperf.notifications.webhook import Webhook
from modelperf.services import notifications_sealing
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
from tests.sites import Site

pytestmark = pytest.mark.django_db
DUE = NOW + GROUPED
DAY = 24 * HOUR


def test_what_is_over_before_it_is_told_is_not_told(site: Site) -> None:  # noqa: F811
    over = route(site)
    alert = AlertFactory.create()
    opened = told(alert)
    resolve(alert)
    ended = told(alert, "resolved")
    with capture_logs() as logs:
        assert send(over, DUE) == []
    assert [decision(opened), decision(ended)] == ["over_before", "over_before"]
    assert Message.objects.get().status == "dropped"
    assert (site.received, logs) == ([], [])


def test_what_opened_again_meanwhile_is_told_without_the_past(site: Site) -> None:  # noqa: F811
    over = route(site)
    gone, again = AlertFactory.create_batch(2)
    told(gone)
    for alert in (gone, again):
        if alert is again:
            told(alert)
        resolve(alert)
        told(alert, "resolved")
    reopen(again)
    told(again, "reopened")
    send(over, DUE)
    assert [events(body) for body in arrived(site)] == [[("reopened", str(again.pk))]]


@pytest.mark.parametrize(
    ("severity", "arrive"), [("warning", []), ("critical", [["resolved", "reopened"]])]
)
def test_an_end_that_is_taken_back_before_it_is_told_changes_nothing(
    site: Site,  # noqa: F811
    severity: str,
    arrive: list[list[str]],
) -> None:
    over = route(site)
    alert = AlertFactory.create(severity="warning")
    told(alert)
    send(over, DUE)
    resolve(alert)
    ended = told(alert, "resolved", now=DUE)
    reopen(alert)
    Alert.objects.update(severity=severity)
    told(alert, "reopened", now=DUE)
    send(over, DUE + GROUPED)
    assert [[kind for kind, _ in events(body)] for body in arrived(site)[1:]] == arrive
    assert decision(ended) == ("told" if arrive else "over_before")


def test_a_route_that_is_switched_off_tells_nothing_that_it_had_gathered(
    site: Site,  # noqa: F811
) -> None:
    over = route(site)
    opened = told(AlertFactory.create())
    Route.objects.update(is_enabled=False)
    assert send(over, DUE) == []
    assert (decision(opened), arrived(site)) == ("not_wanted", [])


def test_the_end_of_what_was_told_is_told_with_what_came_between(site: Site) -> None:  # noqa: F811
    over = route(site)
    alert = AlertFactory.create()
    told(alert)
    send(over, DUE)
    Alert.objects.update(severity="critical")
    told(alert, "severity_rose", now=DUE)
    resolve(alert)
    told(alert, "resolved", now=DUE)
    send(over, DUE + GROUPED)
    assert [[kind for kind, _ in events(body)] for body in arrived(site)] == [
        ["opened"],
        ["severity_rose", "resolved"],
    ]


def test_what_waited_for_the_morning_is_not_told_once_it_is_over(site: Site) -> None:  # noqa: F811
    over = route(site, quiet_from="00:00", quiet_until="13:00")
    alert = AlertFactory.create()
    opened = told(alert)
    Alert.objects.update(severity="critical")
    told(alert, "severity_rose")
    send(over, DUE)
    resolve(alert)
    told(alert, "resolved", now=NOW + 2 * MINUTE)
    send(over, NOW + 3 * MINUTE)
    send(over, NOW + 2 * HOUR)
    assert decision(opened) == "over_before"
    assert [[kind for kind, _ in events(body)] for body in arrived(site)] == [
        ["severity_rose"],
        ["resolved"],
    ]


def test_the_end_of_what_still_waits_for_the_morning_is_told_to_nobody(site: Site) -> None:  # noqa: F811
    over = route(site, quiet_from="00:00", quiet_until="13:00")
    alert = AlertFactory.create()
    opened = told(alert)
    Route.objects.update(quiet_from=None, quiet_until=None)
    resolve(alert)
    ended = told(alert, "resolved", now=NOW + MINUTE)
    send(over, NOW + 2 * MINUTE)
    send(over, NOW + 2 * HOUR)
    assert [decision(opened), decision(ended)] == ["over_before", "over_before"]
    assert site.received == []


def test_an_end_that_is_not_decided_yet_is_known_all_the_same(site: Site) -> None:  # noqa: F811
    over = route(site)
    alert = AlertFactory.create()
    told(alert)
    resolve(alert)
    ended = tell(alert, "resolved")
    send(over, DUE)
    told(AlertFactory.create(), now=DUE)
    assert (site.received, decision(ended)) == ([], "never_told")


def test_messages_of_a_route_name_the_first_that_told(
    site: Site,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    envelopes: list[Any] = []
    monkeypatch.setattr(Webhook, "send", lambda _kind, sent, _at: envelopes.append(sent) or "ok")
    over, alert = route(site), AlertFactory.create()
    told(alert)
    send(over, DUE)
    Alert.objects.update(severity="critical")
    told(alert, "severity_rose", now=DUE)
    send(over, DUE + MINUTE)
    resolve(alert)
    told(alert, "resolved", now=DUE + HOUR)
    send(over, DUE + 2 * HOUR)
    first = envelopes[0].message_id
    assert [sent.items[0].first_message_id for sent in envelopes] == [None, first, first]


def test_more_than_an_hours_messages_are_gathered_until_the_hour_allows(
    site: Site,  # noqa: F811
) -> None:
    over = route(site, group_seconds=0, most_per_hour=2)
    for number in range(5):
        told(AlertFactory.create(), now=NOW + number * MINUTE)
        send(over, NOW + number * MINUTE)
    assert len(site.received) == 2
    assert Message.objects.get(status="waiting").due_at == NOW + HOUR
    assert send(over, NOW + HOUR - SECOND) == []
    send(over, NOW + HOUR)
    assert [len(body["events"]) for body in arrived(site)] == [1, 1, 3]


def test_dropped_messages_count_for_nothing(site: Site) -> None:  # noqa: F811
    over = route(site, group_seconds=0, most_per_hour=1)
    alert = AlertFactory.create()
    told(alert)
    resolve(alert)
    told(alert, "resolved")
    send(over, NOW)
    told(AlertFactory.create())
    send(over, NOW)
    assert len(site.received) == 1


def test_what_is_too_much_for_one_message_goes_in_several(
    site: Site,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifications_sealing, "MOST_AT_ONCE", 3)
    over = route(site)
    notices = [tell(alert) for alert in AlertFactory.create_batch(7)]
    told(AlertFactory.create())
    send(over, DUE)
    sizes = [len(body["events"]) for body in arrived(site)]
    assert sizes == [3, 3, 2]
    sent = {event["event_id"] for body in arrived(site) for event in body["events"]}
    assert {str(notice.pk) for notice in notices} <= sent
    assert len(sent) == 8
