"""When a silence is over, what it kept quiet and what is still so is told once."""

from __future__ import annotations

from datetime import datetime

import pytest

from modelperf.models import Alert, Delivery, Notice
from modelperf.services import notifications_routing, notifications_unsilencing
from tests.factories import AlertFactory
from tests.services.concurrency import at_once
from tests.services.notifying import NOW, decision, reopen, resolve, route, tell, told
from tests.services.test_notifications_routing import end, silence

pytestmark = pytest.mark.django_db


def unsilenced(now: datetime = NOW) -> int:
    return notifications_unsilencing.unsilence(now=now)


def test_when_a_silence_is_over_what_is_still_open_is_told_once() -> None:
    route()
    one, other = silence(), silence(severity=["warning"])
    alert = AlertFactory.create()
    told(alert)
    assert unsilenced() == 0
    end(one)
    assert unsilenced() == 0  # the other one is over it still
    end(other)
    assert [unsilenced(), unsilenced()] == [1, 0]
    notifications_routing.route_notices(now=NOW)
    assert unsilenced() == 0
    notice = Notice.objects.latest("id")
    assert (notice.kind, notice.alert, decision(notice)) == ("silence_over", alert, "told")


@pytest.mark.parametrize("state", ["acknowledged", "resolved", "told since", "never silenced"])
def test_the_end_of_a_silence_wakes_nobody_for_what_somebody_knows(state: str) -> None:
    route()
    one = None if state == "never silenced" else silence()
    alert = AlertFactory.create()
    told(alert)
    if one:
        end(one)
    if state == "acknowledged":
        Alert.objects.update(state=state, acknowledged_at=NOW, acknowledged_by="user:bob")
    elif state == "resolved":
        resolve(alert)
        told(alert, "resolved")
        reopen(alert)
    elif state == "told since":
        Alert.objects.update(severity="critical")
        told(alert, "severity_rose")
    assert unsilenced() == 0


@pytest.mark.parametrize(("is_known", "n_told"), [(True, 1), (False, 0)])
def test_that_it_got_worse_since_somebody_took_note_is_told_after_a_silence(
    is_known: bool, n_told: int
) -> None:
    route()
    alert = AlertFactory.create()
    told(alert)
    one = silence()
    noted = {"state": "acknowledged", "acknowledged_at": NOW, "acknowledged_by": "user:bob"}
    Alert.objects.update(severity="critical", **noted if is_known else {})
    rose = told(alert, "severity_rose")
    Alert.objects.update(**noted)  # else only then
    end(one)
    assert decision(rose) == "silenced"
    assert unsilenced() == n_told
    notifications_routing.route_notices(now=NOW)
    assert unsilenced() == 0


def test_a_silence_that_was_deleted_is_over() -> None:
    route()
    one = silence()
    told(AlertFactory.create())
    one.delete()
    assert unsilenced() == 1


@pytest.mark.django_db(transaction=True)
def test_passes_at_once_decide_and_unsilence_once() -> None:
    route()
    one = silence()
    alerts = AlertFactory.create_batch(3)
    for alert in alerts:
        tell(alert)

    at_once(4, lambda _: notifications_routing.route_notices(now=NOW))
    assert Delivery.objects.count() == 3
    end(one)
    assert sum(at_once(4, lambda _: unsilenced())) == 3
