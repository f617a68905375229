"""The schema against the contract, recomputed independently from PostgreSQL's own catalogue."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from modelperf.models import (
    ABTest,
    Alert,
    Machine,
    ModelPerformanceMetric,
    ModelVersion,
    TrainingRun,
)
from modelperf.services import metrics, registry
from tests.factories import (
    ABTestFactory,
    AlertFactory,
    MachineFactory,
    ModelPerformanceMetricFactory,
    ModelVersionFactory,
    TrainingRunFactory,
)
from tests.services.builders import evaluation

pytestmark = pytest.mark.django_db

TABLES = {
    "machines": "id name type location is_active data_interval_seconds created_at metadata",
    "model_versions": "id machine_id model_type model_version is_active trained_at artefact"
    " feature_names hyperparameters created_at metadata",
    "model_performance_metrics": "id model_id model_type machine_id model_version evaluation_date"
    " evaluation_start evaluation_end sample_count metrics r_squared rmse mae mape precision_score"
    " recall_score f1_score true_positives false_positives true_negatives false_negatives"
    " drift_detected drift_score drift_threshold data_completeness outlier_percentage"
    " evaluation_notes created_by created_at metadata",
    "model_training_history": "id model_id model_type machine_id model_version training_start"
    " training_end training_duration_seconds training_status training_data_start training_data_end"
    " training_samples hyperparameters feature_names training_metrics validation_metrics"
    " initial_r_squared initial_rmse initial_mae error_message error_traceback trigger_type"
    " triggered_by created_at metadata",
    "model_ab_tests": "id test_name model_type machine_id model_a_id model_a_version model_b_id"
    " model_b_version test_start test_end test_status traffic_split_a traffic_split_b"
    " model_a_metrics model_b_metrics winner_model_id winner_declared_at statistical_significance"
    " confidence_level decision decision_notes decided_by decided_at created_by created_at"
    " metadata",
    "model_alerts": "id alert_type condition_key state occurrences severity model_id model_type"
    " machine_id model_version alert_timestamp alert_message alert_details current_metric_value"
    " threshold_value baseline_metric_value is_resolved resolved_at resolution_action resolved_by"
    " resolution_notes auto_action_taken auto_action_type auto_action_result created_at metadata"
    " revision peak_metric_value last_seen_at seen_through told_through acknowledged_at"
    " acknowledged_by snoozed_until snoozed_until_count snoozed_until_worse snoozed_peak"
    " reopened_at reopened_by assignee_id team_id",
    "v_latest_model_performance": "machine_name machine_type model_id drift_score created_at",
    "v_active_ab_tests": "machine_name test_duration_hours test_name winner_model_id",
    "v_unresolved_model_alerts": "machine_name machine_type age_hours alert_message severity"
    " occurrences peak_metric_value last_seen_at snoozed_until assignee team",
}


def query(sql: str, params: Any = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def columns(table: str) -> dict[str, str]:
    return dict(
        query(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s",
            [table],
        )
    )


@pytest.mark.parametrize("table", TABLES)
def test_contract_columns_are_there(table: str) -> None:
    assert not set(TABLES[table].split()) - columns(table).keys()


def test_no_number_can_be_clipped() -> None:
    assert not [
        (table, name)
        for table in TABLES
        for name, kind in columns(table).items()
        if kind in ("numeric", "real")
    ]


@pytest.mark.parametrize("model", list(apps.get_app_config("modelperf").get_models()))
def test_model_fields_are_the_columns_of_their_table_or_view(model: Any) -> None:
    expected = {field.column for field in model._meta.concrete_fields if field.column}
    assert expected == set(columns(model._meta.db_table))


def test_migrations_hold_every_model_change() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("table", ["model_performance_metrics", "model_metric_revisions"])
def test_machine_is_in_every_key_of_the_large_tables(table: str) -> None:
    keys = query(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype IN ('p', 'u')"
        " UNION SELECT indexdef FROM pg_indexes"
        " WHERE tablename = %s AND indexdef LIKE '%%UNIQUE%%'",
        [table, table],
    )
    assert keys
    assert all("machine_id" in definition for (definition,) in keys)


def test_schema_works_hash_partitioned_by_machine() -> None:
    """Rebuild the large tables as a cluster would hold them, and record through them."""
    for table in ("model_metric_revisions", "model_performance_metrics"):
        query_nothing(f"ALTER TABLE {table} RENAME TO plain_{table}")
        query_nothing(
            f"CREATE TABLE {table} (LIKE plain_{table} INCLUDING ALL)"
            " PARTITION BY HASH (machine_id)"
        )
        for part in range(4):
            query_nothing(
                f"CREATE TABLE {table}_{part} PARTITION OF {table}"
                f" FOR VALUES WITH (MODULUS 4, REMAINDER {part})"
            )
    for source, definition in query(
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND conrelid::regclass::text LIKE 'plain_%%'"
    ):
        target = source.removeprefix("plain_")
        query_nothing(f"ALTER TABLE {target} ADD {definition.replace('plain_', '')}")
    models = [ModelVersionFactory.create(is_active=True) for _ in range(8)]
    sent = [evaluation(model, day) for model in models for day in range(3)]
    for _ in range(2):
        stored = metrics.record_batch(evaluations=sent, by="a")
    assert {one.status for one in stored} == {"unchanged"}
    revised = metrics.record(evaluation=evaluation(models[0], metrics={"mae": 3.0}), by="a")
    assert revised.status == "revised"
    parts = query("SELECT DISTINCT tableoid::regclass::text FROM model_performance_metrics")
    assert len(parts) > 1
    assert newest_by_distinct_on() == latest()


def query_nothing(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


LATEST_COLUMNS = (
    "id, model_id, model_type, machine_id, model_version, evaluation_date, evaluation_start,"
    " evaluation_end, sample_count, metrics::text, r_squared, rmse, mae, mape, drift_detected,"
    " drift_score, drift_threshold, data_completeness, created_by, revision, created_at"
)


def newest_by_distinct_on() -> list[tuple[Any, ...]]:
    return query(
        f"""
        SELECT {LATEST_COLUMNS} FROM (
            SELECT DISTINCT ON (e.machine_id, e.model_type) e.*
            FROM model_performance_metrics e JOIN model_versions v ON v.id = e.model_id
            ORDER BY e.machine_id, e.model_type, e.evaluation_end DESC, e.evaluation_start DESC,
                v.is_active DESC, e.model_version DESC, e.id DESC
        ) AS newest ORDER BY machine_id, model_type
        """
    )


def latest() -> list[tuple[Any, ...]]:
    return query(
        f"SELECT {LATEST_COLUMNS} FROM v_latest_model_performance ORDER BY machine_id, model_type"
    )


@pytest.mark.parametrize("seed", range(20))
def test_latest_view_equals_distinct_on_after_anything(seed: int) -> None:
    rng = random.Random(seed)
    versions = [ModelVersionFactory.create(is_active=True) for _ in range(3)]
    versions += [ModelVersionFactory.create(machine=model.machine) for model in versions]
    for _ in range(40):
        sent = [
            evaluation(rng.choice(versions), rng.randrange(6), metrics={"mae": rng.random()})
            for _ in range(rng.choice([1, 1, 4, 12]))
        ]
        match rng.randrange(6):
            case 0 | 1:
                metrics.record(evaluation=sent[0], by="a")
            case 2 | 3:
                metrics.record_batch(evaluations=sent, by="a", judge=rng.random() < 0.5)
            case 4:
                stored = list(ModelPerformanceMetric.objects.order_by("id"))
                doomed = rng.sample(stored, min(len(stored), rng.randrange(1, 5)))
                metrics.delete(metrics=doomed, by="a")
            case 5:
                registry.activate_model(model=rng.choice(versions), by="a")
        assert latest() == newest_by_distinct_on()


def test_an_evaluation_of_another_series_is_refused_by_the_database() -> None:
    metric = ModelPerformanceMetricFactory.create()
    stranger = MachineFactory.create()
    with pytest.raises(IntegrityError, match="model_performance_metrics_model"):
        ModelPerformanceMetric.objects.filter(pk=metric.pk).update(machine=stranger)


NOW = timezone.now()
BROKEN: list[tuple[Any, dict[str, Any]]] = [
    (MachineFactory, {"name": ""}),
    (MachineFactory, {"data_interval_seconds": 0}),
    (ModelVersionFactory, {"model_version": 0}),
    (ModelVersionFactory, {"model_type": "a b"}),
    (ModelPerformanceMetricFactory, {"sample_count": -1}),
    (ModelPerformanceMetricFactory, {"data_completeness": 1.5}),
    (ModelPerformanceMetricFactory, {"evaluation_end": NOW - timedelta(days=9999)}),
    (TrainingRunFactory, {"training_status": "done"}),
    (TrainingRunFactory, {"trigger_type": "whim"}),
    (TrainingRunFactory, {"training_status": "failed", "training_end": NOW}),
    (TrainingRunFactory, {"training_status": "running", "training_end": NOW}),
    (TrainingRunFactory, {"training_data_end": NOW - timedelta(days=9999)}),
    (ABTestFactory, {"test_status": "paused"}),
    (ABTestFactory, {"decision": "coin", "decided_by": "a", "decided_at": NOW}),
    (ABTestFactory, {"decision": "no_winner"}),
    (ABTestFactory, {"decided_by": "a"}),
    (ABTestFactory, {"winner_declared_at": NOW}),
    (ABTestFactory, {"traffic_split_a": 0.7}),
    (ABTestFactory, {"confidence_level": 1.0}),
    (ABTestFactory, {"test_end": NOW - timedelta(days=9999)}),
    (AlertFactory, {"severity": "fatal"}),
    (AlertFactory, {"alert_type": "mood"}),
    (AlertFactory, {"state": "resolved"}),
    (AlertFactory, {"is_resolved": True}),
    (AlertFactory, {"resolved_at": NOW}),
    (AlertFactory, {"resolved_by": "a"}),
    (AlertFactory, {"resolution_action": "fixed"}),
    (AlertFactory, {"condition_key": ""}),
    (AlertFactory, {"occurrences": 0}),
]


@pytest.mark.parametrize(
    ("factory", "values"), BROKEN, ids=[f"{f.__name__}-{'-'.join(v)}" for f, v in BROKEN]
)
def test_a_row_that_contradicts_itself_is_refused(factory: Any, values: dict[str, Any]) -> None:
    factory.create()
    with pytest.raises(IntegrityError, match="check constraint"), transaction.atomic():
        factory.create(**values)


def test_only_one_unresolved_alert_a_condition() -> None:
    first = AlertFactory.create()
    with pytest.raises(IntegrityError, match="one_unresolved"):
        AlertFactory.create(condition_key=first.condition_key)


def test_only_one_unfinished_training_and_one_running_test_a_series() -> None:
    run, test = TrainingRunFactory.create(), ABTestFactory.create()
    with pytest.raises(IntegrityError, match="one_unfinished"), transaction.atomic():
        TrainingRunFactory.create(machine=run.machine, model_type=run.model_type)
    with pytest.raises(IntegrityError, match="one_running"), transaction.atomic():
        ABTestFactory.create(machine=test.machine, model_a=test.model_a, model_b=test.model_b)
    assert (TrainingRun.objects.count(), ABTest.objects.count()) == (1, 1)


def test_only_one_active_version_a_series() -> None:
    active = ModelVersionFactory.create(is_active=True)
    with pytest.raises(IntegrityError, match="one_active"):
        ModelVersionFactory.create(machine=active.machine, is_active=True)
    assert ModelVersion.objects.active().within(frozenset()).count() == 0


def test_unresolved_view_is_sorted_by_severity_not_its_text() -> None:
    machine: Machine = MachineFactory.create()
    for severity in ("normal", "critical", "warning"):
        AlertFactory.create(severity=severity, machine=machine)
    AlertFactory.create(severity="critical", machine=None, model=None, model_version=1)
    found = query("SELECT severity, machine_name FROM v_unresolved_model_alerts")
    assert [severity for severity, _ in found] == ["critical", "critical", "warning", "normal"]
    assert [name for _, name in found].count(None) == 1
    assert Alert.objects.unresolved().count() == 4
