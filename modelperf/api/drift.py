"""Checks of a model version for drift, and the policies by which series are judged."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from modelperf.api.authentication import ADMIN, WRITE
from modelperf.api.base import Endpoint, Rows, call, rows
from modelperf.api.parameters import ModelType
from modelperf.models import Policy
from modelperf.services import drift, policies
from modelperf.services.drift import Checked

MetricName = Annotated[str, Meta(max_length=100)]


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
    """The verdict on a model version: `drift_score` is the statistic, `threshold` its limit."""

    drift_detected: bool
    drift_score: float | None
    drift_type: Literal["data_drift", "concept_drift", "no_drift"]
    recommendation: str
    threshold: float | None
    current_performance: Performance
    baseline_performance: Performance
    status: str
    changed_at: str | None
    metric: str | None
    p_value: float | None
    verdict: dict[str, Any]
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


class PolicyValues(Struct):
    """How the series of a model type are judged; what is left out gets its default."""

    primary_metric: MetricName = ""
    directions: dict[str, str] = {}
    min_effect: Annotated[float, Meta(ge=0)] = 0.02
    limit_value: float | None = None
    clear_value: float | None = None
    expected_cadence_seconds: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


class PolicyAnswer(PolicyValues, kw_only=True):
    """The policy of a model type."""

    model_type: str


class Policies(Endpoint):
    """Policies, one a model type."""

    @call(answers=list[PolicyAnswer])
    def browse(self) -> Rows:
        """List the policies that differ from the defaults."""
        return rows(Policy.objects.order_by("model_type"), PolicyAnswer)

    @call(answers=PolicyAnswer)
    def retrieve(self, model_type: str) -> Policy:
        """Tell how a model type is judged: by its policy, or by the defaults."""
        return Policy.objects.filter(model_type=model_type).first() or Policy(model_type=model_type)

    @call(takes=PolicyValues, answers=PolicyAnswer, scope=ADMIN, style="body", problems=(403,))
    def update(self, given: PolicyValues, model_type: str) -> Policy:
        """Set the policy of a model type; evaluations are judged by it from now on."""
        self.refuse_limited("set policies")
        return policies.set_policy(
            model_type=model_type, values=msgspec.structs.asdict(given), by=self.actor
        )
