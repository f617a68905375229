"""Notices are written once for what is new, as the alert was then."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from modelperf.models import Alert, AlertMember, Notice
from modelperf.services import alerts, notices
from tests.factories import START, AlertFactory, ModelVersionFactory

pytestmark = pytest.mark.django_db
Kind = Notice.Kind


def told(alert: Alert, kind: str) -> int:
    return notices.tell(kind=kind, alert_ids=[alert.pk], now=timezone.now())


def test_a_notice_says_what_the_alert_was_like() -> None:
    alert = AlertFactory.create(
        current_metric_value=1.5,
        baseline_metric_value=1.0,
        peak_metric_value=2.0,
        seen_through=START,
        alert_details={"metric": "mae", "changed_at": "2024-01-01T00:00:00Z"},
        occurrences=7,
    )
    assert told(alert, Kind.OPENED) == 1
    Alert.objects.update(alert_message="Something else.", occurrences=8)

    notice = Notice.objects.get()
    assert (notice.alert_id, notice.kind, notice.routed_at) == (alert.pk, "opened", None)
    expected = {
        "alert_type": "drift_detected",
        "severity": "warning",
        "state": "open",
        "message": "The model got worse.",
        "machine_id": str(alert.machine_id),
        "machine_name": alert.machine.name,
        "model_type": "baseline",
        "model_version": 1,
        "metric": "mae",
        "current": 1.5,
        "baseline": 1.0,
        "peak": 2.0,
        "threshold": None,
        "count": 7,
        "changed_at": "2024-01-01T00:00:00Z",
        "seen_through": "2024-01-01T00:00:00+00:00",
        "n_members": None,
    }
    assert expected.items() <= notice.says.items()


def test_a_notice_of_an_end_says_who_resolved() -> None:
    told(AlertFactory.create(resolved=True), Kind.RESOLVED)
    says = Notice.objects.get().says
    assert (says["resolved_by"], says["resolution_action"]) == ("user:tests", "fixed")


@pytest.mark.parametrize("kind", [Kind.OPENED, Kind.REOPENED])
def test_a_window_tells_once(kind: str) -> None:
    alert = AlertFactory.create(seen_through=START)
    assert told(alert, kind) == 1
    alert.refresh_from_db()
    assert alert.told_through == START
    assert told(alert, Kind.REOPENED) == 0
    Alert.objects.update(seen_through=START - timedelta(days=1))
    assert told(alert, Kind.REOPENED) == 0
    Alert.objects.update(seen_through=START + timedelta(days=1))
    assert told(alert, Kind.REOPENED) == 1
    alert.refresh_from_db()
    assert alert.told_through == START + timedelta(days=1)


def test_what_an_end_was_told_of_does_not_tell_again() -> None:
    alert = AlertFactory.create(seen_through=START)
    told(alert, Kind.OPENED)
    Alert.objects.update(seen_through=START + timedelta(days=9))
    assert told(alert, Kind.RESOLVED) == 1
    assert told(alert, Kind.REOPENED) == 0


def test_an_end_that_a_person_takes_back_is_told_to_be_none() -> None:
    alert = AlertFactory.create(seen_through=START, alert_timestamp=timezone.now())
    told(alert, Kind.OPENED)
    alert = alerts.resolve(alert=alert, by="user:anna", action="fixed")
    alerts.reopen(alert=alert, by="user:anna")
    kinds = [notice.kind for notice in Notice.objects.order_by("id")]
    assert kinds == ["opened", "resolved", "reopened"]

    # Later the system does: then only a window that people were not told of tells.
    Alert.objects.update(alert_timestamp=timezone.now())
    assert told(alert, Kind.REOPENED) == 0


def test_where_no_evaluations_are_the_point_each_opening_tells() -> None:
    alert = AlertFactory.create(alert_type="training_failed")
    assert [told(alert, Kind.OPENED), told(alert, Kind.REOPENED)] == [1, 1]


def test_a_rise_tells_once() -> None:
    alert = AlertFactory.create(seen_through=START, severity="normal")
    told(alert, Kind.OPENED)
    assert told(alert, Kind.ROSE) == 0
    rises = []
    for severity in ("warning", "normal", "warning", "critical", "critical"):
        Alert.objects.update(severity=severity)
        rises.append(told(alert, Kind.ROSE))
    assert rises == [1, 0, 0, 1, 0]


def test_a_rise_of_what_opened_again_tells() -> None:
    alert = AlertFactory.create(severity="critical")
    told(alert, Kind.OPENED)
    Alert.objects.update(severity="warning", alert_timestamp=timezone.now())
    told(alert, Kind.REOPENED)
    Alert.objects.update(severity="critical")
    assert told(alert, Kind.ROSE) == 1


def test_many_are_one_statement_and_each_told_once(django_assert_num_queries: object) -> None:
    alerts = AlertFactory.create_batch(5)
    ids = [alert.pk for alert in alerts]
    with django_assert_num_queries(1):
        assert notices.tell(kind=Kind.OPENED, alert_ids=[*ids, *ids], now=timezone.now()) == 5
    with django_assert_num_queries(0):
        assert notices.tell(kind=Kind.OPENED, alert_ids=[], now=timezone.now()) == 0


def test_members_of_a_fleet_alert_are_counted_that_are_present() -> None:
    alert = AlertFactory.create(fleet=True)
    for left in (None, None, timezone.now()):
        model = ModelVersionFactory.create()
        joined = timezone.now() - timedelta(hours=1)
        AlertMember.objects.create(
            alert=alert, machine=model.machine, model=model, joined_at=joined, left_at=left
        )
    told(alert, Kind.OPENED)
    assert Notice.objects.get().says["n_members"] == 2
    assert Notice.objects.get().says["machine_name"] is None


def test_what_is_rolled_back_tells_nobody() -> None:
    alert = AlertFactory.create(seen_through=START)
    with transaction.atomic():
        told(alert, Kind.OPENED)
        transaction.set_rollback(True)
    assert not Notice.objects.exists()
    alert.refresh_from_db()
    assert alert.told_through is None


def test_a_kind_that_is_none_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        told(AlertFactory.create(), "exploded")


def test_numbers_that_json_does_not_know_are_none() -> None:
    worst = float("inf")
    alert = AlertFactory.create(
        current_metric_value=worst, baseline_metric_value=-worst, peak_metric_value=float("nan")
    )
    notices.tell(kind="opened", alert_ids=[alert.pk], now=START)
    says = Notice.objects.get().says
    assert [says[name] for name in ("current", "baseline", "peak")] == [None, None, None]
