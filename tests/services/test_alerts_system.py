"""What the system does to alerts: their content, what is told of them, and when they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from modelperf.models import ABTest, Alert, ModelVersion, Notice
from modelperf.services import (
    ab_tests,
    alerts,
    alerts_raising,
    alerts_writing,
    metrics,
    policies,
    registry,
    retraining_tests,
)
from modelperf.services.alerts_conditions import Wanted
from modelperf.services.alerts_following import SeriesPlace
from tests.factories import ModelVersionFactory, TrainingRunFactory, UserFactory
from tests.services.builders import START, evaluation, noisy, series

DAY = timedelta(days=1)
FALL = noisy(1, 60, fall_at=45)


def record(model: ModelVersion, values: Sequence[float], first: int = 0) -> None:
    """Record a day's evaluations, judged at once as one call."""
    sent = [
        evaluation(model, day, metrics={"mae": value})
        for day, value in enumerate(values, start=first)
    ]
    metrics.record_batch(evaluations=sent, by="a", judge=True)


def told(alert: Alert) -> list[str]:
    notices = Notice.objects.filter(alert=alert).order_by("occurred_at", "id")
    return list(notices.values_list("kind", flat=True))


@pytest.fixture
def model(db: None) -> ModelVersion:
    return ModelVersionFactory.create(is_active=True)


# --- content --------------------------------------------------------------------------------


def test_an_alert_says_the_worst_value_and_how_far_it_was_seen(model: ModelVersion) -> None:
    before = timezone.now()
    record(model, FALL)
    alert = Alert.objects.get()
    since = datetime.fromisoformat(alert.alert_details["changed_at"])
    fallen = FALL[(since - START).days :]
    assert alert.peak_metric_value == max(fallen)
    assert alert.occurrences == len(fallen)
    assert alert.seen_through == START + 60 * DAY
    seen_at = alert.last_seen_at
    assert seen_at > before
    record(model, [9.0, 1.4], first=60)
    alert.refresh_from_db()
    assert (alert.peak_metric_value, alert.occurrences) == (9.0, len(fallen) + 2)
    assert alert.seen_through == START + 62 * DAY
    assert alert.last_seen_at > seen_at
    assert told(alert)[0] == "opened"


@pytest.mark.parametrize("metric", ["mae", "r_squared"])
def test_the_peak_of_a_collapse_and_of_a_limit_is_the_worst_in_the_metrics_direction(
    model: ModelVersion, metric: str
) -> None:
    worse = [12.0, 9.0] if metric == "mae" else [-3.0, -1.0]
    good = noisy(1, 30) if metric == "mae" else [1 - value / 10 for value in noisy(1, 30)]
    metrics.record_batch(evaluations=series(model, [*good, *worse], metric), by="a", judge=True)
    alert = Alert.objects.get()
    assert alert.alert_details["rule"] == "collapse"
    assert alert.peak_metric_value == worse[0]
    limited = ModelVersionFactory.create(is_active=True, model_type="limited")
    limit = 2.0 if metric == "mae" else 0.5
    policies.set_policy(
        model_type="limited", values={"primary_metric": metric, "limit_value": limit}, by="a"
    )
    metrics.record_batch(evaluations=series(limited, worse, metric), by="a", judge=True)
    assert Alert.objects.get(model_type="limited").peak_metric_value == worse[0]


# --- notices --------------------------------------------------------------------------------


def test_a_severity_that_rises_is_told_once_also_of_an_acknowledged_alert(
    model: ModelVersion,
) -> None:
    record(model, FALL[:47])
    opened = 47
    while not Alert.objects.exists():
        record(model, [FALL[opened]], first=opened)
        opened += 1
    alert = Alert.objects.get()
    assert (alert.severity, told(alert)) == ("warning", ["opened"])
    alerts.acknowledge(alert=alert, by="user:ada")
    for day in range(opened, 60):
        record(model, [FALL[day]], first=day)
    alert.refresh_from_db()
    assert (alert.severity, alert.state) == ("critical", "acknowledged")
    assert told(alert) == ["opened", "severity_rose"]
    # From lower than it was told of to what it was told of is no rise.
    Alert.objects.filter(pk=alert.pk).update(severity="normal")
    record(model, [1.5], first=60)
    alert.refresh_from_db()
    assert alert.severity == "critical"
    assert told(alert) == ["opened", "severity_rose"]


def falls_and_recovers(model: ModelVersion) -> Alert:
    record(model, FALL[:55])
    record(model, noisy(3, 15), first=55)
    alert = Alert.objects.get()
    assert (alert.state, alert.resolution_action) == ("resolved", "recovered")
    assert told(alert) == ["opened", "resolved"]
    return alert


