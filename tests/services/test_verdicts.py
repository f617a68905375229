"""Every stored verdict can be explained, and computed again from what is stored with it."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest

from modelperf.models import Alert, ModelPerformanceMetric, ModelVersion, StoredVerdict
from modelperf.services import alerts, checks, drift, metrics, policies, registry, verdicts
from modelperf.services.verdicts import Explained
from modelperf.stats.explanation import recompute, rules_from_document
from modelperf.stats.results import FoldState, MetricKind
from tests.factories import ModelVersionFactory
from tests.services.builders import evaluation, noisy, series

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> ModelVersion:
    return ModelVersionFactory.create(is_active=True)


def explained(model: ModelVersion) -> tuple[StoredVerdict, Explained]:
    stored = StoredVerdict.objects.filter(model=model).order_by("id").last()
    assert stored is not None
    return stored, verdicts.explain(verdict=stored)


def recomputed(found: Explained) -> str:
    """Recompute the verdict from the document alone, as a reader of the API would."""
    document = json.loads(json.dumps(found.document))
    verdict = recompute(
        document["inputs"]["values"],
        document["inputs"]["sample_counts"],
        rules=rules_from_document(document["rules"]),
        fold=FoldState.from_document(document["fold"]),
        first_position=document["first_position"],
    )
    return verdict.status.value


def values_of(kind: MetricKind, *, worse: bool) -> list[float]:
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 1, 70)
    step = np.where((np.arange(70) >= 50) & worse, 5.0, 0.0)
    match kind:
        case MetricKind.R_SQUARED:
            values = 1 - np.exp(-2 + 0.1 * (noise + step))
        case MetricKind.PROPORTION:
            values = 0.8 - 0.02 * (noise + step)
        case MetricKind.HIGHER:
            values = 10 - 0.5 * (noise + step)
        case MetricKind.TARGET_ZERO:
            values = 0.5 * (noise + step)
        case _:
            values = np.exp(0.1 * (noise + step))
    return [round(float(value), 6) for value in values]


@pytest.mark.parametrize("worse", [False, True])
@pytest.mark.parametrize("kind", list(MetricKind))
def test_a_verdict_of_every_kind_is_reproduced(
    model: ModelVersion, kind: MetricKind, worse: bool
) -> None:
    policies.set_policy(
        model_type="baseline",
        values={"primary_metric": "own", "directions": {"own": kind.value}},
        by="a",
    )
    sent = series(model, values_of(kind, worse=worse), metric="own")
    metrics.record_batch(evaluations=sent, by="a")
    checks.run(by="a")
    stored, found = explained(model)
    assert stored.status == ("degraded" if worse else "stable")
    assert (stored.inputs is not None) is worse
    assert found.is_complete
    assert found.is_reproduced
    assert recomputed(found) == stored.status
    assert len(found.document["inputs"]["ids"]) == 70


def histories() -> dict[str, list[float]]:
    fall = noisy(1, 60, fall_at=45)
    return {
        "collapse": [*noisy(4, 45), 30.0, 31.0],
        "limit": [*noisy(4, 45), 6.0, 6.1, 1.0],
        "improved": [*noisy(1, 50, level=2.0), *noisy(2, 20)],
        "lost": [*noisy(1, 50, level=2.0), *noisy(2, 60), *noisy(3, 40, level=2.0)],
        "recovered": [*fall, *noisy(9, 30)],
        "again": [*fall, *noisy(9, 40), *noisy(8, 20, level=1.6)],
        "still": [*fall, *noisy(8, 30, level=1.5)],
        "short": noisy(1, 12),
        "long": noisy(1, 500),
        "long fall": noisy(1, 500, fall_at=460),
    }


@pytest.mark.parametrize("name", list(histories()))
@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_verdict_of_every_rule_is_reproduced(
    model: ModelVersion, name: str, one_by_one: bool
) -> None:
    policies.set_policy(
        model_type="baseline", values={"primary_metric": "mae", "limit_value": 5.0}, by="a"
    )
    sent = series(model, histories()[name])
    metrics.record_batch(evaluations=sent[:-3], by="a", judge=True)
    if one_by_one:
        for one in sent[-3:]:
            metrics.record(evaluation=one, by="a")
        drift.check(model=model, by="a")
    else:
        metrics.record_batch(evaluations=sent[-3:], by="a")
        checks.run(by="a")
    _, found = explained(model)
    assert found.is_complete
    assert found.is_reproduced


def test_missing_values_and_counts_are_reproduced(model: ModelVersion) -> None:
    for day, value in enumerate(noisy(1, 60, fall_at=48)):
        given = {"mape": value} if day % 7 == 3 else {"mae": value, "mape": 1.0}
        sent = evaluation(model, day, metrics=given, sample_count=20 + 10 * (day % 5))
        metrics.record(evaluation=sent, by="a")
    drift.check(model=model, by="a")
    stored, found = explained(model)
    assert found.is_reproduced
    assert stored.metric == "mae"
    assert None in found.document["inputs"]["values"]
    assert found.document["numbers"]["is_used"].count(False) == 9


def test_corrections_since_are_undone(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 40)), by="a")
    checks.run(by="a")
    _, before = explained(model)
    metrics.record(evaluation=evaluation(model, 20, metrics={"mae": 1.4}), by="a")
    metrics.record(evaluation=evaluation(model, 20, metrics={"mae": 1.5}), by="a")
    metrics.record(evaluation=evaluation(model, 40), by="a")
    stored = StoredVerdict.objects.order_by("id").first()
    assert stored is not None
    after = verdicts.explain(verdict=stored)
    assert after.document["inputs"] == before.document["inputs"]
    assert after.is_reproduced


def test_what_is_no_longer_stored_is_said(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 40)), by="a")
    checks.run(by="a")
    stored, _ = explained(model)
    fourth = ModelPerformanceMetric.objects.order_by("evaluation_end")[3]
    metrics.delete(metrics=[fourth], by="a")
    found = verdicts.explain(verdict=stored)
    assert not found.is_complete
    assert not found.is_reproduced
    assert found.document["numbers"] is None


def test_the_best_split_has_the_statistic(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 50, fall_at=38)), by="a")
    checks.run(by="a")
    stored, found = explained(model)
    z = [value or 0.0 for value in found.document["numbers"]["statistic"]]
    assert max(z) == pytest.approx(stored.verdict["statistic"], rel=1e-9)
    assert z.index(max(z)) == stored.verdict["change_index"]
    assert found.document["why"] == ["An alert was opened."]


def test_why_there_is_no_alert_is_told(model: ModelVersion) -> None:
    challenger = ModelVersionFactory.create(machine=model.machine)
    for one in (model, challenger):
        metrics.record_batch(evaluations=series(one, noisy(1, 44, fall_at=38)), by="a")
    checks.run(by="a")
    _, found = explained(challenger)
    assert found.document["why"] == ["No alert: only the active version of a series alerts."]
    quiet = ModelVersionFactory.create(is_active=True)
    metrics.record_batch(evaluations=series(quiet, noisy(5, 44)), by="a")
    checks.run(by="a")
    stored, found = explained(quiet)
    assert found.document["why"] == ["No alert: nothing is wrong."]
    assert stored.alert["cut_off"] == pytest.approx(0.05 / 2)
    assert 0 < stored.alert["q_value"] <= 1
    assert uuid.UUID(found.document["inputs"]["ids"][0])


def test_a_season_of_the_policy_is_taken_out_and_reproduced(model: ModelVersion) -> None:
    season = 0.3 * np.sin(2 * np.pi * np.arange(120) / 30)
    noise = np.random.default_rng(3).normal(0, 0.05, 120)
    values = [round(float(value), 6) for value in np.exp(noise + season)]
    policies.set_policy(
        model_type="baseline", values={"season": {"period_days": 30, "harmonics": 1}}, by="a"
    )
    for sent in series(model, values)[:90]:
        recorded = metrics.record(evaluation=sent, by="a")
    assert recorded.verdict is not None
    assert recorded.verdict["status"] == "stable"
    worse = [*values[:90], *(round(1.4 * value, 6) for value in values[90:])]
    metrics.record_batch(evaluations=series(model, worse)[90:], by="a")
    checks.run(by="a")
    stored, found = explained(model)
    assert stored.status == "degraded"
    assert stored.verdict["change_index"] == pytest.approx(90, abs=3)
    assert found.is_reproduced


def test_a_lone_outlier_alerts_where_the_policy_asks_for_it(model: ModelVersion) -> None:
    values = [*noisy(4, 50), 2.6]
    metrics.record_batch(evaluations=series(model, values[:-1]), by="a", judge=True)
    recorded = metrics.record(evaluation=series(model, values)[-1], by="a")
    assert recorded.verdict is not None
    assert recorded.verdict["outlier_window"]
    assert not Alert.objects.exists()
    policies.set_policy(model_type="baseline", values={"alert_on_outlier": True}, by="a")
    checks.run(by="a")
    assert Alert.objects.unresolved().get().alert_details["rule"] == "outlier"
    metrics.record(evaluation=evaluation(model, 51), by="a")
    assert not Alert.objects.unresolved().exists()


def test_what_becomes_of_the_alert_later_is_told_with_the_verdict(model: ModelVersion) -> None:
    challenger = ModelVersionFactory.create(machine=model.machine)
    metrics.record_batch(
        evaluations=series(challenger, noisy(1, 60, fall_at=45)), by="a", judge=True
    )
    stored, found = explained(challenger)
    assert found.document["why"] == ["No alert: only the active version of a series alerts."]
    registry.activate_model(model=challenger, by="a")
    alert = Alert.objects.unresolved().get()
    again, found = explained(challenger)
    assert again.pk == stored.pk
    assert found.document["why"] == ["An alert was opened."]
    alerts.resolve(alert=alert, by="user:ada", action="accepted")
    drift.check(model=challenger, by="a")
    assert explained(challenger)[1].document["why"] == [
        "No alert: a person resolved it, and nothing has changed since."
    ]
    alerts.reopen(alert=alert, by="user:ada")
    drift.check(model=challenger, by="a")
    assert explained(challenger)[1].document["why"] == ["Its alert goes on."]


def test_a_verdict_outside_a_check_tells_the_cut_off_in_force(model: ModelVersion) -> None:
    ModelVersionFactory.create(is_active=True)
    metrics.record_batch(evaluations=series(model, noisy(5, 44)), by="a")
    drift.check(model=model, by="a")
    stored, _ = explained(model)
    assert stored.alert == {"n_series": 2, "n_rejected": 0, "cut_off": 0.025, "q_value": None}


def test_a_verdict_keeps_the_q_value_of_its_check(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 60, fall_at=45)), by="a")
    checks.run(by="a")
    before, _ = explained(model)
    drift.check(model=model, by="a")
    after, _ = explained(model)
    assert after.pk == before.pk
    assert after.alert["q_value"] == before.alert["q_value"] > 0
    assert after.alert["decisions"][0]["decision"] == "kept"
