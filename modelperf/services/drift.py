"""Drift: the verdict on a model version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils import timezone

from modelperf.models import ModelVersion
from modelperf.services import drift_following, metrics_store
from modelperf.services.database import execute, repeated
from modelperf.services.drift_judgement import is_detected
from modelperf.services.drift_positions import read_position
from modelperf.services.drift_recommendation import recommendation
from modelperf.services.errors import NotFoundError
from modelperf.services.metrics_rows import Subject

Performance = dict[str, float | None]
_SHOWN = ("r_squared", "rmse", "mae", "mape")


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer of a drift check; performances are means over evaluations."""

    drift_detected: bool
    drift_score: float | None
    drift_type: str
    recommendation: str
    threshold: float | None
    current_performance: Performance
    baseline_performance: Performance
    status: str
    changed_at: str | None
    metric: str | None
    p_value: float | None
    verdict: dict[str, Any]
    features: list[dict[str, Any]] = field(default_factory=list)


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
    verdict = drift_following.settle([position], now=now, keep=True)[model.pk]
    current, baseline = _performance(subject, verdict["change_index"])
    detected = is_detected(verdict)
    return Checked(
        drift_detected=detected,
        drift_score=verdict["statistic"],
        drift_type="concept_drift" if detected else "no_drift",
        recommendation=recommendation(verdict),
        threshold=verdict["threshold"],
        current_performance=current,
        baseline_performance=baseline,
        status=verdict["status"],
        changed_at=verdict["changed_at"],
        metric=verdict["metric"],
        p_value=verdict["p_value"],
        verdict=verdict,
    )


def _performance(subject: Subject, change_index: int | None) -> tuple[Performance, Performance]:
    found = execute(
        f"""
        WITH placed AS (
            SELECT {", ".join(_SHOWN)},
                row_number() OVER (ORDER BY evaluation_end, evaluation_start) - 1 AS position,
                count(*) OVER () AS n
            FROM model_performance_metrics
            WHERE machine_id = %s AND model_type = %s AND model_id = %s
        ), split AS (
            SELECT *, position >= coalesce(%s::int8, n - 1) AS is_current FROM placed
        )
        SELECT is_current, {", ".join(f"avg({name})" for name in _SHOWN)}
        FROM split GROUP BY is_current
        """,
        [subject.machine_id, subject.model_type, subject.model_id, change_index],
    )
    means = {row[0]: dict(zip(_SHOWN, row[1:], strict=True)) for row in found}
    nothing: Performance = dict.fromkeys(_SHOWN)
    return means.get(True, nothing), means.get(False, nothing)
