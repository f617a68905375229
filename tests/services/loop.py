"""Series that fall, a clock that is moved, and a trainer, for the tests of automatic retraining."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from modelperf.models import Alert, ModelVersion
from modelperf.services import checks, metrics, policies, retraining, training
from modelperf.services.retraining import Followed
from modelperf.trainers import (
    TrainedModel,
    Trainer,
    TrainingError,
    TrainingRequest,
    UnavailableError,
    Watch,
)
from modelperf.trainers.base import register
from tests.factories import ModelVersionFactory
from tests.services.builders import START, evaluation, noisy

BY = "tests"
DAY = timedelta(days=1)
N = 60
CHECKED = (
    START + N * DAY + timedelta(hours=1)
)  # when `fallen` series have been evaluated to the end


@register("tests-loop")
class Loop(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Notes the window it was asked to train on; fails, or is away, where that is wanted."""

    outcome: str = ""

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        if self.outcome == "fails":
            raise TrainingError("There is nothing to learn from.")
        if self.outcome == "away":
            raise UnavailableError("Nobody is there.")
        watch.progress(100, "done")
        return TrainedModel(
            artefact={"until": request.data_end.isoformat()},
            feature_names=(),
            hyperparameters={},
            training_metrics={"mae": 1.0},
            validation_metrics={"mae": 1.0},
            training_samples=int((request.data_end - request.data_start) / DAY),
        )


def automatic(model_type: str = "baseline", **values: Any) -> None:
    """Let a type be trained anew by itself."""
    given = {"retrain_automatically": True, "trainer": {"kind": "tests-loop"}}
    policies.set_policy(model_type=model_type, values=given | values, by=BY)


def fallen(
    *falls: int, model_type: str = "baseline", checked: bool = True, **policy: Any
) -> list[ModelVersion]:
    """Return versions in service that fell after so many evaluations, and were checked since."""
    automatic(model_type, **policy)
    models = ModelVersionFactory.create_batch(len(falls), is_active=True, model_type=model_type)
    for seed, (model, fall_at) in enumerate(zip(models, falls, strict=True)):
        record(model, noisy(seed, N, fall_at=fall_at))
    if checked:
        checks.run(by=BY)
    return models


def record(model: ModelVersion, values: Sequence[float], first: int = 0) -> None:
    """Record one evaluation a day, as a batch that nobody judges."""
    sent = [
        evaluation(model, day, metrics={"mae": float(value)})
        for day, value in enumerate(values, start=first)
    ]
    metrics.record_batch(evaluations=sent, by=BY)


def follow(now: datetime | None = None) -> Followed:
    return retraining.follow(by=BY, now=now)


def trained() -> list[str]:
    """Train what waits and return how each run ended."""
    return [run.training_status for run in training.run_pending(by=BY)]


def alert_of(model: ModelVersion) -> Alert:
    """Return what the series of a version is alerted for."""
    types = ("drift_detected", "performance_degradation")
    return Alert.objects.get(machine=model.machine, alert_type__in=types)


def newest(model: ModelVersion) -> ModelVersion:
    """Return the newest version of a version's series."""
    versions = ModelVersion.objects.of_series(
        machine_id=model.machine_id, model_type=model.model_type
    )
    return versions.latest("model_version")


def reasons(followed: Followed) -> list[str]:
    """Return why retrainings are not due."""
    return [one.reason for one in followed.waiting]
