"""Checks of a model version for drift."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from msgspec import Struct

from modelperf.api.authentication import WRITE
from modelperf.api.base import Endpoint, call
from modelperf.api.parameters import ModelType
from modelperf.services import drift
from modelperf.services.drift import Checked


class CheckQuery(Struct):
    """The model version to judge, and the series that it must belong to."""

    model_id: uuid.UUID
    model_type: ModelType
    machine_id: uuid.UUID


class Performance(Struct):
    """Means over evaluations, null where a metric is not reported."""

    r_squared: float | None
    rmse: float | None
    mae: float | None
    mape: float | None


class CheckedAnswer(Struct):
    """The verdict on a model version: `drift_score` is the statistic, `threshold` its limit.

    `is_stale` says that its evaluations stopped: the next ones are overdue by the policy's cadence.
    """

    drift_detected: bool
    drift_score: float | None
    drift_type: Literal["data_drift", "concept_drift", "no_drift"]
    drift_types: list[Literal["data_drift", "concept_drift"]]
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


class Drift(Endpoint):
    """Judging model versions."""

    @call(takes=CheckQuery, answers=CheckedAnswer, scope=WRITE, style="either", problems=(404,))
    def check(self, given: CheckQuery) -> Checked:
        """Judge a model version on everything recorded, and store the verdict and its alert.

        Both follow from the evaluations alone: whoever asks, and however often, the outcome is
        the same.
        """
        machine = self.machine(given.machine_id)
        model = self.model(given.model_id)
        if model.machine_id != machine.pk:
            raise self.refused("machine_id", "The model belongs to another machine.")
        if model.model_type != given.model_type:
            raise self.refused("model_type", f"The model is of the type {model.model_type}.")
        return drift.check(model=model, by=self.actor)
