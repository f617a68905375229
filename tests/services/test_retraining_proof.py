"""An alert of a version that fell ends once the version that replaced it has proved better."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from modelperf.models import Alert, DriftState, ModelVersion
from modelperf.services import alerts, checks, drift, metrics, policies, registry, retraining_proof
from tests.factories import ModelVersionFactory, TrainingRunFactory
from tests.services.builders import START, evaluation, noisy

pytestmark = pytest.mark.django_db

FALL = 40
REPLACED = 52


def record(model: ModelVersion, first: int, values: list[float], metric: str = "mae") -> None:
    """Record one evaluation a day from a day on."""
    for day, value in enumerate(values, start=first):
        metrics.record(evaluation=evaluation(model, day, metrics={metric: value}), by="a")


def settle() -> list[Alert]:
    return retraining_proof.settle(now=timezone.now(), by="a")


def fallen(**fields: Any) -> ModelVersion:
    """Return a version that has fallen by half, and was replaced by a newer one since."""
    first = ModelVersionFactory.create(is_active=True, **fields)
    record(first, 0, noisy(1, REPLACED, fall_at=FALL))
    second = ModelVersionFactory.create(machine=first.machine, model_type=first.model_type)
    registry.activate_model(model=second, by="a")
    assert Alert.objects.unresolved().filter(model=first).count() == 1
    return second


def test_a_version_as_bad_as_the_last_is_stable_and_ends_nothing() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 40, level=1.5))
    checks.run(by="a")
    assert drift.check(model=second, by="a").verdict["status"] == "stable"
    assert settle() == []
    assert Alert.objects.get().model_version == 1
    assert not Alert.objects.get().is_resolved


def test_a_version_that_is_better_ends_it_and_says_by_what() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 9))
    assert settle() == []
    record(second, REPLACED + 9, noisy(3, 5))
    (alert,) = settle()
    assert (alert.resolution_action, alert.resolved_by) == ("retrained_model", "system")
    assert alert.resolution_notes.startswith("Version 2 has proved better than version 1 was")
    proof = alert.alert_details["proof"]
    assert proof["p_value"] <= proof["alpha"] == 0.05
    assert proof["n_before"] == REPLACED - FALL
    assert 10 <= proof["n_after"] <= 14
    assert proof["before"] == pytest.approx(1.5, rel=0.1)
    assert proof["after"] == pytest.approx(1.0, rel=0.1)
    assert proof["effect"] == pytest.approx(-1 / 3, abs=0.06)
    assert settle() == []


def test_neither_judging_nor_late_evaluations_of_the_old_version_open_it_again() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 14))
    (alert,) = settle()
    first = ModelVersion.objects.get(machine=second.machine, model_version=1)
    record(first, REPLACED, noisy(4, 5, level=3.0))
    drift.check(model=first, by="a")
    checks.run(by="a")
    alert.refresh_from_db()
    assert alert.resolution_action == "retrained_model"
    assert not Alert.objects.unresolved().exists()


def test_the_old_version_back_in_service_is_alerted_anew_without_the_proof() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 14))
    (alert,) = settle()
    registry.rollback(machine=second.machine, model_type="baseline", reason="costs", by="a")
    alert.refresh_from_db()
    assert (alert.is_resolved, alert.model_version) == (False, 1)
    assert "proof" not in alert.alert_details
    assert alert.resolution_notes == ""


def test_back_to_the_old_version_it_recovers_as_ever() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 12, level=1.5))
    registry.rollback(machine=second.machine, model_type="baseline", reason="no use", by="a")
    first = ModelVersion.objects.get(machine=second.machine, model_version=1)
    record(first, REPLACED, noisy(5, 20))
    assert Alert.objects.get().resolution_action == "recovered"


def test_a_newer_version_that_falls_itself_takes_the_alert_over() -> None:
    second = fallen()
    before = Alert.objects.get()
    record(second, REPLACED, noisy(2, 20) + noisy(3, 12, level=1.5))
    alert = Alert.objects.get()
    assert (alert.pk, alert.is_resolved) == (before.pk, False)
    assert (alert.model_id, alert.model_version) == (second.pk, 2)
    assert alert.alert_timestamp == before.alert_timestamp
    assert settle() == []


def test_what_is_degraded_itself_proves_nothing_even_by_what_it_was_before() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 32, fall_at=20))
    assert Alert.objects.unresolved().filter(model=second).exists()
    assert settle() == []
    assert Alert.objects.unresolved().filter(model_version=1).exists()


def test_a_proof_is_void_once_the_newer_version_has_taken_the_alert_over() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 20))
    proved = retraining_proof.proofs()
    record(second, REPLACED + 20, noisy(3, 12, level=1.5))
    assert retraining_proof.resolve(proved, now=timezone.now(), by="a") == []
    assert Alert.objects.get().model_version == 2


def test_who_was_first_stays() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 14))
    proved = retraining_proof.proofs()
    alerts.resolve(alert=Alert.objects.get(), by="user:ada", action="fixed")
    assert retraining_proof.resolve(proved, now=timezone.now(), by="a") == []
    assert Alert.objects.get().resolved_by == "user:ada"


def test_what_a_person_opens_again_a_version_that_serves_ends_no_more() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 14))
    proved = retraining_proof.proofs()
    (alert,) = settle()
    alerts.reopen(alert=alert, by="user:ada")
    assert settle() == []
    assert retraining_proof.resolve(proved, now=timezone.now(), by="a") == []
    # A version that comes after that may prove better.
    third = ModelVersionFactory.create(machine=second.machine)
    registry.activate_model(model=third, by="a")
    record(third, REPLACED + 14, noisy(3, 14))
    assert settle() == [alert]


def test_a_series_that_cannot_be_compared_stops_no_other() -> None:
    broken, sound = fallen(), fallen()
    for second in (broken, sound):
        record(second, REPLACED, noisy(2, 14))
    # Not by way of the service, which stores rules that are complete.
    DriftState.objects.filter(model=broken).update(rules={})
    assert [alert.machine for alert in settle()] == [sound.machine]


def test_a_proof_is_void_once_another_version_is_active() -> None:
    second = fallen()
    record(second, REPLACED, noisy(2, 14))
    proved = retraining_proof.proofs()
    third = ModelVersionFactory.create(machine=second.machine)
    registry.activate_model(model=third, by="a")
    assert retraining_proof.resolve(proved, now=timezone.now(), by="a") == []
    assert not Alert.objects.get().is_resolved


def test_windows_before_the_fall_prove_nothing() -> None:
    second = fallen()
    record(second, 0, noisy(2, FALL))
    record(second, REPLACED, noisy(3, 9))
    checks.run(by="a")
    assert settle() == []
    record(second, REPLACED + 9, noisy(4, 3))
    checks.run(by="a")
    assert len(settle()) == 1


def test_windows_it_was_trained_by_prove_nothing() -> None:
    second = fallen()
    record(second, FALL, noisy(2, 24))
    run = TrainingRunFactory.create(
        machine=second.machine,
        model=second,
        model_version=2,
        training_data_start=START,
        training_data_end=START + timedelta(days=FALL + 16),
    )
    assert settle() == []
    run.training_data_end = START + timedelta(days=FALL + 8)
    run.save()
    assert len(settle()) == 1


def test_a_cliff_after_which_the_old_version_was_replaced_at_once() -> None:
    first = ModelVersionFactory.create(is_active=True)
    record(first, 0, [*noisy(1, 40), 4.0, 4.2])
    assert Alert.objects.get().alert_type == "performance_degradation"
    second = ModelVersionFactory.create(machine=first.machine)
    registry.activate_model(model=second, by="a")
    record(second, 42, noisy(2, 12))
    (alert,) = settle()
    assert alert.alert_details["proof"]["n_before"] == 2


def test_within_its_limit_a_newer_version_needs_no_proof() -> None:
    policies.set_policy(
        model_type="baseline", values={"primary_metric": "mae", "limit_value": 2.0}, by="a"
    )
    first = ModelVersionFactory.create(is_active=True)
    record(first, 0, [2.5, 2.6, 2.7])
    second = ModelVersionFactory.create(machine=first.machine)
    registry.activate_model(model=second, by="a")
    record(second, 3, noisy(2, 29))
    assert not Alert.objects.get().is_resolved
    record(second, 32, [1.0])
    assert Alert.objects.get().resolution_action == "retrained_model"


@pytest.mark.parametrize(
    ("metric", "bad", "good"), [("nmbe", 12.0, 1.0), ("r_squared", 0.6, 0.9), ("score", 3.0, 9.0)]
)
def test_metrics_of_other_kinds(metric: str, bad: float, good: float) -> None:
    policies.set_policy(
        model_type="baseline",
        values={"primary_metric": metric, "directions": {"score": "higher"}},
        by="a",
    )
    first = ModelVersionFactory.create(is_active=True)
    noise = [value / 50 for value in noisy(1, 80)]
    record(first, 0, [(good if day < 40 else bad) + noise[day] for day in range(52)], metric)
    second = ModelVersionFactory.create(machine=first.machine)
    registry.activate_model(model=second, by="a")
    record(second, 52, [good + one for one in noise[52:64]], metric)
    assert [alert.resolution_action for alert in settle()] == ["retrained_model"]


def test_however_many_alerts_it_takes_five_statements(django_assert_num_queries: Any) -> None:
    for _ in range(3):
        record(fallen(), REPLACED, noisy(2, 14))
    with django_assert_num_queries(5 + 2, connection=connection):  # and a savepoint
        assert len(settle()) == 3
    with django_assert_num_queries(1, connection=connection):
        assert settle() == []
