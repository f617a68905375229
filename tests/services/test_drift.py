"""Drift checks and policies."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from modelperf.models import (
    Alert,
    DriftState,
    LatestModelPerformance,
    ModelPerformanceMetric,
    ModelVersion,
)
from modelperf.services import drift, metrics, policies
from modelperf.services.drift_recommendation import recommendation
from modelperf.services.errors import NotFoundError
from tests.factories import ModelVersionFactory
from tests.services.builders import evaluation, noisy, series

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> ModelVersion:
    return ModelVersionFactory.create(is_active=True)


def test_check_agrees_with_the_verdict_on_record(model: ModelVersion) -> None:
    for sent in series(model, noisy(1, 60, fall_at=45)):
        last = metrics.record(evaluation=sent, by="a")
    checked = drift.check(model=model, by="a")
    assert checked.verdict == last.verdict
    assert (checked.drift_detected, checked.drift_score) == (True, last.drift_score)
    assert (checked.drift_type, checked.status) == ("concept_drift", "degraded")
    assert checked.threshold == 3.9
    assert checked.metric == "mae"
    assert checked.p_value is not None
    assert checked.changed_at == "2026-02-15T00:00:00Z"


def test_check_compares_means_before_and_since_the_change(model: ModelVersion) -> None:
    values = noisy(1, 60, fall_at=45)
    metrics.record_batch(evaluations=series(model, values), by="a")
    checked = drift.check(model=model, by="a")
    assert checked.baseline_performance["mae"] == pytest.approx(sum(values[:45]) / 45)
    assert checked.current_performance["mae"] == pytest.approx(sum(values[45:]) / 15)
    assert checked.current_performance["r_squared"] is None


def test_check_of_a_stable_model_leaves_the_newest_out_of_the_baseline(
    model: ModelVersion,
) -> None:
    values = noisy(1, 40)
    metrics.record_batch(evaluations=series(model, values), by="a")
    checked = drift.check(model=model, by="a")
    assert (checked.drift_detected, checked.drift_type) == (False, "no_drift")
    assert checked.current_performance["mae"] == values[-1]
    assert checked.baseline_performance["mae"] == pytest.approx(sum(values[:-1]) / 39)


def test_check_judges_a_batch_and_opens_its_alert(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 60, fall_at=45)), by="a")
    assert not Alert.objects.exists()
    drift.check(model=model, by="a")
    assert Alert.objects.get().occurrences == 15
    assert LatestModelPerformance.objects.get().drift_detected
    drift.check(model=model, by="a")
    assert Alert.objects.get().occurrences == 15


def test_check_without_evaluations_is_not_found(model: ModelVersion) -> None:
    with pytest.raises(NotFoundError, match="No recent performance metrics found"):
        drift.check(model=model, by="a")


def test_check_of_metrics_without_direction_asks_for_a_policy(model: ModelVersion) -> None:
    metrics.record(evaluation=evaluation(model, metrics={"oddity": 1.0}), by="a")
    checked = drift.check(model=model, by="a")
    assert (checked.status, checked.metric) == ("insufficient_data", None)
    assert "policy" in checked.recommendation


def test_collapse_is_critical_at_once(model: ModelVersion) -> None:
    for sent in series(model, [*noisy(1, 40), 50.0]):
        last = metrics.record(evaluation=sent, by="a")
    alert = Alert.objects.get()
    assert last.drift_detected
    assert (alert.alert_type, alert.severity) == ("performance_degradation", "critical")
    assert last.recommendation is not None
    assert "collapsed" in last.recommendation


def test_limit_opens_and_clears_beside_the_change_point(model: ModelVersion) -> None:
    policies.set_policy(
        model_type="baseline",
        values={"primary_metric": "mae", "limit_value": 2.0, "clear_value": 1.8},
        by="a",
    )
    for sent in series(model, [1.0, 2.5, 2.5, 2.5]):
        last = metrics.record(evaluation=sent, by="a")
    alert = Alert.objects.get()
    assert (alert.alert_type, alert.severity, alert.is_resolved) == (
        "performance_degradation",
        "warning",
        False,
    )
    assert last.drift_detected
    assert alert.threshold_value == 2.0
    for sent in series(model, [1.0, 2.5, 2.5, 2.5, *[1.0] * 36])[4:]:
        last = metrics.record(evaluation=sent, by="a")
    assert Alert.objects.get().resolution_action == "recovered"


def test_set_policy_changes_what_is_judged_next(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 60, fall_at=45)), by="a")
    assert drift.check(model=model, by="a").drift_detected
    policies.set_policy(model_type="baseline", values={"min_effect": 5.0}, by="a")
    assert not drift.check(model=model, by="a").drift_detected
    assert not Alert.objects.unresolved().exists()
    assert DriftState.objects.get().rules["min_effect"] == 5.0


def test_recommendation_has_a_sentence_for_every_status() -> None:
    base = {"conditions": [], "metric": "mae", "needed": 7, "changed_at": None, "n_evaluations": 9}
    said = {
        status: recommendation({**base, "status": status})
        for status in ("stable", "improved", "improvement_lost", "insufficient_data")
    }
    assert len(set(said.values())) == 4
    assert "7 more" in said["insufficient_data"]
    nothing = {**base, "status": "insufficient_data"}
    assert "no evaluation reports" in recommendation({**nothing, "n_evaluations": 0})
    assert "no known direction" in recommendation({**nothing, "needed": None})


def test_a_change_further_back_than_the_window_keeps_its_dates(model: ModelVersion) -> None:
    values = noisy(1, 60, fall_at=45) + noisy(2, 460, level=1.5)
    metrics.record_batch(evaluations=series(model, values)[:500], by="a", judge=True)
    before = DriftState.objects.get().verdict
    for sent in series(model, values)[500:]:
        last = metrics.record(evaluation=sent, by="a").verdict
    assert last is not None
    assert last["changed_at"] == "2025-04-01T00:00:00Z"
    for name in ("changed_after", "changed_before"):
        assert last[name] == before[name] != None  # noqa: E711


def test_every_judged_evaluation_has_the_verdict_of_its_own_prefix(model: ModelVersion) -> None:
    twin = ModelVersionFactory.create(is_active=True)
    policies.set_policy(
        model_type="baseline", values={"primary_metric": "mae", "limit_value": 1.45}, by="a"
    )
    values = noisy(1, 60, fall_at=45)
    for sent in series(model, values):
        metrics.record(evaluation=sent, by="a")
    late = series(twin, values)
    metrics.record_batch(evaluations=late[:20] + late[21:], by="a", judge=True)
    metrics.record(evaluation=late[20], by="a")
    columns = ("evaluation_end", "drift_detected", "drift_score", "drift_threshold")
    one, other = (
        list(
            ModelPerformanceMetric.objects.filter(model=version)
            .order_by("evaluation_end")
            .values_list(*columns)
        )
        for version in (model, twin)
    )
    assert one == other
    assert sum(detected for _, detected, _, _ in one) > 10


@pytest.mark.parametrize(
    "values",
    [
        [10.0, 25.0, 26.0, 25.0, *[10.0] * 20],
        [*noisy(1, 21), 30.0, 31.0, *noisy(2, 6)],
        [*noisy(1, 24), *noisy(2, 14, level=2.0), *noisy(3, 5)],
    ],
)
def test_what_is_over_before_thirty_evaluations_is_resolved_one_by_one_too(
    model: ModelVersion, values: list[float]
) -> None:
    policies.set_policy(
        model_type="baseline", values={"primary_metric": "mae", "limit_value": 20.0}, by="a"
    )
    for sent in series(model, values):
        last = metrics.record(evaluation=sent, by="a")
    assert not last.drift_detected
    assert Alert.objects.exists()
    assert not Alert.objects.unresolved().exists()


def test_an_alert_ends_with_the_evaluations_or_the_rules_it_was_about(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 60, fall_at=45)), by="a", judge=True)
    metrics.record(evaluation=evaluation(model, -1, metrics={"r_squared": 0.5}), by="a")
    assert DriftState.objects.get().metric == "r_squared"
    assert Alert.objects.get().resolution_action == "history_changed"
    metrics.delete(metrics=ModelPerformanceMetric.objects.filter(r_squared=0.5), by="a")
    assert Alert.objects.unresolved().count() == 1
    metrics.delete(metrics=ModelPerformanceMetric.objects.all(), by="a")
    assert not Alert.objects.unresolved().exists()
    assert not DriftState.objects.exists()


def test_a_repeated_evaluation_is_answered_with_the_verdict_on_all_that_is_stored(
    model: ModelVersion,
) -> None:
    values = [*noisy(1, 45), *[9.0] * 4]
    metrics.record_batch(evaluations=series(model, values)[:45], by="a", judge=True)
    metrics.record_batch(evaluations=series(model, values)[45:], by="a")
    again = metrics.record(evaluation=series(model, values)[3], by="a")
    assert (again.status, again.drift_detected) == ("unchanged", True)
    assert Alert.objects.unresolved().count() == 1


def wrong_days(model: ModelVersion) -> list[tuple[float | None, float | None]]:
    found = ModelPerformanceMetric.objects.filter(model=model, drift_detected=True)
    return list(found.values_list("drift_score", "drift_threshold"))


def test_a_replay_takes_back_what_no_longer_is_wrong_however_many_there_are(
    model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ModelVersionFactory.create(is_active=True)
    for one in (model, other):
        sent = series(one, noisy(1, 60, fall_at=45))
        metrics.record_batch(evaluations=sent, by="a", judge=True)
    n_wrong = len(wrong_days(other))
    assert n_wrong > 5
    monkeypatch.setattr("modelperf.services.drift_store.EACH_UP_TO", 20)
    policies.set_policy(
        model_type="baseline", machine=model.machine, values={"min_effect": 5.0}, by="a"
    )
    drift.check(model=model, by="a")
    assert wrong_days(model) == []
    assert not LatestModelPerformance.objects.get(model_id=model.pk).drift_detected
    assert len(wrong_days(other)) == n_wrong


def test_what_can_no_longer_be_judged_is_wrong_no_more(model: ModelVersion) -> None:
    values = {"directions": {"own": "loss"}}
    policies.set_policy(model_type="baseline", values=values, by="a")
    sent = series(model, noisy(1, 60, fall_at=45), metric="own")
    metrics.record_batch(evaluations=sent, by="a", judge=True)
    assert wrong_days(model)
    policies.set_policy(model_type="baseline", values={"directions": None}, by="a")
    drift.check(model=model, by="a")
    assert wrong_days(model) == []


def test_a_check_says_that_evaluations_stopped(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 40)), by="a")
    checked = drift.check(model=model, by="a")
    assert (checked.is_stale, checked.recommendation) == (
        False,
        "No change found. Keep the model.",
    )
    day = {"expected_cadence_seconds": 86_400}
    policies.set_policy(model_type="baseline", values=day, by="a")
    checked = drift.check(model=model, by="a")
    assert (checked.is_stale, checked.status) == (True, "stable")
    assert checked.recommendation == (
        "Evaluations stopped after 2026-02-10: find out why. Until then no change was found."
    )
    fallen = ModelVersionFactory.create(is_active=True)
    metrics.record_batch(evaluations=series(fallen, noisy(1, 60, fall_at=45)), by="a")
    says = drift.check(model=fallen, by="a").recommendation
    assert says.startswith("Worse since 2026-02-15")
    assert says.endswith("Evaluations stopped after 2026-03-02: find out why.")
    challenger = ModelVersionFactory.create(machine=model.machine)
    metrics.record_batch(evaluations=series(challenger, noisy(1, 40)), by="a")
    assert not drift.check(model=challenger, by="a").is_stale


@pytest.mark.parametrize(
    ("unit", "value", "limit"), [(1.0, "2.50", "2"), (1e6, "2,500,000", "2,000,000")]
)
def test_a_limit_is_named_with_its_metric_and_value(
    model: ModelVersion, unit: float, value: str, limit: str
) -> None:
    set_to = {"primary_metric": "mae", "limit_value": 2.0 * unit}
    policies.set_policy(model_type="baseline", values=set_to, by="a")
    for sent in series(model, [unit, 2.5 * unit, 2.5 * unit, 2.5 * unit]):
        last = metrics.record(evaluation=sent, by="a")
    said = f"MAE {value} crosses its limit {limit}: investigate, then retrain."
    assert last.recommendation == said


def test_windows_that_are_not_judged_yet_are_in_no_mean(model: ModelVersion) -> None:
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    values = noisy(1, 40)
    for days_ago, value in zip(range(40, 0, -1), values, strict=True):
        start = today - timedelta(days=days_ago)
        sent = evaluation(
            model,
            evaluation_start=start,
            evaluation_end=start + timedelta(days=1),
            metrics={"mae": value if days_ago > 5 else 50.0},
        )
        metrics.record(evaluation=sent, by="a")
    policies.set_policy(model_type="baseline", values={"label_delay_seconds": 86_400 * 5}, by="a")
    checked = drift.check(model=model, by="a")
    assert checked.status == "stable"
    assert checked.current_performance["mae"] == values[34]
    assert checked.baseline_performance["mae"] == pytest.approx(sum(values[:34]) / 34)
