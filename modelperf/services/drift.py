"""Drift: the verdict on a model version."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from modelperf.models import DriftState, ModelVersion
from modelperf.services import drift_following, metrics_store
from modelperf.services.database import execute, repeated
from modelperf.services.drift_judgement import Judged, is_detected
from modelperf.services.drift_positions import Position, read_position
from modelperf.services.drift_recommendation import recommendation
from modelperf.services.errors import NotFoundError
from modelperf.services.metrics_rows import Rank, Subject
from modelperf.services.profiles_judgement import judge_features

Performance = dict[str, float | None]
_SHOWN = ("r_squared", "rmse", "mae", "mape")


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer of a drift check; performances are means over evaluations."""

    drift_detected: bool
    drift_score: float | None
    drift_type: str
    drift_types: list[str]
    recommendation: str
    threshold: float | None
    current_performance: Performance
    baseline_performance: Performance
    status: str
    changed_at: str | None
    metric: str | None
    p_value: float | None
    verdict: dict[str, Any]
    verdict_id: uuid.UUID | None
    is_stale: bool
    features: list[dict[str, Any]]


def check(*, model: ModelVersion, by: str) -> Checked:
    """Judge a model version on all evaluations stored, and let its series' alerts follow.

    Current performance is the mean since the change, or the newest evaluation where nothing
    changed; the baseline is the mean of the evaluations before that, never including it.

    Raises
    ------
    NotFoundError
        The version has no evaluation.
    """
    return repeated(lambda: _check(model))


@transaction.atomic
def _check(model: ModelVersion) -> Checked:
    subject = metrics_store.lock_subject(model.pk)
    if subject is None:
        raise NotFoundError("Model not found")
    now = timezone.now()
    position = read_position(subject.model_id, now=now)
    if position.newest is None:
        raise NotFoundError("No recent performance metrics found")
    features = judge_features(model_ids=[model.pk])
    verdict = drift_following.settle([position], now=now, features=features, keep=True)[model.pk]
    current, baseline = _performance(subject, position.newest.rank, verdict["change_index"])
    stopped_at = _stopped_at(position, verdict, now)
    moved = [one["name"] for one in features[model.pk] if one["status"] == "drifted"]
    types = drift_types(is_worse=is_detected(verdict), has_moved=bool(moved))
    stored = DriftState.objects.filter(model=model).values_list("stored_verdict_id", flat=True)
    return Checked(
        drift_detected=bool(types),
        drift_score=verdict["statistic"],
        drift_type=types[0] if types else "no_drift",
        drift_types=types,
        recommendation=recommendation(verdict, moved, stopped_at=stopped_at),
        threshold=verdict["threshold"],
        current_performance=current,
        baseline_performance=baseline,
        status=verdict["status"],
        changed_at=verdict["changed_at"],
        metric=verdict["metric"],
        p_value=verdict["p_value"],
        verdict=verdict,
        verdict_id=stored.first(),
        is_stale=stopped_at is not None,
        features=features[model.pk],
    )


def drift_types(*, is_worse: bool, has_moved: bool) -> list[str]:
    """Return what drifts: how inputs and outcomes belong together, the inputs, or both."""
    return ["concept_drift"] * is_worse + ["data_drift"] * has_moved


def _stopped_at(position: Position, verdict: dict[str, Any], now: datetime) -> datetime | None:
    """Return when the last window ended where the series that serves is overdue for the next."""
    subject = position.subject
    if position.newest is None or not (subject.is_active and subject.in_service):
        return None
    missing = drift_following.overdue(Judged(position, None, verdict, False, None), now)
    return position.newest.evaluation_end if missing else None


def _performance(
    subject: Subject, until: Rank, change_index: int | None
) -> tuple[Performance, Performance]:
    found = execute(
        f"""
        WITH placed AS (
            SELECT {", ".join(_SHOWN)},
                row_number() OVER (ORDER BY evaluation_end, evaluation_start) - 1 AS position,
                count(*) OVER () AS n
            FROM model_performance_metrics
            WHERE machine_id = %s AND model_type = %s AND model_id = %s
                AND (evaluation_end, evaluation_start) <= (%s, %s)
        ), split AS (
            SELECT *, position >= coalesce(%s::int8, n - 1) AS is_current FROM placed
        )
        SELECT is_current, {", ".join(f"avg({name})" for name in _SHOWN)}
        FROM split GROUP BY is_current
        """,
        [subject.machine_id, subject.model_type, subject.model_id, *until, change_index],
    )
    means = {row[0]: dict(zip(_SHOWN, row[1:], strict=True)) for row in found}
    nothing: Performance = dict.fromkeys(_SHOWN)
    return means.get(True, nothing), means.get(False, nothing)
