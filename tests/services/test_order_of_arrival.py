"""However evaluations arrive, the same verdicts, unresolved alerts and latest rows result."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction

from modelperf.models import (
    Alert,
    DriftState,
    LatestModelPerformance,
    ModelPerformanceMetric,
    ModelVersion,
)
from modelperf.services import drift, metrics, policies
from modelperf.services.metrics import Evaluation
from tests.factories import ModelVersionFactory
from tests.services.builders import evaluation, noisy, series

pytestmark = pytest.mark.django_db

SHUFFLES = 1_000
SUCCESSION_SHUFFLES = 250
AT_A_TIME = 125  # so that the machine's cores share them


class RollbackError(Exception):
    """Ends a shuffle's transaction, so that the next one starts from the registry alone."""


@pytest.fixture
def models() -> list[ModelVersion]:
    """Return a series that degrades, one that recovers, a short one that collapses and is back
    under its limit before it has thirty evaluations, and a challenger.
    """
    policies.set_policy(
        model_type="baseline", values={"primary_metric": "mae", "limit_value": 5.0}, by="a"
    )
    active = [ModelVersionFactory.create(is_active=True) for _ in range(3)]
    return [*active, ModelVersionFactory.create(machine=active[0].machine)]


def histories(models: list[ModelVersion]) -> list[list[Evaluation]]:
    """Return the evaluations of each model, in order of time."""
    falls, recovers, short, challenger = models
    return [
        series(falls, noisy(1, 44, fall_at=34)),
        series(recovers, noisy(2, 42, fall_at=33)[:42] + noisy(3, 12)),
        series(short, [*noisy(4, 21), 30.0, 31.0, *noisy(6, 6)]),
        series(challenger, noisy(5, 10, level=2.0)),
    ]


def shuffled(ordered: list[Evaluation], rng: random.Random) -> list[list[Evaluation]]:
    """Return the evaluations in batches: late, some twice, some wrong first and corrected later."""
    sent = list(ordered)
    rng.shuffle(sent)
    for original in rng.sample(ordered, 5):
        wrong = Evaluation(
            **{name: getattr(original, name) for name in Evaluation.__struct_fields__}
            | {"metrics": {"mae": 9.0}}
        )
        sent.insert(rng.randrange(sent.index(original) + 1), wrong)
    for repeat in rng.sample(ordered, 8):
        sent.insert(rng.randrange(sent.index(repeat) + 1, len(sent) + 1), repeat)
    batches = []
    while sent:
        size = rng.choice([1, 30, 60])
        batches.append(sent[:size])
        sent = sent[size:]
    return batches


def outcome() -> dict[str, Any]:
    """Return what must not depend on the order: verdicts, unresolved alerts, latest rows."""
    return {
        "verdicts": {state.pk: (state.verdict, state.fold) for state in DriftState.objects.all()},
        "alerts": sorted(
            Alert.objects.unresolved().values_list(
                *("condition_key", "severity", "occurrences", "alert_message", "seen_through"),
                *("current_metric_value", "peak_metric_value", "threshold_value"),
            )
        ),
        "latest": sorted(
            LatestModelPerformance.objects.values_list(
                "machine_id", "model_id", "evaluation_end", "mae", "drift_detected", "drift_score"
            )
        ),
    }


def close(models: list[ModelVersion]) -> dict[str, Any]:
    """Check every model once and return the outcome."""
    for model in models:
        drift.check(model=model, by="a")
    return outcome()


def record(batch: list[Evaluation], rng: random.Random) -> None:
    """Record a batch, as one call, judged or not, or one evaluation alone."""
    if len(batch) == 1:
        metrics.record(evaluation=batch[0], by="a")
    else:
        metrics.record_batch(evaluations=batch, by="a", judge=rng.random() < 0.3)


