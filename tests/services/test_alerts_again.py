"""What a person has resolved opens again for another matter only, and what lasts is seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import time_machine
from django.utils import timezone

from modelperf.models import Alert, Machine, ModelVersion, Notice
from modelperf.services import (
    alerts,
    alerts_waking,
    checks,
    metrics,
    policies,
    profiles,
    registry_activation,
)
from tests.factories import AlertFactory, ModelVersionFactory
from tests.services.builders import noisy, series

pytestmark = pytest.mark.django_db
ADA = "user:ada"
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
MILD = [*noisy(1, 40), *noisy(2, 20, level=1.4)]


def resolved_fall(action: str) -> tuple[ModelVersion, Alert]:
    """Return a series that has fallen mildly, which a person has resolved."""
    model = ModelVersionFactory.create(is_active=True)
    record(model, MILD)
    alert = Alert.objects.get()
    return model, alerts.resolve(alert=alert, by=ADA, action=action)


def record(model: ModelVersion, values: list[float], after: int = 0) -> None:
    metrics.record_batch(evaluations=series(model, values)[after:], by="a", judge=True)


@pytest.mark.parametrize(
    ("level", "opens"), [(1.5, False), (1.7, False), (4.0, True)], ids=["same", "more", "far more"]
)
def test_what_was_accepted_opens_again_where_it_is_far_worse(level: float, opens: bool) -> None:
    model, alert = resolved_fall("accepted")
    record(model, [*MILD, *noisy(3, 25, level=level)], after=len(MILD))
    alert.refresh_from_db()
    assert alert.is_resolved is not opens
    assert Notice.objects.filter(kind="reopened").count() == opens
    record(model, [*MILD, *noisy(3, 25, level=level), 4.1], after=len(MILD) + 25)
    assert Notice.objects.filter(kind="reopened").count() == opens


def test_one_window_that_is_far_off_is_not_far_worse() -> None:
    model, alert = resolved_fall("accepted")
    record(model, [*MILD, *noisy(3, 3, level=1.4), 30.0], after=len(MILD))
    alert.refresh_from_db()
    assert alert.is_resolved


@pytest.mark.parametrize("action", ["retrained_model", "accepted"])
def test_a_retraining_that_is_taken_back_has_resolved_nothing(action: str) -> None:
    model, alert = resolved_fall(action)
    longer = [*MILD, *noisy(4, 3, level=1.4)]
    newer = ModelVersionFactory.create(machine=model.machine)
    record(model, longer[:-2], after=len(MILD))  # before another version serves
    registry_activation.activate_model(model=newer, by=ADA)
    record(model, longer[:-1], after=len(longer) - 2)
    assert not Alert.objects.unresolved().exists()
    registry_activation.activate_model(model=model, by=ADA)
    record(model, longer, after=len(longer) - 1)
    alert.refresh_from_db()
    assert alert.is_resolved is (action == "accepted")


def moved(model: ModelVersion, day: int, by: float) -> None:
    """Record the window of a day in which a feature lies so far off, and check."""
    load = np.random.default_rng(day).normal(by, 1, 500)
    window = FIRST + timedelta(days=day), FIRST + timedelta(days=day + 1)
    profiles.record_window(model=model, window=window, columns={"load": load}, by="a")
    checks.run(by="a")


@pytest.mark.parametrize("n", [1, 4], ids=["a series", "the fleet"])
def test_features_that_were_back_and_move_again_are_another_matter(n: int) -> None:
    models = ModelVersionFactory.create_batch(n, is_active=True)
    load = np.random.default_rng(0).normal(0, 1, 2_000)
    for model in models:
        record(model, noisy(1, 30))
        profiles.record_reference(model=model, columns={"load": load}, roles={}, by="a")
    for day, by in enumerate((2.0, 2.0, *[0.0] * 20, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0)):
        for model in models[1:]:
            window = FIRST + timedelta(days=day), FIRST + timedelta(days=day + 1)
            values = np.random.default_rng(day).normal(by, 1, 500)
            profiles.record_window(model=model, window=window, columns={"load": values}, by="a")
        moved(models[0], day, by)
        if day == 0:
            alert = Alert.objects.get(alert_type="data_drift")
            assert (alert.machine_id is None) is (n > 1)
            alerts.resolve(alert=alert, by=ADA, action="fixed")
        if day == 1:  # the same still
            assert not Alert.objects.unresolved().exists()
    assert Alert.objects.unresolved().get() == alert
    assert Notice.objects.filter(kind="reopened").count() == 1


def test_the_peak_of_features_is_the_furthest_they_were() -> None:
    model = ModelVersionFactory.create(is_active=True)
    record(model, noisy(1, 30))
    load = np.random.default_rng(0).normal(0, 1, 2_000)
    profiles.record_reference(model=model, columns={"load": load}, roles={}, by="a")
    moved(model, 0, 2.0)
    peak = Alert.objects.get().peak_metric_value
    moved(model, 1, 1.0)
    alert = Alert.objects.get()
    assert peak is not None
    assert alert.current_metric_value is not None
    assert alert.peak_metric_value == peak > alert.current_metric_value


def test_a_snooze_is_not_over_while_the_machine_is_out_of_service() -> None:
    alert = AlertFactory.create()
    until = timezone.now() + timedelta(hours=1)
    alerts.snooze(alert=alert, by=ADA, until=until)
    Machine.objects.update(is_active=False)
    assert alerts_waking.wake(now=until) == []
    Machine.objects.update(is_active=True)
    assert alerts_waking.wake(now=until) == [alert.pk]


@pytest.mark.parametrize("n", [1, 4], ids=["a series", "the fleet"])
def test_what_is_missing_is_seen_by_every_check(n: int) -> None:
    policies.set_policy(model_type="baseline", values={"expected_cadence_seconds": 86_400}, by="a")
    for model in ModelVersionFactory.create_batch(n, is_active=True):
        record(model, noisy(1, 30))
    checks.run(by="a")
    alert = Alert.objects.get()
    later = timezone.now() + timedelta(hours=2)
    with time_machine.travel(later, tick=False):
        checks.run(by="a")
    seen = Alert.objects.get()
    assert seen.last_seen_at == later
    assert (seen.alert_timestamp, seen.revision) == (alert.alert_timestamp, alert.revision)
    assert Notice.objects.count() == 1
