"""For every route it is decided once what it tells of, and kept why not."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.utils import timezone

from modelperf.models import Alert, Delivery, Message, Route
from modelperf.services import notifications_routing, silences
from tests.factories import AlertFactory
from tests.services.notifying import (
    GROUPED,
    HOUR,
    NOW,
    SECOND,
    channel,
    decision,
    decisions,
    fleet_alert,
    reopen,
    resolve,
    route,
    tell,
    told,
)

pytestmark = pytest.mark.django_db


UNREADABLE = (
    "Matchers: Object contains unknown field `site`. They hold lists of texts, of alert_type,"
    " model_type, machine, location, severity."
)


def silence(**matchers: list[str]) -> Any:
    return silences.create(
        matchers=matchers or {"machine": ["*"]},
        reason="Maintenance.",
        owner="Anna",
        starts_at=NOW - HOUR,
        ends_at=timezone.now() + 24 * HOUR,
        by="user:anna",
    )


def end(one: Any, at: datetime = NOW) -> None:
    type(one).objects.filter(pk=one.pk).update(ends_at=at)


def test_every_route_has_its_decision_and_a_reason() -> None:
    route(name="all")
    route(name="night", matchers={"severity": ["critical"]})
    route(name="off", is_enabled=False)
    route(channel(name="gone", is_enabled=False), name="nowhere")
    route(name="broken", matchers={"site": ["x"]})
    notice = told(AlertFactory.create())

    found = Delivery.objects.filter(notice=notice).order_by("route_name")
    assert list(found.values_list("route_name", "decision", "reason")) == [
        ("all", "told", "The route tells of every alert."),
        (
            "broken",
            "not_wanted",
            "What the route is for cannot be read. " + UNREADABLE,
        ),
        ("night", "not_matched", "Severity warning does not match critical."),
        ("nowhere", "not_wanted", "The route's channel gone is off."),
        ("off", "not_wanted", "The route is off."),
    ]
    notice.refresh_from_db()
    assert notice.routed_at == NOW
    assert notifications_routing.route_notices(now=NOW) == 0


def test_what_nobody_wants_to_know_is_decided_too() -> None:
    notice = told(AlertFactory.create())
    notice.refresh_from_db()
    assert notice.routed_at == NOW


def test_a_rise_is_told_where_only_what_is_worse_is_wanted() -> None:
    route(matchers={"severity": ["critical"]})
    alert = AlertFactory.create()
    opened = tell(alert)
    Alert.objects.update(severity="critical")
    rose = told(alert, "severity_rose")
    assert [decision(opened), decision(rose)] == ["not_matched", "told"]


def test_a_silence_keeps_back_and_is_named() -> None:
    route()
    one = silence()
    delivery = Delivery.objects.get(notice=told(AlertFactory.create()))
    assert (delivery.decision, delivery.silence, delivery.message) == ("silenced", one, None)
    assert delivery.reason.startswith("Silenced by Anna until ")
    assert delivery.reason.endswith(" UTC: Maintenance.")


@pytest.mark.parametrize(("names", "decided"), [(["a"], "told"), (["a", "b"], "silenced")])
def test_a_fleet_alert_is_silenced_where_every_machine_is(names: list[str], decided: str) -> None:
    route()
    silence(machine=names)
    assert decision(told(fleet_alert("a", "b"))) == decided


def test_a_route_of_one_machine_is_told_of_fleet_alerts_that_it_is_in() -> None:
    route(name="a", matchers={"machine": ["a"]})
    route(name="c", matchers={"machine": ["c"]})
    notice = told(fleet_alert("a", "b"))
    assert decisions(notice) == {"a": "told", "c": "not_matched"}
    notice.refresh_from_db()
    assert (notice.says["members"], notice.says["n_members"]) == (["a", "b"], 2)


def test_what_is_snoozed_tells_nothing_but_that_it_is_over() -> None:
    route()
    alert = AlertFactory.create()
    opened = told(alert)
    Alert.objects.update(state="snoozed", snoozed_until=NOW, severity="critical")
    rose = told(alert, "severity_rose")
    Alert.objects.update(state="open", snoozed_until=None)
    woke = told(alert, "snooze_over")
    assert [decision(one) for one in (opened, rose, woke)] == ["told", "snoozed", "told"]


@pytest.mark.parametrize("state", ["silenced", "snoozed"])
def test_the_end_is_told_wherever_the_beginning_was(state: str) -> None:
    route(name="all")
    route(name="other", matchers={"alert_type": ["data_drift"]})
    alert = AlertFactory.create()
    told(alert)
    if state == "silenced":
        silence()
    else:
        Alert.objects.update(state="snoozed", snoozed_until=NOW)
    resolve(alert)
    assert decisions(told(alert, "resolved")) == {"all": "told", "other": "never_told"}


def test_the_end_of_what_was_silenced_is_told_to_nobody() -> None:
    route()
    alert, one = AlertFactory.create(), silence()
    told(alert)
    end(one)
    resolve(alert)
    assert decision(told(alert, "resolved")) == "never_told"
    reopen(alert)
    assert decision(told(alert, "reopened")) == "told"


def test_each_end_wants_a_beginning_of_its_own() -> None:
    route(name="night", matchers={"severity": ["critical"]})
    route(name="starts only", tells_resolved=False)
    alert = AlertFactory.create(severity="critical")
    told(alert)
    resolve(alert)
    first = told(alert, "resolved")
    reopen(alert)
    Alert.objects.update(severity="warning")
    told(alert, "reopened")
    resolve(alert)
    # both in one pass, too
    second = told(alert, "resolved")
    assert decisions(first) == {"night": "told", "starts only": "not_wanted"}
    assert decisions(second) == {"night": "never_told", "starts only": "not_wanted"}


def test_an_end_in_the_same_pass_as_its_beginning_is_decided_after_it() -> None:
    route()
    alert = AlertFactory.create()
    tell(alert)
    resolve(alert)
    ended = tell(alert, "resolved")
    again = told(alert, "resolved")
    assert [decision(ended), decision(again)] == ["told", "never_told"]


def test_what_comes_together_goes_together() -> None:
    one = route()
    alerts = AlertFactory.create_batch(3)
    tell(alerts[0])
    told(alerts[1])
    told(alerts[2], now=NOW + 20 * SECOND)
    message = Message.objects.get()
    assert (message.route, message.channel, message.due_at) == (one, one.channel, NOW + GROUPED)
    assert message.deliveries.count() == 3

    Message.objects.update(sealed_at=NOW)
    told(AlertFactory.create())
    assert Message.objects.count() == 2


def test_what_gathers_follows_its_route_to_another_channel() -> None:
    one = route()
    told(AlertFactory.create())
    one.channel = channel()
    one.save()
    told(AlertFactory.create())
    assert Message.objects.get().channel == one.channel


def test_what_waits_to_be_tried_again_follows_its_route_but_what_is_on_its_way_does_not() -> None:
    one, busy = route(), route()
    told(AlertFactory.create())
    Message.objects.update(sealed_at=NOW)
    lease = {"lease_id": one.pk, "leased_until": NOW + HOUR}
    Message.objects.filter(route=busy).update(**lease)
    there = channel()
    Route.objects.update(channel=there)
    assert notifications_routing.follow_routes(now=NOW) == 1
    assert Message.objects.get(channel=there).route == one
    assert notifications_routing.follow_routes(now=NOW + HOUR) == 1
    assert notifications_routing.follow_routes(now=NOW + HOUR) == 0


def test_passes_of_many_take_a_bounded_number_of_statements(
    django_assert_max_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications_routing, "AT_ONCE", 4)
    route()
    route(matchers={"machine": ["*"]})
    for alert in AlertFactory.create_batch(6):
        tell(alert)
    with django_assert_max_num_queries(40):
        assert notifications_routing.route_notices(now=NOW) == 6
    assert Message.objects.count() == 2