@pytest.mark.parametrize("first", range(0, SHUFFLES, AT_A_TIME))
def test_a_thousand_shuffles_end_alike(models: list[ModelVersion], first: int) -> None:
    ordered = [sent for history in histories(models) for sent in history]
    with suppress(RollbackError), transaction.atomic():
        for sent in sorted(ordered, key=lambda sent: sent.evaluation_end):
            metrics.record(evaluation=sent, by="a")
        expected = close(models)
        raise RollbackError
    assert len(expected["alerts"]) == 1
    assert len(expected["latest"]) == 3
    for seed in range(first, first + AT_A_TIME):
        rng = random.Random(seed)
        with suppress(RollbackError), transaction.atomic():
            for batch in shuffled(ordered, rng):
                record(batch, rng)
            assert close(models) == expected, f"seed {seed}"
            raise RollbackError


@pytest.fixture
def versions() -> list[ModelVersion]:
    """Return three versions of one series, the second in service."""
    first = ModelVersionFactory.create()
    return [
        first,
        ModelVersionFactory.create(machine=first.machine, is_active=True),
        ModelVersionFactory.create(machine=first.machine),
    ]


def succession(versions: list[ModelVersion]) -> list[Evaluation]:
    """Return what each version showed: the second falls before it has thirty evaluations, the
    first goes on beside it, the third is short.
    """
    return [
        *days(versions[0], 0, noisy(1, 26)),
        *days(versions[1], 20, noisy(2, 20, fall_at=13)),
        *days(versions[2], 38, noisy(3, 12)),
    ]


def days(model: ModelVersion, first: int, values: list[float]) -> list[Evaluation]:
    """Return one evaluation a day from a day on."""
    return [
        evaluation(model, first + at, metrics={"mae": value}) for at, value in enumerate(values)
    ]


def mistaken(versions: list[ModelVersion], rng: random.Random) -> list[Evaluation]:
    """Return evaluations that are deleted later: of wrong days, some before their version began."""
    return [
        evaluation(model, day, evaluation_start=evaluation(model, day - 1).evaluation_start)
        for model in versions[:2]
        for day in rng.sample(range(1, 38), 3)
    ]


def delete_mistakes(by_chance: float, rng: random.Random) -> None:
    """Delete each evaluation of two days with a probability."""
    metrics.delete(
        metrics=[
            metric
            for metric in ModelPerformanceMetric.objects.order_by("evaluation_end", "model_id")
            if (metric.evaluation_end - metric.evaluation_start).days == 2
            and rng.random() < by_chance
        ],
        by="a",
    )


@pytest.mark.parametrize("first", range(0, SUCCESSION_SHUFFLES, AT_A_TIME))
def test_the_noise_of_the_version_before_leaves_no_trace_of_its_arrival(
    versions: list[ModelVersion], first: int
) -> None:
    ordered = succession(versions)
    with suppress(RollbackError), transaction.atomic():
        for sent in ordered:
            metrics.record(evaluation=sent, by="a")
        expected = close(versions)
        raise RollbackError
    states = [expected["verdicts"][version.pk] for version in versions]
    assert [fold["prior_variance"] is None for _, fold in states] == [True, False, False]
    assert [verdict["status"] for verdict, _ in states[1:]] == ["degraded", "stable"]
    assert states[1][0]["n_evaluations"] == 20
    assert len(expected["alerts"]) == 1
    for seed in range(first, first + AT_A_TIME):
        rng = random.Random(seed)
        with suppress(RollbackError), transaction.atomic():
            for batch in shuffled([*ordered, *mistaken(versions, rng)], rng):
                record(batch, rng)
                delete_mistakes(0.1, rng)
            for sent in rng.sample(ordered, len(ordered)):
                metrics.record(evaluation=sent, by="a")
            delete_mistakes(1.0, rng)
            assert close(versions) == expected, f"seed {seed}"
            raise RollbackError


def test_a_correction_back_to_good_withdraws_the_alert(models: list[ModelVersion]) -> None:
    model = models[0]
    for sent in series(model, noisy(1, 60, fall_at=45)):
        metrics.record(evaluation=sent, by="a")
    assert Alert.objects.unresolved().count() == 1
    good = noisy(1, 60)
    for day in range(45, 60):
        metrics.record(evaluation=evaluation(model, day, metrics={"mae": good[day]}), by="a")
    assert not Alert.objects.unresolved().exists()
    assert Alert.objects.filter(resolution_action="history_changed").exists()
    assert DriftState.objects.get(model=model).status == "stable"
