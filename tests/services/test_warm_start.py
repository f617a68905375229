"""A new version is judged early, by what the version before it had shown when it began."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.db import connection

from modelperf.models import Alert, DriftState, ModelVersion, StoredVerdict
from modelperf.services import checks, drift, metrics, policies, verdicts
from modelperf.services.metrics import Evaluation
from modelperf.stats.results import MetricKind, Rules
from modelperf.stats.warm_start import first_state
from tests.factories import ModelVersionFactory
from tests.services.builders import evaluation, noisy

pytestmark = pytest.mark.django_db

BEFORE = noisy(1, 40)
FALLING = noisy(2, 20, fall_at=13)


@pytest.fixture
def versions() -> list[ModelVersion]:
    first = ModelVersionFactory.create()
    return [first, ModelVersionFactory.create(machine=first.machine, is_active=True)]


def days(
    model: ModelVersion, first: int, values: list[float], metric: str = "mae"
) -> list[Evaluation]:
    """Return one evaluation a day from a day on."""
    return [
        evaluation(model, first + at, metrics={metric: value}) for at, value in enumerate(values)
    ]


def record(sent: list[Evaluation]) -> dict[str, Any]:
    """Record evaluations one by one and return the last verdict."""
    for one in sent:
        last = metrics.record(evaluation=one, by="a")
    assert last.verdict is not None
    return last.verdict


def prior_of(model: ModelVersion) -> tuple[float | None, float | None]:
    fold = DriftState.objects.get(model=model).fold
    return fold["prior_variance"], fold["prior_phi"]


def expected(values: list[float]) -> tuple[float | None, float | None]:
    state = first_state(values, np.full(len(values), 24.0), rules=Rules(kind=MetricKind.LOSS))
    return state.prior_variance, state.prior_phi


def test_a_fall_is_told_and_alerted_before_thirty(versions: list[ModelVersion]) -> None:
    record(days(versions[0], 0, BEFORE))
    sent = days(versions[1], 40, FALLING)
    assert record(sent[:1])["needed"] == 9
    assert record(sent[1:10])["status"] == "stable"
    verdict = record(sent[10:])
    assert (verdict["status"], verdict["change_index"]) == ("degraded", 13)
    assert Alert.objects.unresolved().get().model_id == versions[1].pk
    assert prior_of(versions[1]) == expected(BEFORE)
    assert prior_of(versions[0]) == (None, None)


def test_a_check_of_the_fleet_says_the_same(versions: list[ModelVersion]) -> None:
    metrics.record_batch(evaluations=days(versions[0], 0, BEFORE), by="a")
    metrics.record_batch(evaluations=days(versions[1], 40, FALLING), by="a")
    checks.run(by="a")
    checked = DriftState.objects.get(model=versions[1])
    DriftState.objects.all().delete()
    assert drift.check(model=versions[1], by="a").verdict == checked.verdict
    assert DriftState.objects.get(model=versions[1]).fold == checked.fold


@pytest.mark.parametrize("season", [False, True])
@pytest.mark.parametrize("n", [12, 20])
def test_early_verdicts_are_reproduced(versions: list[ModelVersion], n: int, season: bool) -> None:
    if season:
        policies.set_policy(
            model_type="baseline", values={"season": {"period_days": 7, "harmonics": 1}}, by="a"
        )
    record(days(versions[0], 0, BEFORE))
    record(days(versions[1], 40, FALLING[:n]))
    drift.check(model=versions[1], by="a")
    stored = StoredVerdict.objects.filter(model=versions[1]).order_by("id").last()
    assert stored is not None
    assert stored.fold["prior_variance"] is not None
    assert verdicts.explain(verdict=stored).is_reproduced


def test_only_what_came_before_it_began_makes_its_noise(versions: list[ModelVersion]) -> None:
    record(days(versions[0], 0, BEFORE[:20]))
    record(days(versions[1], 25, FALLING[:12]))
    assert prior_of(versions[1]) == expected(BEFORE[:20])
    state = DriftState.objects.get(model=versions[1])
    record(days(versions[0], 25, noisy(7, 10)))
    assert DriftState.objects.get(model=versions[1]) == state
    assert not DriftState.objects.get(model=versions[1]).is_stale
    metrics.record_batch(evaluations=days(versions[0], 20, BEFORE[20:25]), by="a")
    assert DriftState.objects.get(model=versions[1]).is_stale
    drift.check(model=versions[1], by="a")
    assert prior_of(versions[1]) == expected(BEFORE[:25])


def test_a_newest_evaluation_from_before_it_began_counts_too(
    versions: list[ModelVersion],
) -> None:
    record(days(versions[0], 0, BEFORE[:20]))
    record(days(versions[1], 25, FALLING[:12]))
    record(days(versions[0], 20, BEFORE[20:21]))
    assert DriftState.objects.get(model=versions[1]).is_stale
    drift.check(model=versions[1], by="a")
    assert prior_of(versions[1]) == expected(BEFORE[:21])


def test_the_last_version_that_was_evaluated_is_the_one_before(
    versions: list[ModelVersion],
) -> None:
    third = ModelVersionFactory.create(machine=versions[0].machine)
    other_type = ModelVersionFactory.create(machine=versions[0].machine, model_type="other")
    record(days(other_type, 0, noisy(5, 40)))
    record(days(versions[0], 0, BEFORE))
    record(days(third, 40, FALLING[:12]))
    assert prior_of(third) == expected(BEFORE)
    record(days(versions[1], 0, noisy(3, 30)))
    drift.check(model=third, by="a")
    assert prior_of(third) == expected(noisy(3, 30))


def test_only_its_last_evaluations_are_remembered(versions: list[ModelVersion]) -> None:
    values = [*noisy(1, 30, level=3.0), *noisy(2, 400)]
    metrics.record_batch(evaluations=days(versions[0], 0, values), by="a")
    record(days(versions[1], 430, FALLING[:2]))
    assert prior_of(versions[1]) == expected(values[-400:])


@pytest.mark.parametrize("metric", ["rmse", "bias"])
def test_another_metric_or_none_of_one_direction_leaves_no_noise(
    versions: list[ModelVersion], metric: str
) -> None:
    record(days(versions[0], 0, BEFORE, "bias" if metric == "bias" else "mae"))
    assert record(days(versions[1], 40, FALLING, metric))["status"] == "insufficient_data"
    assert prior_of(versions[1]) == (None, None)


def test_one_more_evaluation_takes_no_more_statements(
    versions: list[ModelVersion], django_assert_num_queries: Any
) -> None:
    first, second = days(versions[0], 0, noisy(1, 60)), days(versions[1], 40, FALLING)
    record(first[:45])
    record(second[:5])
    for sent in (second[5], first[45], second[6]):
        with django_assert_num_queries(5, connection=connection):
            metrics.record(evaluation=sent, by="a")
