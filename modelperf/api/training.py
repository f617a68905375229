"""Training runs: asking for one, following it, giving it up."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from django_filters import Filter
from msgspec import Meta, Struct

from modelperf.api.authentication import TRAIN
from modelperf.api.base import Answer, Endpoint, call
from modelperf.api.cursors import BY_ID, Page
from modelperf.api.filters import Filters, SeriesFilters, Text
from modelperf.api.parameters import Cursor, Instant, Limit, ModelType
from modelperf.models import TrainingRun
from modelperf.services import training, training_after, training_failures
from modelperf.services.training import Triggered

Trigger = Literal["manual", "scheduled", "drift_detected", "performance_degradation"]
Kind = Annotated[str, Meta(max_length=50)]
Status = Literal["pending", "running", "completed", "failed", "cancelled"]


class TriggerQuery(Struct):
    """The series to train, and why."""

    model_type: ModelType
    machine_id: uuid.UUID
    reason: Annotated[str, Meta(min_length=1, max_length=2000)]
    trigger_type: Trigger = "manual"


class TriggeredAnswer(Struct):
    """Whether a run was started; where one is under way already, `reason` says so."""

    triggered: bool
    trigger_type: Trigger
    reason: str
    training_job_id: uuid.UUID | None
    estimated_completion: Instant | None


class RunAnswer(Struct):
    """One training run; `error_message` is null for callers who may not train."""

    id: uuid.UUID
    model_id: uuid.UUID | None
    model_type: str
    machine_id: uuid.UUID
    model_version: int | None
    training_start: Instant
    training_end: Instant | None
    training_duration_seconds: float | None
    training_status: Status
    training_data_start: Instant
    training_data_end: Instant
    training_samples: int | None
    hyperparameters: dict[str, Any]
    feature_names: list[str]
    training_metrics: dict[str, Any]
    validation_metrics: dict[str, Any]
    initial_r_squared: float | None
    initial_rmse: float | None
    initial_mae: float | None
    error_message: str | None
    trigger_type: Trigger
    triggered_by: str
    reason: str
    trainer: str
    attempt: int
    progress_percent: float | None
    progress_message: str
    heartbeat_at: Instant | None
    retry_at: Instant | None
    alert_id: uuid.UUID | None
    metadata: dict[str, Any]
    created_at: Instant


class RunDetail(RunAnswer):
    """One training run, when it ends by the series' own past, and what it started.

    `error_traceback` and `training_log` are null for callers who may not train.
    """

    estimated_completion: Instant | None
    ab_test_id: uuid.UUID | None
    error_traceback: str | None
    training_log: str | None


class Cancellation(Struct):
    """Why a run is given up, where there is something to say; it is kept with the run."""

    reason: Annotated[str, Meta(max_length=2000)] = ""


class RunFilters(SeriesFilters):
    """By series and status, by what asked for it, and by what trains."""

    training_status = Filter()
    trigger_type = Filter()
    trainer = Text()


class RunQuery(Struct):
    """Which runs are listed."""

    filters: ClassVar[Filters] = RunFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    training_status: Status | None = None
    trigger_type: Trigger | None = None
    trainer: Kind | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class Training(Endpoint):
    """Training runs of series."""

    @call(
        takes=TriggerQuery,
        answers=TriggeredAnswer,
        scope=TRAIN,
        style="either",
        problems=(404, 409),
    )
    def trigger(self, given: TriggerQuery) -> Triggered:
        """Ask for a training; a series has one unfinished run at most."""
        return training.trigger(
            machine=self.machine(given.machine_id),
            model_type=given.model_type,
            reason=given.reason,
            trigger_type=given.trigger_type,
            by=self.actor,
        )

    @call(takes=RunQuery, answers=Page[RunAnswer])
    def browse(self, given: RunQuery) -> Answer:
        """List training runs, the newest request first."""
        found = TrainingRun.objects.within(self.access.machine_ids)
        answer = self.page(found, RunAnswer, order=BY_ID, given=given)
        if not self._knows_all():
            listed = answer.value.shaped
            listed["results"] = [_without_problems(row) for row in listed["results"]]
        return answer

    @call(answers=RunDetail, problems=(404,))
    def retrieve(self, id: uuid.UUID) -> RunDetail:
        """Tell about a run."""
        return self._told(self._run(id))

    @call(takes=Cancellation, answers=RunDetail, scope=TRAIN, style="body", problems=(404, 409))
    def cancel(self, given: Cancellation, id: uuid.UUID) -> RunDetail:
        """Give up an unfinished run; the reason may be left out."""
        cancelled = training.cancel(run=self._run(id), reason=given.reason, by=self.actor)
        return self._told(cancelled)

    def _told(self, run: TrainingRun) -> RunDetail:
        answer = msgspec.convert(run, RunAnswer, from_attributes=True)
        told = msgspec.structs.asdict(answer)
        test, knows_all = training_after.test_of(run), self._knows_all()
        return RunDetail(
            **(told if knows_all else _without_problems(told)),
            estimated_completion=training.estimated_completion(run),
            ab_test_id=test.pk if test else None,
            error_traceback=run.error_traceback if knows_all else None,
            training_log=run.training_log if knows_all else None,
        )

    def _knows_all(self) -> bool:
        """Whether the caller may know why runs failed, and what trainers put out."""
        user = self.access.user
        return self.access.allows(TRAIN) or (user is not None and training_failures.may_know(user))

    def _run(self, id: uuid.UUID) -> TrainingRun:
        found = TrainingRun.objects.within(self.access.machine_ids)
        run: TrainingRun = self.one(found, id, "Training run not found")
        return run


def _without_problems(told: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of a run but what went wrong: that may tell of files and addresses."""
    kept = {
        name: value
        for name, value in told["metadata"].items()
        if name != training_failures.LAST_PROBLEM
    }
    return told | {"error_message": None, "metadata": kept}