def test_what_opens_again_has_lost_its_acknowledgement_and_keeps_its_people(
    model: ModelVersion,
) -> None:
    record(model, FALL[:55])
    alert, ada = Alert.objects.get(), UserFactory.create(is_superuser=True)
    alerts.assign(alert=alert, by="user:ada", assignee=ada)
    alerts.acknowledge(alert=alert, by="user:ada")
    alerts.snooze(alert=alert, by="user:ada", count=1_000)
    record(model, noisy(3, 15), first=55)
    alert.refresh_from_db()
    assert (alert.state, alert.snoozed_until_count) == ("resolved", None)
    record(model, FALL[45:], first=70)
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_by, alert.acknowledged_at) == ("open", "", None)
    assert alert.assignee == ada
    assert told(alert) == ["opened", "resolved", "reopened"]


def test_an_old_window_that_brings_an_alert_back_is_told_with_the_next_new_one(
    model: ModelVersion,
) -> None:
    alert = falls_and_recovers(model)
    # Corrected: it had not recovered at all.
    record(model, FALL[45:], first=55)
    alert.refresh_from_db()
    assert alert.state == "open"
    assert told(alert) == ["opened", "resolved"]
    record(model, [1.5], first=70)
    assert told(alert) == ["opened", "resolved", "reopened"]
    record(model, [1.5], first=71)
    assert told(alert) == ["opened", "resolved", "reopened"]


def test_what_nobody_heard_of_ends_unheard(model: ModelVersion) -> None:
    alert = falls_and_recovers(model)
    good = noisy(3, 15)
    for values in ([1.5] * 15, good):
        record(model, values, first=55)
    alert.refresh_from_db()
    assert alert.state == "resolved"
    assert told(alert) == ["opened", "resolved"]


def test_a_late_evaluation_of_an_earlier_version_reopens_nothing_unless_it_serves_again(
    model: ModelVersion,
) -> None:
    record(model, FALL)
    alert = Alert.objects.get()
    successor = ModelVersionFactory.create(machine=model.machine)
    registry.activate_model(model=successor, kind="activated", reason="", by="a")
    record(successor, noisy(2, 15), first=60)
    ended = alerts_writing.Ended(id=alert.pk, action="retrained_model", notes="Better.")
    assert alerts_writing.resolve([ended], now=timezone.now()) == [alert.pk]
    assert alerts_writing.resolve([ended], now=timezone.now()) == []
    record(model, noisy(5, 5, level=2.0), first=60)
    alert.refresh_from_db()
    assert (alert.state, alert.resolution_notes) == ("resolved", "Better.")
    assert told(alert)[-1] == "resolved"
    n_told = len(told(alert))
    registry.activate_model(model=model, kind="rolled_back", reason="Worse.", by="a")
    record(model, noisy(6, 3, level=2.0), first=75)
    alert.refresh_from_db()
    assert (alert.state, alert.model_id) == ("open", model.pk)
    assert told(alert)[n_told:] == ["reopened"]


# --- what no evaluation is about --------------------------------------------------------------


def test_what_is_raised_again_is_told_once_until_it_has_ended(model: ModelVersion) -> None:
    wanted = Wanted(
        condition_key="series:x",
        alert_type="training_failed",
        severity="warning",
        message="A training failed.",
        occurrences=1,
        current=None,
        threshold=None,
        baseline=None,
        details={"changed_at": "2026-01-01"},
    )
    place = SeriesPlace(model.machine_id, model.model_type)
    for _ in range(3):
        alerts_raising.raise_alert(wanted, place, now=timezone.now())
    alert = Alert.objects.get()
    assert (alert.occurrences, alert.seen_through, told(alert)) == (3, None, ["opened"])
    for _ in range(2):
        alerts_raising.end_alert("series:x", action="recovered", now=timezone.now())
    alerts_raising.raise_alert(wanted, place, now=timezone.now())
    assert told(alert) == ["opened", "resolved", "reopened"]


# --- tests of versions that are over ----------------------------------------------------------


@pytest.fixture
def test_of(model: ModelVersion) -> ABTest:
    """Return a running test whose time is over; the new version is better."""
    other = ModelVersionFactory.create(machine=model.machine)
    for one, level in ((model, 1.0), (other, 0.5)):
        record(one, noisy(one.model_version, 30, level=level))
    return begin(model, other, test_start=START)


def begin(model: ModelVersion, other: ModelVersion, **more: Any) -> ABTest:
    given: dict[str, Any] = {"test_name": "old or new", "duration_hours": 24 * 30, "by": "user:ada"}
    series_of = {"machine": model.machine, "model_type": model.model_type}
    return ab_tests.start(model_a=model, model_b=other, **series_of, **given | more).test


