"""Reports about training runs by those who train them elsewhere."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from msgspec import Meta, Struct
from rest_framework.authentication import SessionAuthentication

from modelperf.api.authentication import TRAIN, ApiKeyAuthentication, RunTokenAuthentication
from modelperf.api.base import Endpoint, call
from modelperf.api.parameters import Instant
from modelperf.api.training import Status
from modelperf.models import TrainingRun
from modelperf.services import training_reports
from modelperf.trainers import TrainedModel

Percent = Annotated[float, Meta(ge=0, le=100)]
Metrics = Annotated[dict[str, float], Meta(max_length=1000)]
Feature = Annotated[str, Meta(min_length=1, max_length=200)]
Samples = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_PROFILES = "Distributions it was trained on, as POST profiles/record takes them."


class ProgressReport(Struct):
    """How far a run is, where that is known, and what it does."""

    percent: Percent | None = None
    message: Annotated[str, Meta(max_length=500)] = ""


class CompletionReport(Struct):
    """What was trained. The validation metrics are out of sample.

    What is not reported is stored as unknown, but hyperparameters, which are then those of the
    policy's trainer. The version's id is `model_id` where the client
    chose one. Of `reference_profiles` the window is that of the run's data unless they name one.
    """

    artefact: dict[str, Any]
    feature_names: list[Feature]
    training_metrics: Metrics
    validation_metrics: Metrics
    hyperparameters: dict[str, Any] | None = None
    training_samples: Samples | None = None
    reference_profiles: Annotated[
        list[dict[str, Any]], Meta(max_length=100, description=_PROFILES)
    ] = []
    model_id: uuid.UUID | None = None
    log: str = ""


class FailureReport(Struct):
    """Why no model came of a run; of `traceback` and `log` the last 64 KiB are kept."""

    message: Annotated[str, Meta(min_length=1, max_length=10_000)]
    traceback: str = ""
    log: str = ""


class ReportAnswer(Struct):
    """Where a run stands after a report; it is given up where the next one is later than that."""

    id: uuid.UUID
    training_status: Status
    attempt: int
    progress_percent: float | None
    progress_message: str
    leased_until: Instant | None
    model_id: uuid.UUID | None
    model_version: int | None


class TrainingReports(Endpoint):
    """Reports about a run: by a key with the scope train, or by the run's own token."""

    # The token serves here and nowhere else: no other endpoint knows how to read it.
    authentication_classes = (
        ApiKeyAuthentication,
        RunTokenAuthentication,
        SessionAuthentication,
    )

    @call(answers=ReportAnswer, scope=TRAIN, problems=(404, 409))
    def start(self, id: uuid.UUID) -> TrainingRun:
        """Take a run that waits, or tell that it has begun; again is a sign of life.

        Or by the run's own token.
        """
        return training_reports.started(run=self._run(id), by=self.actor)

    @call(
        takes=ProgressReport, answers=ReportAnswer, scope=TRAIN, style="body", problems=(404, 409)
    )
    def progress(self, given: ProgressReport, id: uuid.UUID) -> TrainingRun:
        """Tell how far a run is. 409 with its status says that it is no longer wanted.

        Or by the run's own token.
        """
        return training_reports.progressed(
            run=self._run(id), percent=given.percent, message=given.message, by=self.actor
        )

    @call(
        takes=CompletionReport, answers=ReportAnswer, scope=TRAIN, style="body", problems=(404, 409)
    )
    def complete(self, given: CompletionReport, id: uuid.UUID) -> TrainingRun:
        """Register what was trained, and end the run. The same again answers the same.

        Or by the run's own token.
        """
        trained = TrainedModel(
            artefact=given.artefact,
            feature_names=tuple(given.feature_names),
            hyperparameters=given.hyperparameters or {},
            training_metrics=given.training_metrics,
            validation_metrics=given.validation_metrics,
            training_samples=given.training_samples,
            reference_profiles=tuple(given.reference_profiles),
            log=given.log,
        )
        return training_reports.completed(
            run=self._run(id),
            trained=trained,
            as_asked=given.hyperparameters is None,
            model_id=given.model_id,
            by=self.actor,
        )

    @call(takes=FailureReport, answers=ReportAnswer, scope=TRAIN, style="body", problems=(404, 409))
    def fail(self, given: FailureReport, id: uuid.UUID) -> TrainingRun:
        """End a run that came to nothing, saying why. The same again answers the same.

        Or by the run's own token.
        """
        return training_reports.failed(
            run=self._run(id),
            message=given.message,
            trace=given.traceback,
            put_out=given.log,
            by=self.actor,
        )

    def _run(self, id: uuid.UUID) -> TrainingRun:
        found = TrainingRun.objects.within(self.access.machine_ids)
        run: TrainingRun = self.one(found, id, "Training run not found")
        return run
