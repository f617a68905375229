"""What the evaluations say of an A/B test: losses on the windows both arms saw, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from modelperf.models import ABTest, ModelPerformanceMetric
from modelperf.services.policies import PolicyValues
from modelperf.stats import sequential
from modelperf.stats.evidence import Evidence, Outcome
from modelperf.stats.results import MetricKind

MIN_PAIRS: Final = 8
_LOSSES: Final = ("rmse", "mae", "mape")
_SHOWN: Final = ("r_squared", "rmse", "mae")
_Window = tuple[datetime, datetime]
_Arm = dict[_Window, ModelPerformanceMetric]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The two arms on their windows, and the evidence on one metric."""

    metric: str | None
    design: str
    evidence: Evidence
    model_a_metrics: dict[str, float | int | None]
    model_b_metrics: dict[str, float | int | None]
    windows_a: int
    windows_b: int
    looked_at: list[str]


def compare(test: ABTest, policy: PolicyValues) -> Comparison:
    """Compare the arms of a test on its windows, paired where both arms saw the same ones."""
    arm_a, arm_b = _arms(test)
    common = sorted(arm_a.keys() & arm_b.keys())
    paired = bool(common) or not (arm_a and arm_b)
    if paired:
        arm_a = {window: arm_a[window] for window in common}
        arm_b = {window: arm_b[window] for window in common}
    metric, kind = _metric(arm_a, arm_b, policy)
    return Comparison(
        metric=metric,
        design="paired" if paired else "two_sample",
        evidence=_evidence(test, arm_a, arm_b, metric, kind, paired=paired),
        model_a_metrics=_summary(arm_a.values()),
        model_b_metrics=_summary(arm_b.values()),
        windows_a=len(arm_a),
        windows_b=len(arm_b),
        looked_at=[end.isoformat().replace("+00:00", "Z") for end, _ in common],
    )


def _arms(test: ABTest) -> tuple[_Arm, _Arm]:
    found = ModelPerformanceMetric.objects.of_series(
        machine_id=test.machine_id, model_type=test.model_type
    ).filter(model_id__in=[test.model_a_id, test.model_b_id], evaluation_start__gte=test.test_start)
    if test.test_end is not None:
        found = found.filter(evaluation_end__lte=test.test_end)
    arms: dict[Any, _Arm] = {test.model_a_id: {}, test.model_b_id: {}}
    for row in found.order_by("evaluation_end", "evaluation_start"):
        arms[row.model_id][row.evaluation_end, row.evaluation_start] = row
    return arms[test.model_a_id], arms[test.model_b_id]


def _metric(arm_a: _Arm, arm_b: _Arm, policy: PolicyValues) -> tuple[str | None, MetricKind | None]:
    """Return the metric to compare by: the judged one, or a loss where that one aims at zero.

    A bias near zero says little about the size of the errors around it.
    """
    reported = {name for row in (*arm_a.values(), *arm_b.values()) for name in row.metrics}
    metric = policy.judged_metric(reported)
    if metric and policy.kind(metric) is MetricKind.TARGET_ZERO:
        metric = next((name for name in _LOSSES if name in reported), metric)
    return metric, policy.kind(metric) if metric else None


def _evidence(
    test: ABTest,
    arm_a: _Arm,
    arm_b: _Arm,
    metric: str | None,
    kind: MetricKind | None,
    *,
    paired: bool,
) -> Evidence:
    losses_a, losses_b = _losses(arm_a, metric, kind), _losses(arm_b, metric, kind)
    if paired:
        return sequential.paired(
            losses_a, losses_b, confidence_level=test.confidence_level, min_pairs=MIN_PAIRS
        )
    return sequential.two_sample(
        losses_a,
        losses_b,
        arrived_a=[end.timestamp() for end, _ in arm_a],
        arrived_b=[end.timestamp() for end, _ in arm_b],
        confidence_level=test.confidence_level,
        min_pairs=MIN_PAIRS,
    )


def _losses(arm: _Arm, metric: str | None, kind: MetricKind | None) -> list[float]:
    """Return the metric as a loss, lower is better, in order of time."""
    return [_loss(float(row.metrics.get(metric, np.nan)), kind) for row in arm.values()]


def _loss(value: float, kind: MetricKind | None) -> float:
    match kind:
        case MetricKind.LOSS | MetricKind.LOWER:
            return value
        case MetricKind.R_SQUARED | MetricKind.PROPORTION:
            return 1 - value
        case MetricKind.HIGHER:
            return -value
        case MetricKind.TARGET_ZERO:
            return abs(value)
    return float("nan")


def _summary(rows: Iterable[ModelPerformanceMetric]) -> dict[str, float | int | None]:
    rows = list(rows)
    means = {name: _mean([getattr(row, name) for row in rows]) for name in _SHOWN}
    return {**means, "sample_count": sum(row.sample_count for row in rows)}


def _mean(values: list[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return float(np.mean(given)) if given else None


def evidence_document(comparison: Comparison) -> dict[str, Any]:
    """Return the evidence over time as plain values, for the answer and for what is stored."""
    evidence = comparison.evidence
    document = {
        name: value
        for name, value in asdict(evidence).items()
        if name not in ("ns", "e_values", "lows", "highs", "means", "outcome")
    }
    columns = zip(
        evidence.ns.tolist(),
        evidence.e_values.tolist(),
        _plain(evidence.lows),
        _plain(evidence.highs),
        evidence.means.tolist(),
        strict=True,
    )
    names = ("n", "e_value", "low", "high", "mean_difference")
    return {
        **document,
        "outcome": evidence.outcome.value,
        "metric": comparison.metric,
        "design": comparison.design,
        "windows_a": comparison.windows_a,
        "windows_b": comparison.windows_b,
        "over_time": [dict(zip(names, look, strict=True)) for look in columns],
    }


def _plain(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def winner(outcome: str, *, ended: bool) -> str | None:
    """Return the winner the contract names: null while undecided, no_winner once that is final."""
    if outcome in (Outcome.MODEL_A, Outcome.MODEL_B):
        return outcome
    return "no_winner" if ended or outcome == Outcome.EQUIVALENT else None
