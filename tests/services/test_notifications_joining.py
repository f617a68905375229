"""Who is told of a machine that joins a fleet alert: whom no machine in it concerned before."""

from __future__ import annotations

from typing import Any

import pytest

from modelperf.models import Alert, AlertMember, Machine, Notice, Silence
from modelperf.services import (
    checks,
    metrics,
    notices,
    notifications,
    notifications_routing,
    notifications_unsilencing,
)
from tests.factories import ModelVersionFactory
from tests.services.builders import noisy, series
from tests.services.notifying import (  # noqa: F401 -- a fixture
    HOUR,
    NOW,
    arrived,
    decisions,
    fleet_alert,
    route,
    site,
    told,
)
from tests.services.test_checks_fleet import fleet
from tests.sites import Site

pytestmark = pytest.mark.django_db


def join(alert: Alert, name: str) -> Notice:
    model = ModelVersionFactory.create(machine__name=name)
    AlertMember.objects.create(alert=alert, machine=model.machine, model=model, joined_at=NOW)
    joined = {alert.pk: [model.machine_id]}
    assert notices.tell_joined(joined=joined, unless=set(), now=NOW) == 1
    notifications_routing.route_notices(now=NOW + HOUR)
    return Notice.objects.latest("id")


def test_only_a_route_that_it_makes_match_is_told() -> None:
    for name in ("north", "south", "west"):
        route(name=name, matchers={"machine": [f"{name}*"]})
    route(name="all")
    alert = fleet_alert("north 1", "north 2")
    told(alert)
    first = join(alert, "south 1")
    assert decisions(first) == {
        "all": "not_wanted",
        "north": "not_wanted",
        "south": "told",
        "west": "not_matched",
    }
    assert decisions(join(alert, "south 2"))["south"] == "not_wanted"


def test_a_machine_that_no_silence_is_over_ends_it_for_the_others_too() -> None:
    route(name="north", matchers={"machine": ["north*"]})
    route(name="south", matchers={"machine": ["south*"]})
    Silence.objects.create(
        matchers={"machine": ["north*"]},
        reason="Maintenance.",
        owner="Anna",
        starts_at=NOW - HOUR,
        ends_at=NOW + 24 * HOUR,
        created_by="user:anna",
    )
    alert = fleet_alert("north 1", "north 2")
    opened = told(alert)
    assert decisions(opened) == {"north": "silenced", "south": "not_matched"}
    assert decisions(join(alert, "south 1")) == {"north": "not_wanted", "south": "told"}
    assert notifications_unsilencing.unsilence(now=NOW + HOUR) == 1
    notifications_routing.route_notices(now=NOW + HOUR)
    assert decisions(Notice.objects.latest("id"))["north"] == "told"


def test_where_it_is_told_of_anyway_or_is_over_nothing_is_added() -> None:
    alert = fleet_alert("north 1")
    joined: Any = {alert.pk: [alert.members.get().machine_id]}
    assert notices.tell_joined(joined=joined, unless={alert.pk}, now=NOW) == 0
    alert = fleet_alert("north 2", resolved=True)
    joined = {alert.pk: [alert.members.get().machine_id]}
    assert notices.tell_joined(joined=joined, unless=set(), now=NOW) == 0


def test_a_check_tells_of_a_machine_that_falls_later_with_the_others(site: Site) -> None:  # noqa: F811
    models = fleet(8)
    Machine.objects.filter(pk=models[7].machine_id).update(name="south 1")
    route(site, name="south", matchers={"machine": ["south*"]}, group_seconds=0)
    route(site, name="all", group_seconds=0)
    histories = [noisy(seed, 60, fall_at=45) for seed in range(8)]
    for model, values in zip(models[:7], histories, strict=False):
        metrics.record_batch(evaluations=series(model, values), by="tests")
    late = series(models[7], histories[7])
    metrics.record_batch(evaluations=late[:45], by="tests")
    checks.run(by="tests")
    notifications.one_pass()
    metrics.record_batch(evaluations=late[45:], by="tests")
    for _ in range(2):
        checks.run(by="tests")
        notifications.one_pass()
    sent = [(body["route"], [one["kind"] for one in body["events"]]) for body in arrived(site)]
    assert sent == [("all", ["opened"]), ("south", ["opened"])]
    assert arrived(site)[1]["events"][0]["alert"]["joined"] == [str(models[7].machine_id)]
