"""What alerts of each type can be put off until, and that to put off anew is a decision anew."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from modelperf.models import Alert, AlertEvent, AlertMember, Notice
from modelperf.services import alerts, alerts_bulk, alerts_waking
from modelperf.services.errors import ConflictError
from tests.factories import AlertFactory, ModelVersionFactory
from tests.services.builders import noisy
from tests.services.test_alerts_storm import FALLEN, WELL, go_on

pytestmark = pytest.mark.django_db
ADA, BOB = "user:ada", "user:bob"
COUNT: dict[str, Any] = {"count": 3}
WORSE: dict[str, Any] = {"worse": True}
# What there is to send for each type, alone, of a series.
REACHED = {
    "drift_detected": "until or count or worse",
    "performance_degradation": "until or count or worse",
    "data_drift": "until or worse",
    "training_failed": "until or count",
    "retraining_not_helping": "until",
    "ab_test_completed": "until",
    "evaluation_missing": "until",
}


@pytest.mark.parametrize("alert_type", Alert.Type.values)
@pytest.mark.parametrize("ends", [COUNT, WORSE])
def test_an_end_that_a_type_never_reaches_is_refused(alert_type: str, ends: dict[str, Any]) -> None:
    alert = AlertFactory.create(alert_type=alert_type)
    reached, (name,) = REACHED[alert_type], ends
    if name in reached.split(" or "):
        assert alerts.snooze(alert=alert, by=ADA, **ends).state == "snoozed"
    else:
        with pytest.raises(ConflictError, match=rf"never end it\. Send {reached} instead\.$"):
            alerts.snooze(alert=alert, by=ADA, **ends)
        assert Alert.objects.get().state == "open"


@pytest.mark.parametrize("alert_type", Alert.Type.values)
def test_a_time_ends_every_type_and_so_does_more_of_the_fleet(alert_type: str) -> None:
    until = timezone.now() + timedelta(hours=1)
    alert = AlertFactory.create(alert_type=alert_type)
    # With a time there is an end, whether it gets worse before or not.
    alerts.snooze(alert=alert, by=ADA, until=until, worse=True)
    alerts.snooze(alert=AlertFactory.create(alert_type=alert_type, fleet=True), by=ADA, worse=True)
    assert Alert.objects.filter(state="snoozed").count() == 2


def test_a_count_is_refused_with_a_time_too_and_of_the_fleet() -> None:
    until = timezone.now() + timedelta(hours=1)
    alert = AlertFactory.create(alert_type="evaluation_missing", fleet=True)
    with pytest.raises(ConflictError, match=r"evaluation missing .* Send until or worse instead"):
        alerts.snooze(alert=alert, by=ADA, until=until, count=3, worse=True)


def test_of_many_those_are_listed_that_it_does_not_end_for() -> None:
    counted, missing, resolved = (
        AlertFactory.create(),
        AlertFactory.create(alert_type="evaluation_missing"),
        AlertFactory.create(alert_type="evaluation_missing", resolved=True),
    )
    outcome = alerts_bulk.change(alerts=Alert.objects.all(), verb="snooze", by=ADA, count=3)
    assert outcome.changed == [counted]
    says = dict(outcome.refused)
    assert "Send until instead" in says[missing]
    assert "was resolved" in says[resolved]


def test_to_put_off_anew_is_a_step_and_measures_from_then() -> None:
    alert = AlertFactory.create(peak_metric_value=2.0, baseline_metric_value=1.0)
    alerts.snooze(alert=alert, by=ADA, worse=True)
    Alert.objects.update(peak_metric_value=9.0)
    alert = alerts.snooze(alert=alert, by=BOB, worse=True)
    assert (alert.snoozed_peak, alert.revision) == (9.0, 3)
    actors = AlertEvent.objects.filter(pgh_context__verb="snooze").order_by("pgh_id")
    assert [one.pgh_context["actor"] for one in actors] == [ADA, BOB]


def test_what_is_put_off_anew_wakes_of_a_severity_over_that_of_then() -> None:
    alert = AlertFactory.create(severity="critical")
    alerts.snooze(alert=alert, by=ADA, worse=True)
    for severity in ("warning", "critical"):
        Alert.objects.update(severity=severity)
        assert alerts_waking.wake_seen(alert_ids=[alert.pk], now=timezone.now()) == []
    Alert.objects.update(severity="warning")
    alerts.snooze(alert=alert, by=BOB, worse=True)
    Alert.objects.update(severity="critical")
    assert alerts_waking.wake_seen(alert_ids=[alert.pk], now=timezone.now()) == [alert.pk]


def test_a_storm_that_was_put_off_wakes_when_a_check_finds_more_machines_in_it() -> None:
    models = ModelVersionFactory.create_batch(7, is_active=True)
    well = [noisy(seed, WELL) for seed in range(7)]
    fallen = [[*now, *noisy(100 + seed, FALLEN, level=2.0)] for seed, now in enumerate(well)]
    go_on(models, [*fallen[:4], *well[4:]], 0)
    fleet = Alert.objects.get()
    alerts.snooze(alert=fleet, by=ADA, worse=True)
    go_on(models, fallen, WELL)
    fleet.refresh_from_db()
    assert AlertMember.objects.present().filter(alert=fleet).count() == 7
    assert fleet.state == "open"
    assert Notice.objects.filter(kind="snooze_over").get().says["n_members"] == 7
