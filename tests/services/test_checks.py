"""Checks of the fleet: the same verdicts as at recording, and alerts rationed together."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from modelperf.models import (
    Alert,
    AlertMember,
    CheckRun,
    DriftState,
    ModelVersion,
    StoredVerdict,
)
from modelperf.services import alerts, checks, drift, metrics, policies
from tests.factories import ModelVersionFactory
from tests.services.builders import evaluation, noisy, series

pytestmark = pytest.mark.django_db


def fleet(n: int, *, model_type: str = "baseline") -> list[ModelVersion]:
    return [ModelVersionFactory.create(is_active=True, model_type=model_type) for _ in range(n)]


def record(models: list[ModelVersion], histories: list[list[float]]) -> None:
    """Record a batch that nobody has judged yet."""
    for model, values in zip(models, histories, strict=True):
        metrics.record_batch(evaluations=series(model, values), by="a")


def test_a_check_judges_what_is_recorded_and_stores_it() -> None:
    models = fleet(3)
    record(models, [noisy(1, 40), noisy(2, 60, fall_at=45), noisy(3, 10)])
    report = checks.run(by="a")
    by_model = {look.model_id: look for look in report.looks}
    assert [by_model[model.pk].status for model in models] == [
        "stable",
        "degraded",
        "insufficient_data",
    ]
    assert (report.n_judged, report.n_series, report.n_rejected) == (3, 2, 1)
    run = CheckRun.objects.get()
    assert (run.pk, run.started_by, run.n_judged) == (report.check_run_id, "a", 3)
    assert StoredVerdict.objects.filter(check_run=run).count() == 3
    assert Alert.objects.get().model_id == models[1].pk
    assert DriftState.objects.filter(stored_verdict__isnull=False).count() == 3


def test_a_second_check_finds_nothing_new_and_changes_nothing() -> None:
    models = fleet(2)
    record(models, [noisy(1, 40), noisy(2, 60, fall_at=45)])
    checks.run(by="a")
    alert = Alert.objects.values().get()
    report = checks.run(by="a")
    assert report.n_judged == 0
    assert StoredVerdict.objects.count() == 2
    assert Alert.objects.values().get() == alert


def test_record_check_and_fleet_check_agree() -> None:
    values = noisy(2, 60, fall_at=45)
    one, two, three = fleet(3)
    for sent in series(one, values):
        recorded = metrics.record(evaluation=sent, by="a")
    record([two, three], [values, values])
    checked = drift.check(model=two, by="a")
    checks.run(by="a")
    stored = DriftState.objects.get(model=three).verdict
    assert recorded.verdict == checked.verdict == stored


def test_a_verdict_judged_at_recording_is_stored_by_the_next_check() -> None:
    (model,) = fleet(1)
    for sent in series(model, noisy(1, 40)):
        metrics.record(evaluation=sent, by="a")
    assert DriftState.objects.get().stored_verdict is None
    report = checks.run(by="a")
    assert report.n_judged == 0
    stored = DriftState.objects.get().stored_verdict
    assert stored is not None
    assert stored.check_run_id == report.check_run_id


def test_a_dry_run_tells_and_stores_nothing() -> None:
    models = fleet(1)
    record(models, [noisy(2, 60, fall_at=45)])
    report = checks.run(by="a", dry_run=True)
    assert report.has_drift
    assert report.check_run_id is None
    assert not Alert.objects.exists()
    assert not CheckRun.objects.exists()
    assert not DriftState.objects.exists()


def test_as_of_a_day_judges_what_was_there_then() -> None:
    models = fleet(1)
    record(models, [noisy(2, 60, fall_at=45)])
    day = evaluation(models[0], 44).evaluation_end
    then = checks.run(by="a", as_of=day)
    assert [look.status for look in then.looks] == ["stable"]
    assert not DriftState.objects.exists()


def test_the_scope_limits_what_is_judged() -> None:
    models = [*fleet(1), *fleet(1, model_type="forecast_day")]
    record(models, [noisy(1, 40), noisy(2, 40)])
    report = checks.run(by="a", model_type="forecast_day")
    assert [look.model_id for look in report.looks] == [models[1].pk]
    report = checks.run(by="a", machine=models[0].machine)
    assert [look.model_id for look in report.looks] == [models[0].pk]
    assert report.n_series == 2


def test_windows_younger_than_the_label_delay_are_judged_later() -> None:
    (model,) = fleet(1)
    policies.set_policy(model_type="baseline", values={"label_delay_seconds": 86_400 * 5}, by="a")
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for days_ago in range(40, 0, -1):
        end = today - timedelta(days=days_ago - 1)
        sent = evaluation(model, evaluation_start=end - timedelta(days=1), evaluation_end=end)
        recorded = metrics.record(evaluation=sent, by="a")
    assert recorded.verdict is not None
    assert recorded.verdict["n_evaluations"] == 35
    assert DriftState.objects.get().verdict["n_evaluations"] == 35


def test_evaluations_that_stop_raise_one_alert_until_they_come_again() -> None:
    (model,) = fleet(1)
    policies.set_policy(model_type="baseline", values={"expected_cadence_seconds": 86_400}, by="a")
    record([model], [noisy(1, 40)])
    report = checks.run(by="a")
    assert report.looks[0].is_stale
    assert report.summary["by_status"] == {"stale": 1}
    alert = Alert.objects.get()
    assert (alert.alert_type, alert.is_resolved) == ("evaluation_missing", False)
    checks.run(by="a")
    assert Alert.objects.count() == 1
    end = timezone.now()
    fresh = evaluation(model, evaluation_start=end - timedelta(days=1), evaluation_end=end)
    metrics.record(evaluation=fresh, by="a")
    alert.refresh_from_db()
    assert (alert.is_resolved, alert.resolution_action) == (True, "recovered")


def test_a_fall_of_all_machines_is_one_alert_with_members() -> None:
    models = fleet(8)
    record(models, [noisy(seed, 60, fall_at=45) for seed in range(8)])
    checks.run(by="a")
    alert = Alert.objects.unresolved().get()
    assert alert.machine_id is None
    assert "baseline" in alert.alert_message
    assert AlertMember.objects.present().filter(alert=alert).count() == 8
    checks.run(by="a")
    assert Alert.objects.unresolved().count() == 1


def test_alerts_opened_at_recording_join_the_fleet_alert() -> None:
    models = fleet(8)
    histories = [noisy(seed, 60, fall_at=45) for seed in range(8)]
    record(models[:7], histories[:7])
    for sent in series(models[7], histories[7]):
        metrics.record(evaluation=sent, by="a")
    assert Alert.objects.unresolved().get().machine_id == models[7].machine_id
    checks.run(by="a")
    alert = Alert.objects.unresolved().get()
    assert alert.machine_id is None
    assert alert.members.count() == 8
    assert Alert.objects.get(is_resolved=True).resolution_action == "in_fleet_alert"


def test_when_the_fleet_recovers_who_does_not_gets_an_own_alert() -> None:
    models = fleet(8)
    falls = [noisy(seed, 60, fall_at=45) for seed in range(8)]
    record(models, falls)
    checks.run(by="a")
    back = [noisy(seed + 50, 30) for seed in range(7)] + [noisy(99, 30, level=1.5)]
    record(models, [fall + rest for fall, rest in zip(falls, back, strict=True)])
    checks.run(by="a")
    alert = Alert.objects.unresolved().get()
    assert alert.machine_id == models[7].machine_id
    fleet_alert = Alert.objects.get(machine__isnull=True)
    assert fleet_alert.resolution_action == "recovered"
    assert not AlertMember.objects.present().filter(alert=fleet_alert).exists()


def test_one_machine_of_four_is_told_beside_what_all_do() -> None:
    models = fleet(6)
    rng = np.random.default_rng(5)
    together = 0.5 * (np.arange(80) >= 40)
    histories = [np.exp(rng.normal(0, 0.1, 80) + together) for _ in models]
    histories[2][60:] *= 1.6
    record(models, [list(values) for values in histories])
    checks.run(by="a")
    machines = set(Alert.objects.unresolved().values_list("machine_id", flat=True))
    assert machines == {None, models[2].machine_id}


def test_a_dry_run_knows_what_a_person_has_resolved() -> None:
    (model,) = fleet(1)
    record([model], [noisy(2, 60, fall_at=45)])
    assert checks.run(by="a", dry_run=True).looks[0].decisions == ["would_open"]
    checks.run(by="a")
    alerts.resolve(alert=Alert.objects.get(), by="user:ada", action="accepted")
    report = checks.run(by="a", dry_run=True)
    assert report.looks[0].decisions == ["resolved_by_person"]
    assert not report.has_drift
