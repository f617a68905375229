"""The life of an alert in people's hands."""

from __future__ import annotations

import pytest

from modelperf.models import Alert, ModelVersion
from modelperf.services import alerts, metrics
from modelperf.services.errors import ConflictError, InvalidError
from tests.factories import ModelVersionFactory
from tests.services.builders import noisy, series

pytestmark = pytest.mark.django_db

VALUES = noisy(1, 60, fall_at=45) + noisy(2, 10, level=1.5)


@pytest.fixture
def model() -> ModelVersion:
    model = ModelVersionFactory.create(is_active=True)
    for sent in series(model, VALUES[:60]):
        metrics.record(evaluation=sent, by="a")
    return model


def test_acknowledge_then_resolve_names_the_actors(model: ModelVersion) -> None:
    alert = alerts.acknowledge(alert=Alert.objects.get(), by="user:ada")
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", "user:ada")
    alert = alerts.resolve(alert=alert, by="user:bob", action="fixed", notes="valve")
    assert (alert.state, alert.resolved_by, alert.resolution_notes) == (
        "resolved",
        "user:bob",
        "valve",
    )


def test_the_second_to_resolve_sees_who_was_first(model: ModelVersion) -> None:
    alert = Alert.objects.get()
    alerts.resolve(alert=alert, by="user:ada", action="fixed")
    with pytest.raises(ConflictError, match="resolved by ada just now: fixed"):
        alerts.resolve(alert=alert, by="user:bob", action="fixed")
    with pytest.raises(ConflictError):
        alerts.acknowledge(alert=alert, by="user:bob")


def test_resolve_wants_an_action_it_knows(model: ModelVersion) -> None:
    with pytest.raises(InvalidError, match="action is one of"):
        alerts.resolve(alert=Alert.objects.get(), by="user:ada", action="shrug")


def test_reopen_makes_it_open_again(model: ModelVersion) -> None:
    alert = alerts.resolve(alert=Alert.objects.get(), by="user:ada", action="fixed")
    alert = alerts.reopen(alert=alert, by="user:bob")
    assert (alert.state, alert.is_resolved, alert.resolved_by) == ("open", False, None)
    assert alert.reopened_by == "user:bob"
    with pytest.raises(ConflictError):
        alerts.reopen(alert=alert, by="user:bob")


def test_repeating_evaluations_raise_the_count_of_one_alert(model: ModelVersion) -> None:
    before = Alert.objects.get().occurrences
    alerts.acknowledge(alert=Alert.objects.get(), by="user:ada")
    for sent in series(model, VALUES)[60:]:
        metrics.record(evaluation=sent, by="a")
    alert = Alert.objects.get()
    assert (alert.occurrences, alert.state) == (before + 10, "acknowledged")


def test_what_a_person_resolved_stays_resolved_while_nothing_new_happens(
    model: ModelVersion,
) -> None:
    alerts.resolve(alert=Alert.objects.get(), by="user:ada", action="accepted")
    for sent in series(model, VALUES)[60:]:
        metrics.record(evaluation=sent, by="a")
    assert Alert.objects.get().is_resolved


def test_a_second_fall_after_recovery_reopens_the_alert(model: ModelVersion) -> None:
    values = VALUES[:60] + noisy(5, 40) + noisy(6, 20, level=1.25)
    for sent in series(model, values)[60:]:
        metrics.record(evaluation=sent, by="a")
    alert = Alert.objects.get()
    assert not alert.is_resolved
    assert alert.alert_details["changed_at"] > "2026-03-15"


def test_the_message_names_machine_metric_and_both_levels(model: ModelVersion) -> None:
    alert = Alert.objects.get()
    assert model.machine.name in alert.alert_message
    assert "MAE is worse since 2026-02-15" in alert.alert_message
    assert alert.baseline_metric_value == pytest.approx(1.0, rel=0.1)
    assert alert.current_metric_value == pytest.approx(1.5, rel=0.1)
    assert alert.threshold_value == 3.9