def of_test() -> Alert:
    return Alert.objects.get(alert_type="ab_test_completed")


def test_a_test_that_is_over_asks_to_be_decided_until_it_is(test_of: ABTest) -> None:
    assert [one.pk for one in ab_tests.complete_expired(by="a").ended] == [test_of.pk]
    alert = of_test()
    assert (alert.severity, alert.machine_id, alert.state) == ("normal", test_of.machine_id, "open")
    says = "the A/B test “old or new” is over: version 2 is better, confidence"
    assert says in alert.alert_message
    assert told(alert) == ["opened"]
    ab_tests.decide(test=test_of, decision="promote_b", by="user:ada")
    alert.refresh_from_db()
    assert (alert.state, alert.resolution_action) == ("resolved", "decided")
    assert told(alert) == ["opened", "resolved"]


def test_another_test_ends_the_question_of_the_last(test_of: ABTest) -> None:
    ab_tests.complete_expired(by="a")
    second = begin(test_of.model_a, test_of.model_b, test_name="again")
    assert of_test().resolution_action == "decided"
    ab_tests.cancel(test=second, by="user:ada")
    ab_tests.complete_expired(by="a")
    assert of_test().is_resolved


def test_a_test_decided_while_it_runs_asks_nobody(test_of: ABTest) -> None:
    ab_tests.decide(test=test_of, decision="no_winner", by="user:ada")
    assert not Alert.objects.filter(alert_type="ab_test_completed").exists()


@pytest.mark.parametrize("after", ["test", "wait"])
def test_a_test_that_started_by_itself_asks_only_where_people_decide(
    test_of: ABTest, after: str
) -> None:
    run = TrainingRunFactory.create(
        machine=test_of.machine, model_type="baseline", triggered_by="user:ada"
    )
    ABTest.objects.filter(pk=test_of.pk).update(training_run=run)
    policies.set_policy(model_type="baseline", values={"after_training": after}, by="a")
    ab_tests.complete_expired(by="a")
    assert not Alert.objects.filter(alert_type="ab_test_completed").exists()
    for _ in range(2):
        retraining_tests.settle(now=timezone.now())
    asked = Alert.objects.filter(alert_type="ab_test_completed")
    assert [one.occurrences for one in asked] == ([1] if after == "wait" else [])


def test_a_collapse_that_turns_out_a_slower_fall_is_the_same_alert(model: ModelVersion) -> None:
    record(model, noisy(1, 45))
    record(model, [2.0, 2.1], first=75)
    collapse = Alert.objects.get()
    assert collapse.alert_details["rule"] == "collapse"

    record(model, noisy(2, 30, level=1.1), first=45)

    alert = Alert.objects.get()
    assert alert.pk == collapse.pk
    assert (alert.alert_type, alert.alert_details["rule"]) == ("drift_detected", "change_point")
    assert ":drift_detected:" in alert.condition_key
    assert told(alert) == ["opened"]


def test_a_collapse_that_was_none_for_a_while_is_the_same_alert(model: ModelVersion) -> None:
    record(model, noisy(1, 45))
    record(model, [2.0, 2.1], first=75)
    collapse = Alert.objects.get()
    Alert.objects.update(
        state="resolved",
        is_resolved=True,
        resolved_at=timezone.now(),
        resolved_by="system",
        resolution_action="history_changed",
    )
    record(model, noisy(2, 30, level=1.1), first=45)

    alert = Alert.objects.get()
    assert (alert.pk, alert.state, alert.alert_type) == (collapse.pk, "open", "drift_detected")
    assert told(alert) == ["opened"]


# --- many at once -----------------------------------------------------------------------------

_CHILD = """
import sys
import django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
from modelperf.models import ModelVersion
from modelperf.services import metrics
from tests.services.builders import evaluation, noisy
model, bad = ModelVersion.objects.get(), noisy(2, 100, level=1.35)
print("ready", flush=True)
sys.stdin.readline()
for day in range(int(sys.argv[2]), 100, 8):
    metrics.record(evaluation=evaluation(model, 60 + day, metrics={"mae": bad[day]}), by="a")
"""


@pytest.mark.django_db(transaction=True)
def test_bad_evaluations_from_eight_processes_are_one_alert_and_one_notice() -> None:
    model: ModelVersion = ModelVersionFactory.create(is_active=True)
    record(model, noisy(1, 60))
    name = connection.settings_dict["NAME"]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, name, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=300)
        assert child.returncode == 0
    alert = Alert.objects.get()
    fell_on = (datetime.fromisoformat(alert.alert_details["changed_at"]) - START).days
    assert abs(fell_on - 60) <= 2
    assert alert.occurrences == 160 - fell_on
    assert told(alert).count("opened") == 1
    assert told(alert)[-1] != "resolved"
