"""Recording: one evaluation and many, repeated, corrected, late; verdicts, latest rows, alerts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from modelperf.models import (
    Alert,
    DriftState,
    LatestModelPerformance,
    MetricRevision,
    ModelPerformanceMetric,
    ModelVersion,
)
from modelperf.services import drift, metrics, trend
from modelperf.services.errors import InvalidError, NotFoundError
from tests.factories import MachineFactory, ModelVersionFactory
from tests.services.builders import evaluation, noisy, series

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> ModelVersion:
    return ModelVersionFactory.create(is_active=True)


def test_record_of_a_new_window_stores_every_metric(model: ModelVersion) -> None:
    sent = {"mae": 0.5, "r_squared": -12.0, "mape": 100_000.0, "nmbe": -3.25}
    recorded = metrics.record(evaluation=evaluation(model, metrics=sent), by="key:x")
    row = ModelPerformanceMetric.objects.get()
    assert recorded.status == "created"
    assert (recorded.metric_id, recorded.revision) == (row.id, 1)
    assert row.metrics == sent
    assert (row.mae, row.r_squared, row.mape, row.rmse) == (0.5, -12.0, 100_000.0, None)
    assert (row.created_by, row.model_version, row.sample_count) == ("key:x", 1, 24)
    assert row.evaluation_date == row.evaluation_end


def test_record_of_the_same_evaluation_again_stores_nothing(model: ModelVersion) -> None:
    first = metrics.record(evaluation=evaluation(model), by="a")
    again = metrics.record(evaluation=evaluation(model), by="b")
    assert (again.status, again.metric_id, again.revision) == ("unchanged", first.metric_id, 1)
    assert ModelPerformanceMetric.objects.get().created_by == "a"
    assert not MetricRevision.objects.exists()


def test_record_of_other_values_is_a_revision_that_keeps_the_old_ones(model: ModelVersion) -> None:
    first = metrics.record(evaluation=evaluation(model), by="a")
    other = metrics.record(evaluation=evaluation(model, metrics={"mae": 2.0}), by="b")
    assert (other.status, other.metric_id, other.revision) == ("revised", first.metric_id, 2)
    row, old = ModelPerformanceMetric.objects.get(), MetricRevision.objects.get()
    assert (row.mae, row.metrics, row.revision) == (2.0, {"mae": 2.0}, 2)
    assert (old.metric_id, old.revision, old.replaced_by) == (row.id, 1, "b")
    assert (old.values["mae"], old.values["metrics"]) == (1.0, {"mae": 1.0})
    assert LatestModelPerformance.objects.get().mae == 2.0


@pytest.mark.parametrize("order", [range(60), range(59, -1, -1), [*range(30, 60), *range(30)]])
def test_record_in_any_order_ends_in_the_same_verdict(model: ModelVersion, order: Any) -> None:
    sent = series(model, noisy(1, 60, fall_at=45))
    for day in order:
        last = metrics.record(evaluation=sent[day], by="a")
    state = DriftState.objects.get()
    assert state.status == "degraded"
    assert last.verdict == state.verdict
    assert state.verdict["changed_at"] == "2026-02-15T00:00:00Z"
    alert = Alert.objects.unresolved().get()
    assert (alert.alert_type, alert.occurrences, alert.severity) == (
        "drift_detected",
        15,
        "critical",
    )
    latest = LatestModelPerformance.objects.get()
    assert latest.evaluation_end == sent[59].evaluation_end
    assert (latest.drift_detected, latest.drift_score) == (True, state.verdict["statistic"])


def test_record_step_by_step_equals_batch_and_judge(model: ModelVersion) -> None:
    twin = ModelVersionFactory.create(is_active=True)
    values = noisy(2, 120, fall_at=90)
    for sent in series(model, values):
        metrics.record(evaluation=sent, by="a")
    answers = metrics.record_batch(evaluations=series(twin, values), by="a", judge=True)
    assert answers[-1].verdict == DriftState.objects.get(model=twin).verdict
    one, other = DriftState.objects.get(model=model), DriftState.objects.get(model=twin)
    assert (one.verdict, one.fold) == (other.verdict, other.fold)


def test_record_of_a_recovery_resolves_the_alert(model: ModelVersion) -> None:
    values = noisy(3, 60, fall_at=45) + noisy(4, 25)
    for sent in series(model, values):
        metrics.record(evaluation=sent, by="a")
    alert = Alert.objects.get()
    assert (alert.state, alert.resolution_action, alert.resolved_by) == (
        "resolved",
        "recovered",
        "system",
    )


def test_record_of_a_challenger_never_alerts(model: ModelVersion) -> None:
    challenger = ModelVersionFactory.create(machine=model.machine)
    for sent in series(challenger, noisy(1, 60, fall_at=45)):
        last = metrics.record(evaluation=sent, by="a")
    assert last.drift_detected
    assert not Alert.objects.exists()


def test_record_of_an_improvement_is_no_drift(model: ModelVersion) -> None:
    for sent in series(model, [1 / value for value in noisy(1, 60, fall_at=45)]):
        last = metrics.record(evaluation=sent, by="a")
    assert last.verdict is not None
    assert (last.verdict["status"], last.drift_detected) == ("improved", False)
    assert not Alert.objects.exists()


def test_record_of_an_unknown_model_or_machine_is_not_found(model: ModelVersion) -> None:
    stranger = ModelVersionFactory.build(machine=model.machine)
    with pytest.raises(NotFoundError, match="Model not found"):
        metrics.record(evaluation=evaluation(stranger), by="a")
    nowhere = MachineFactory.build()
    with pytest.raises(NotFoundError, match="Machine not found"):
        metrics.record(evaluation=evaluation(model, machine_id=nowhere.pk), by="a")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"metrics": {}}, "metrics"),
        ({"metrics": {"mae": float("nan")}}, "mae"),
        ({"metrics": {"mae": float("inf")}}, "mae"),
        ({"metrics": {"mae": -1.0}}, "mae"),
        ({"metrics": {"mae": 1.1e100}}, "mae"),
        ({"metrics": {"oddity": -1.1e100}}, "oddity"),
        ({"metrics": {"r_squared": 1.5}}, "r_squared"),
        ({"metrics": {"f1_score": 1.5}}, "f1_score"),
        ({"metrics": {"": 1.0}}, "metrics"),
        ({"sample_count": -1}, "sample_count"),
        ({"sample_count": 2**63}, "sample_count"),
        ({"true_positives": -1}, "true_positives"),
        ({"outlier_percentage": 101.0}, "outlier_percentage"),
        ({"evaluation_notes": "\x00"}, "evaluation_notes"),
        ({"metadata": {"a": "\x00"}}, "metadata"),
        ({"model_type": "anomaly"}, "model_type"),
    ],
)
def test_record_of_a_wrong_value_names_it(
    model: ModelVersion, values: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        metrics.record(evaluation=evaluation(model, **values), by="a")
    assert name in caught.value.errors[0].loc
    assert not ModelPerformanceMetric.objects.exists()


def test_record_of_a_window_that_ends_before_it_starts_is_refused(model: ModelVersion) -> None:
    sent = evaluation(model)
    sent.evaluation_end = sent.evaluation_start - timedelta(hours=1)
    with pytest.raises(InvalidError, match="must be after"):
        metrics.record(evaluation=sent, by="a")


def test_record_batch_answers_in_order_and_counts_completeness(model: ModelVersion) -> None:
    model.machine.data_interval_seconds = 1800
    model.machine.save()
    sent = series(model, [1.0, 2.0, 3.0])
    stored = metrics.record_batch(evaluations=[sent[2], sent[0], sent[1]], by="a")
    rows = ModelPerformanceMetric.objects.in_bulk([one.metric_id for one in stored])
    assert [rows[one.metric_id].mae for one in stored] == [3.0, 1.0, 2.0]
    assert {row.data_completeness for row in rows.values()} == {0.5}
    assert not DriftState.objects.exists()


def test_record_batch_with_known_new_and_corrected_rows(model: ModelVersion) -> None:
    sent = series(model, [1.0, 2.0, 3.0, 4.0])
    metrics.record_batch(evaluations=sent[:2], by="a")
    corrected = evaluation(model, 1, metrics={"mae": 2.5})
    stored = metrics.record_batch(
        evaluations=[sent[0], corrected, sent[2], corrected, sent[1]], by="b"
    )
    assert [one.status for one in stored] == [
        "unchanged",
        "revised",
        "created",
        "unchanged",
        "revised",
    ]
    assert stored[1].metric_id == stored[4].metric_id
    assert list(MetricRevision.objects.values_list("revision", flat=True)) == [1, 2]
    assert ModelPerformanceMetric.objects.get(pk=stored[1].metric_id).mae == 2.0


def test_record_batch_with_one_wrong_row_stores_nothing(model: ModelVersion) -> None:
    sent = series(model, [1.0, 2.0, 3.0])
    sent[1].metrics = {"mae": float("nan")}
    sent[2].model_id = model.machine_id
    with pytest.raises(InvalidError) as caught:
        metrics.record_batch(evaluations=sent, by="a")
    assert [error.loc for error in caught.value.errors] == [
        ("body", 1, "metrics", "mae"),
        ("body", 2, "model_id"),
    ]
    assert not ModelPerformanceMetric.objects.exists()


@pytest.mark.parametrize("size", [0, 5001])
def test_record_batch_of_a_wrong_size_is_refused(model: ModelVersion, size: int) -> None:
    with pytest.raises(InvalidError, match="1 to 5000"):
        metrics.record_batch(evaluations=[evaluation(model)] * size, by="a")


def test_record_batch_beyond_a_keys_machines_is_refused(model: ModelVersion) -> None:
    other = frozenset([MachineFactory.create().pk])
    with pytest.raises(InvalidError, match="cannot be recorded"):
        metrics.record_batch(evaluations=[evaluation(model)], by="a", machine_ids=other)
    with pytest.raises(NotFoundError):
        metrics.record(evaluation=evaluation(model), by="a", machine_ids=other)


def test_record_after_an_unjudged_batch_judges_all_of_it(model: ModelVersion) -> None:
    sent = series(model, noisy(1, 60, fall_at=45))
    metrics.record_batch(evaluations=sent[:59], by="a")
    last = metrics.record(evaluation=sent[59], by="a")
    assert last.verdict is not None
    assert last.verdict["n_evaluations"] == 60


def test_delete_forgets_the_evaluation_everywhere(model: ModelVersion) -> None:
    sent = series(model, noisy(1, 60, fall_at=45))
    metrics.record_batch(evaluations=sent, by="a", judge=True)
    newest = ModelPerformanceMetric.objects.order_by("-evaluation_end")
    assert metrics.delete(metrics=newest[:20], by="a") == 20
    assert LatestModelPerformance.objects.get().evaluation_end == sent[39].evaluation_end
    assert DriftState.objects.get().status == "stable"
    assert not Alert.objects.unresolved().exists()
    metrics.delete(metrics=ModelPerformanceMetric.objects.all(), by="a")
    assert not LatestModelPerformance.objects.exists()
    assert not DriftState.objects.exists()


def test_refresh_latest_follows_the_active_version(model: ModelVersion) -> None:
    challenger = ModelVersionFactory.create(machine=model.machine)
    for version in (challenger, model):
        metrics.record(evaluation=evaluation(version), by="a")
    assert LatestModelPerformance.objects.get().model_version == 1
    ModelVersion.objects.filter(pk=model.pk).update(is_active=False)
    metrics.refresh_latest([(model.machine_id, model.model_type)])
    assert LatestModelPerformance.objects.get().model_version == 2


def test_record_runs_a_bounded_number_of_statements(
    model: ModelVersion, django_assert_num_queries: Any
) -> None:
    sent = series(model, noisy(1, 40))
    for one in sent[:38]:
        metrics.record(evaluation=one, by="a")
    # SAVEPOINT, lock, position with history, insert with latest and state, RELEASE
    with django_assert_num_queries(5, connection=connection):
        metrics.record(evaluation=sent[38], by="a")


def test_the_largest_legal_values_are_judged_and_checked(model: ModelVersion) -> None:
    for sent in series(model, [1e100, 0.0, *[1e100] * 43]):
        last = metrics.record(evaluation=sent, by="a")
    assert last.verdict is not None
    checked = drift.check(model=model, by="a")
    assert checked.verdict == last.verdict
    report = trend.trend(machine=model.machine, model_type="baseline", days=3660)
    assert report.trend_direction in {"stable", "improving", "degrading"}


def test_a_batch_of_new_evaluations_goes_straight_into_the_table(model: ModelVersion) -> None:
    with CaptureQueriesContext(connection) as captured:
        metrics.record_batch(evaluations=series(model, noisy(1, 5)), by="a")
    assert not [query for query in captured if "incoming_metrics" in query["sql"]]


def test_a_repeated_evaluation_is_not_judged_again(model: ModelVersion) -> None:
    for sent in series(model, noisy(1, 5)):
        metrics.record(evaluation=sent, by="a")
    before = DriftState.objects.get().judged_at
    metrics.record(evaluation=series(model, noisy(1, 5))[2], by="a")
    assert DriftState.objects.get().judged_at == before


def test_rows_are_told_alike_one_by_one_and_at_once(model: ModelVersion) -> None:
    other = ModelVersionFactory.create(is_active=True)
    for one, judge in ((model, False), (other, True)):
        sent = series(one, noisy(1, 60, fall_at=45))
        for day in (35, 58):
            sent[day] = evaluation(one, day, metrics={"mape": 1.0})
        if judge:
            metrics.record_batch(evaluations=sent, by="a", judge=True)
        else:
            for each in sent:
                metrics.record(evaluation=each, by="a")
    columns = "drift_detected", "drift_score", "drift_threshold"
    by_model = [
        list(
            ModelPerformanceMetric.objects.filter(model=one)
            .order_by("evaluation_end")
            .values_list(*columns)
        )
        for one in (model, other)
    ]
    assert by_model[0] == by_model[1]
    assert by_model[0][35] == (False, None, 3.9)
