"""Drift: the verdict on a model version, and the policies that series are judged by."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from modelperf.models import ModelVersion, Policy
from modelperf.models.registry import MODEL_TYPE_LENGTH, MODEL_TYPE_PATTERN
from modelperf.services import drift_judgement, metrics_store
from modelperf.services.database import execute, repeated
from modelperf.services.drift_history import read_position
from modelperf.services.drift_recommendation import recommendation
from modelperf.services.drift_rules import policy_values
from modelperf.services.errors import FieldError, InvalidError, NotFoundError
from modelperf.services.metrics_rows import Subject
from modelperf.stats.results import MetricKind

log = structlog.get_logger(__name__)
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
    position = read_position(subject)
    if position.newest is None:
        raise NotFoundError("No recent performance metrics found")
    verdict = drift_judgement.judge_stored(subject, position, now=timezone.now())
    current, baseline = _performance(subject, verdict["change_index"])
    detected = drift_judgement.is_detected(verdict)
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


def set_policy(*, model_type: str, values: dict[str, Any], by: str) -> Policy:
    """Create or change the policy of a model type. What is judged next is judged by it.

    Raises
    ------
    InvalidError
        A value is out of its range.
    """
    unknown = sorted(values.keys() - _POLICY_FIELDS)
    if unknown:
        raise InvalidError.field(unknown[0], f"A policy has no {unknown[0]}.", type="unknown")
    if not re.fullmatch(MODEL_TYPE_PATTERN, model_type) or len(model_type) > MODEL_TYPE_LENGTH:
        msg = f"model_type is a slug of up to {MODEL_TYPE_LENGTH} characters."
        raise InvalidError.field("model_type", msg)
    with transaction.atomic():
        # One writer of a policy at a time, also of one that is not there yet.
        execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"policy:{model_type}"])
        policy = Policy.objects.filter(model_type=model_type).first()
        policy = policy or Policy(model_type=model_type)
        for name, value in values.items():
            setattr(policy, name, value)
        _refuse_policy_problems(policy)
        policy.save()
    log.info("policy_changed", model_type=model_type, changed=sorted(values), by=by)
    return policy


_POLICY_FIELDS = frozenset(
    {
        "primary_metric",
        "directions",
        "min_effect",
        "limit_value",
        "clear_value",
        "expected_cadence_seconds",
    }
)


def _refuse_policy_problems(policy: Policy) -> None:
    found: list[FieldError] = []
    try:
        policy.full_clean(validate_unique=False)
    except ValidationError as error:
        found += [
            FieldError(("body", name), messages[0], "value_error")
            for name, messages in error.message_dict.items()
        ]
    if isinstance(policy.directions, dict):
        found += [
            FieldError(("body", "directions", name), f"{name}: one of {', '.join(MetricKind)}.")
            for name, kind in policy.directions.items()
            if kind not in set(MetricKind)
        ]
    else:
        found.append(FieldError(("body", "directions"), "directions maps metrics to kinds."))
    found = found or _contradictions(policy)
    if found:
        raise InvalidError(found[0].msg, found)


def _contradictions(policy: Policy) -> list[FieldError]:
    """Return what is wrong between values that are each in order."""
    if not policy.primary_metric:
        return []
    values = policy_values(policy)
    kind = values.kind(policy.primary_metric)
    if kind is None:
        msg = f"Declare the direction of {policy.primary_metric} in directions."
        return [FieldError(("body", "primary_metric"), msg)]
    if not values.clears_on_the_better_side(kind):
        return [FieldError(("body", "clear_value"), "clear_value is better than limit_value.")]
    return []
