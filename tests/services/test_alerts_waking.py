"""Snoozes end: by the clock, by what is seen, and by getting worse."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from modelperf.models import Alert, AlertEvent, AlertMember, Notice
from modelperf.services import alerts, alerts_waking
from tests.factories import AlertFactory, ModelVersionFactory
from tests.services.concurrency import at_once

pytestmark = pytest.mark.django_db
ADA = "user:ada"
HOUR = timedelta(hours=1)


def snoozed(*, ends: dict[str, Any], **fields: Any) -> Alert:
    """Return an alert that Ada has acknowledged and put off; a loss of 1.0 that is at 2.0."""
    like = {"baseline_metric_value": 1.0, "peak_metric_value": 2.0, "occurrences": 4}
    alert = AlertFactory.create(**like | fields)
    alerts.acknowledge(alert=alert, by=ADA)
    return alerts.snooze(alert=alert, by=ADA, **ends)


def woken_by(alert: Alert, **seen: Any) -> bool:
    """Whether an alert is awake after it was seen like this."""
    Alert.objects.filter(pk=alert.pk).update(**seen)
    woken = alerts_waking.wake_seen(alert_ids=[alert.pk], now=timezone.now())
    alert.refresh_from_db()
    assert woken == ([alert.pk] if alert.state == "open" else [])
    return bool(woken)


def test_those_wake_whose_time_has_come() -> None:
    now = timezone.now()
    soon, _later, _often = (
        snoozed(ends=ends)
        for ends in ({"until": now + HOUR}, {"until": now + 2 * HOUR}, {"count": 1})
    )
    assert alerts_waking.wake(now=now + HOUR / 2) == []
    assert alerts_waking.wake(now=now + HOUR) == [soon.pk]
    assert alerts_waking.wake(now=now + HOUR) == []
    assert Alert.objects.get(state="open") == soon
    assert [(one.kind, one.alert_id) for one in Notice.objects.all()] == [("snooze_over", soon.pk)]


def test_what_is_awake_is_nobodys_and_woke_by_itself() -> None:
    alert = snoozed(ends={"until": timezone.now() + HOUR, "count": 9, "worse": True})
    alerts_waking.wake(now=timezone.now() + HOUR)
    alert.refresh_from_db()
    assert (alert.snoozed_until, alert.snoozed_until_count) == (None, None)
    assert (alert.snoozed_until_worse, alert.snoozed_peak) == (False, None)
    assert (alert.acknowledged_at, alert.acknowledged_by) == (None, "")
    assert AlertEvent.objects.latest("pgh_id").pgh_context is None


def test_it_wakes_when_seen_so_many_times_more() -> None:
    alert = snoozed(ends={"count": 3})
    assert not woken_by(alert, occurrences=6)
    assert woken_by(alert, occurrences=7)
    assert Notice.objects.get().says["count"] == 7


@pytest.mark.parametrize(
    ("like", "peak", "wakes"),
    [
        ({}, 2.0, False),
        ({}, 2.1, True),
        ({}, None, False),
        # A score: worse is lower.
        ({"baseline_metric_value": 0.9, "peak_metric_value": 0.5}, 0.4, True),
        ({"baseline_metric_value": 0.9, "peak_metric_value": 0.5}, 0.5, False),
        # Without a level before, the limit is what it is measured from.
        ({"baseline_metric_value": None, "threshold_value": 1.5}, 2.1, True),
        ({"baseline_metric_value": None, "threshold_value": 1.5}, 1.9, False),
        ({"baseline_metric_value": None}, 2.1, False),
        ({"peak_metric_value": None, "current_metric_value": 2.0}, 2.1, True),
        ({"peak_metric_value": None}, 2.1, False),
    ],
)
def test_it_wakes_when_it_is_further_off_than_ever(
    like: dict[str, Any], peak: float | None, wakes: bool
) -> None:
    assert woken_by(snoozed(ends={"worse": True}, **like), peak_metric_value=peak) is wakes


def join(alert: Alert, n: int) -> None:
    """Let so many more machines be members of a fleet alert."""
    for model in ModelVersionFactory.create_batch(n):
        AlertMember.objects.create(
            alert=alert, machine=model.machine, model=model, joined_at=timezone.now()
        )


def test_what_the_fleet_has_is_worse_with_more_machines_than_it_was_put_off_with() -> None:
    # The current value of a shared fall is its Z, which is no number of machines.
    alert = AlertFactory.create(fleet=True, current_metric_value=9.0)
    join(alert, 3)
    alerts.snooze(alert=alert, by=ADA, worse=True)
    assert not woken_by(alert, current_metric_value=99.0)
    alert.members.filter(pk=alert.members.latest("pk").pk).update(left_at=timezone.now())
    join(alert, 1)
    assert not woken_by(alert)
    join(alert, 1)
    assert woken_by(alert)


def test_a_severity_of_the_fleet_that_rises_wakes() -> None:
    alert = AlertFactory.create(fleet=True)
    alerts.snooze(alert=alert, by=ADA, worse=True)
    assert not woken_by(alert, severity="normal")
    assert woken_by(alert, severity="critical")


def test_the_fleet_put_off_anew_is_measured_by_how_many_there_are_then() -> None:
    alert = AlertFactory.create(fleet=True)
    join(alert, 1)
    alerts.snooze(alert=alert, by=ADA, worse=True)
    join(alert, 1)
    alerts.snooze(alert=alert, by=ADA, worse=True)
    assert not woken_by(alert)


def test_a_severity_that_rises_over_that_at_snoozing_wakes() -> None:
    alert = snoozed(ends={"worse": True})
    assert not woken_by(alert, severity="normal")
    assert not woken_by(alert, severity="warning")
    assert woken_by(alert, severity="critical")


def test_what_rose_before_it_was_put_off_anew_does_not_wake() -> None:
    alert = snoozed(ends={"until": timezone.now() + HOUR})
    assert not woken_by(alert, severity="critical")
    alerts.snooze(alert=alert, by=ADA, worse=True)
    assert not woken_by(alert, severity="warning")
    assert not woken_by(alert, severity="critical", peak_metric_value=2.0)


def test_without_until_worse_it_may_get_worse() -> None:
    alert = snoozed(ends={"until": timezone.now() + HOUR, "count": 9})
    assert not woken_by(alert, severity="critical", peak_metric_value=9.0)


def test_the_severity_when_it_was_put_off_counts_whoever_wrote_it() -> None:
    alert = AlertFactory.create(severity="warning")
    ends = {"state": "snoozed", "snoozed_until_worse": True}
    assert not woken_by(alert, **ends)
    assert woken_by(alert, severity="critical")


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
def test_what_is_no_longer_put_off_does_not_wake(verb: str) -> None:
    alert = snoozed(ends={"until": timezone.now() + HOUR, "count": 1})
    getattr(alerts, verb)(alert=alert, by=ADA, **({"action": "fixed"} if verb == "resolve" else {}))
    assert not woken_by(alert, occurrences=9)
    assert alerts_waking.wake(now=timezone.now() + HOUR) == []


def test_only_those_seen_wake() -> None:
    seen, other = (snoozed(ends={"count": 1}) for _ in range(2))
    Alert.objects.update(occurrences=9)
    assert alerts_waking.wake_seen(alert_ids=[], now=timezone.now()) == []
    assert alerts_waking.wake_seen(alert_ids=[seen.pk], now=timezone.now()) == [seen.pk]
    assert Alert.objects.get(state="snoozed") == other


@pytest.mark.django_db(transaction=True)
def test_two_who_wake_at_once_tell_each_once_and_wait_for_nobody() -> None:
    until = timezone.now() + HOUR
    every = [snoozed(ends={"until": until}) for _ in range(5)]
    held = every[0]

    def wake(_number: int) -> list[uuid.UUID]:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '10s'")  # who waits after all fails, and hangs not
        return alerts_waking.wake(now=until)

    with transaction.atomic(), connection.cursor() as cursor:
        # Somebody is at this one: the others do not wait for it.
        cursor.execute("SELECT FROM model_alerts WHERE id = %s FOR UPDATE", [held.pk])
        outcomes = at_once(2, wake)
    assert all(isinstance(one, list) for one in outcomes), outcomes
    woken = [pk for one in outcomes if isinstance(one, list) for pk in one]
    assert sorted(woken) == sorted(alert.pk for alert in every[1:])
    assert alerts_waking.wake(now=until) == [held.pk]
    told = Notice.objects.filter(kind="snooze_over").values_list("alert_id", flat=True)
    assert sorted(told) == sorted(alert.pk for alert in every)
