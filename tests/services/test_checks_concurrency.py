"""What happens to series while a check of the fleet looks at them."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from modelperf.models import Alert, CheckRun, DriftState, ModelPerformanceMetric, ModelVersion
from modelperf.models.registry import Series
from modelperf.services import alerts, checks, drift, metrics, registry
from modelperf.services.checks import Report
from modelperf.services.errors import ConflictError
from tests.factories import ModelVersionFactory
from tests.services.builders import evaluation, noisy, series
from tests.services.concurrency import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def models() -> list[ModelVersion]:
    """Return three models with 40 evaluations that nobody has judged yet."""
    models = ModelVersionFactory.create_batch(3, is_active=True)
    for seed, model in enumerate(models):
        metrics.record_batch(evaluations=series(model, noisy(seed, 40)), by="a")
    return models


def elsewhere(work: Callable[[], Any]) -> Any:
    """Do something on another connection, and wait until it is stored."""

    def do() -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(do).result(timeout=60)


def check_while(work: Callable[[], Any], **scope: Any) -> Report:
    """Check the fleet; the work is done when everything is read and half of it judged."""
    done: list[Any] = []

    def progress(n_judged: int, _n: int) -> None:
        if n_judged == 2:
            done.append(elsewhere(work))

    report = checks.run(by="a", progress=progress, **scope)
    assert len(done) == 1
    return report


def record(model: ModelVersion, day: int, value: float = 1.0) -> Callable[[], Any]:
    sent = evaluation(model, day, metrics={"mae": value})
    return lambda: metrics.record(evaluation=sent, by="a")


def states() -> dict[Any, Any]:
    """Return what is known of every version, without when it was judged."""
    return {
        one.pk: (one.metric, one.verdict, one.fold, one.last_evaluation_end, one.is_stale)
        for one in DriftState.objects.all()
    }


def settled() -> dict[Any, Any]:
    """Check once more, and return what is known: what a check in peace comes to as well."""
    checks.run(by="a")
    found = states()
    DriftState.objects.all().delete()
    checks.run(by="a")
    assert states() == found
    assert not Series.objects.filter(check_id__isnull=False).exists()
    return found


def fourth_deleted(model: ModelVersion) -> None:
    fourth = ModelPerformanceMetric.objects.filter(model=model).order_by("evaluation_end")[3]
    metrics.delete(metrics=[fourth], by="a")


@pytest.mark.parametrize(
    ("change", "n_evaluations"),
    [
        (lambda model: record(model, 40)(), 41),
        (lambda model: metrics.record_batch(evaluations=[evaluation(model, 40)], by="a"), 41),
        (lambda model: record(model, -1)(), 41),
        (lambda model: record(model, 20, 1.4)(), 40),
        (fourth_deleted, 39),
        (lambda model: drift.check(model=model, by="a"), 40),
    ],
    ids=["newer", "batch", "late", "corrected", "deleted", "checked"],
)
def test_what_changes_meanwhile_is_left_to_the_next_check(
    models: list[ModelVersion], change: Callable[[ModelVersion], Any], n_evaluations: int
) -> None:
    report = check_while(lambda: change(models[1]))
    assert (report.n_skipped, report.n_judged) == (1, 2)
    assert {look.model_id for look in report.looks} == {models[0].pk, models[2].pk}
    assert CheckRun.objects.get().n_skipped == 1
    assert set(DriftState.objects.values_list("model_id", flat=True)) >= {
        models[0].pk,
        models[2].pk,
    }
    found = settled()
    assert found[models[1].pk][1]["n_evaluations"] == n_evaluations
    assert ModelPerformanceMetric.objects.count() == 80 + n_evaluations


def test_what_is_recorded_meanwhile_is_judged_with_the_rest(models: list[ModelVersion]) -> None:
    def record_all() -> None:
        for model in models:
            record(model, 40, 30.0)()
            record(model, 41, 31.0)()

    report = check_while(record_all)
    assert report.n_skipped == 3
    assert not report.looks
    assert Alert.objects.unresolved().filter(machine__isnull=False).count() == 3
    assert {found[1]["status"] for found in settled().values()} == {"degraded"}


def test_a_version_activated_meanwhile_is_judged_as_what_it_is(models: list[ModelVersion]) -> None:
    challenger = ModelVersionFactory.create(machine=models[1].machine)
    metrics.record_batch(evaluations=series(challenger, noisy(7, 60, fall_at=45)), by="a")
    report = check_while(lambda: registry.activate_model(model=challenger, by="a"))
    assert report.n_skipped == 2
    assert not report.summary["opened"]  # activating it has judged it and opened its alert
    settled()
    assert Alert.objects.unresolved().get().model_id == challenger.pk


def test_an_alert_resolved_meanwhile_stays_resolved(models: list[ModelVersion]) -> None:
    metrics.record_batch(evaluations=series(models[1], noisy(1, 60, fall_at=45)), by="a")
    checks.run(by="a")
    alert = Alert.objects.get()
    metrics.record_batch(
        evaluations=series(models[1], [*noisy(1, 60, fall_at=45), 1.5, 1.6])[60:], by="a"
    )
    check_while(lambda: alerts.resolve(alert=alert, by="user:ada", action="accepted"))
    alert.refresh_from_db()
    assert (alert.is_resolved, alert.resolved_by) == (True, "user:ada")
    settled()
    assert not Alert.objects.unresolved().exists()


def test_only_one_check_runs_at_a_time(models: list[ModelVersion]) -> None:
    refused: list[Exception] = []

    def check_too() -> None:
        with pytest.raises(ConflictError, match="Another check is running") as caught:
            checks.run(by="b")
        refused.append(caught.value)

    report = check_while(check_too)
    assert len(refused) == 1
    assert (report.n_judged, report.n_skipped) == (3, 0)
    assert CheckRun.objects.get().started_by == "a"


def test_a_check_that_failed_leaves_the_next_one_free(models: list[ModelVersion]) -> None:
    class BrokenError(Exception):
        """Whatever may happen while judging."""

    def progress(_n_judged: int, _n: int) -> None:
        raise BrokenError

    with pytest.raises(BrokenError):
        checks.run(by="a", progress=progress)
    assert not DriftState.objects.exists()
    assert not CheckRun.objects.exists()
    assert elsewhere(lambda: checks.run(by="b").n_judged) == 3
    assert not Series.objects.filter(check_id__isnull=False).exists()


def test_nothing_acknowledged_is_lost_between_checks_and_records() -> None:
    models = ModelVersionFactory.create_batch(4, is_active=True)
    sent = [
        one
        for seed, model in enumerate(models)
        for one in series(model, noisy(seed, 44, fall_at=34 if seed == 1 else None))
    ]

    def work(number: int) -> int:
        if number < 2:
            for _ in range(8):
                try:
                    checks.run(by=f"check {number}")
                except ConflictError:
                    continue
            return 0
        mine = sent[number - 2 :: 3]
        random.Random(number).shuffle(mine)
        for one in mine:
            metrics.record(evaluation=one, by="a")
        return len(mine)

    acknowledged = at_once(5, work)
    assert [one for one in acknowledged if isinstance(one, Exception)] == []
    assert sum(acknowledged) == ModelPerformanceMetric.objects.count() == 4 * 44
    found = settled()
    assert {pk: found[pk][1]["status"] for pk in found} == {
        model.pk: "degraded" if model == models[1] else "stable" for model in models
    }
    assert Alert.objects.unresolved().get().model_id == models[1].pk


def test_a_check_in_between_changes_no_outcome() -> None:
    histories = [
        noisy(1, 60, fall_at=45),
        noisy(2, 60),
        [*noisy(3, 45), 30.0, 31.0, *noisy(4, 13)],
        [*noisy(5, 50, fall_at=36), *noisy(6, 30)],
    ]
    one_by_one = ModelVersionFactory.create_batch(len(histories), is_active=True)
    rng = random.Random(7)
    sent = [one for pair in zip(one_by_one, histories, strict=True) for one in series(*pair)]
    rng.shuffle(sent)
    for number, one in enumerate(sent):
        metrics.record(evaluation=one, by="a")
        if number % 40 == 0:
            checks.run(by="a")
    checks.run(by="a")
    single = outcome(one_by_one)
    Alert.objects.all().delete()
    for model in one_by_one:
        registry.retire_machine(machine=model.machine, by="a")
    at_once_models = ModelVersionFactory.create_batch(len(histories), is_active=True)
    for model, values in zip(at_once_models, histories, strict=True):
        metrics.record_batch(evaluations=series(model, values), by="a")
    checks.run(by="a")
    assert outcome(at_once_models) == single
    assert [status for status, _, _ in single] == ["degraded", "stable", "stable", "stable"]


def outcome(models: list[ModelVersion]) -> list[tuple[str, Any, list[Any]]]:
    """Return status, verdict with fold, and unresolved alerts of each version."""
    by_model = {state.model_id: state for state in DriftState.objects.filter(model__in=models)}
    return [
        (
            by_model[model.pk].status,
            (by_model[model.pk].verdict, by_model[model.pk].fold),
            list(
                Alert.objects.unresolved()
                .filter(machine=model.machine)
                .values_list("alert_type", "severity", "occurrences", "alert_details")
            ),
        )
        for model in models
    ]


def test_a_machine_retired_meanwhile_is_not_alerted(models: list[ModelVersion]) -> None:
    metrics.record_batch(evaluations=series(models[1], noisy(1, 60, fall_at=45)), by="a")
    report = check_while(lambda: registry.retire_machine(machine=models[1].machine, by="a"))
    assert report.n_skipped == 1
    assert not Alert.objects.exists()
    checks.run(by="a")
    assert not Alert.objects.exists()
    registry.return_machine(machine=models[1].machine, by="a")
    checks.run(by="a")
    assert Alert.objects.unresolved().get().model_id == models[1].pk
