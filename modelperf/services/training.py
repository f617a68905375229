"""Training runs: requested, trained in the foreground, cancelled."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone

from modelperf.models import Machine, ModelVersion, TrainingRun
from modelperf.services import training_work
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.registry_checks import check_model_type, check_text

log = structlog.get_logger(__name__)

DATA_WINDOW = timedelta(days=365)  # a year: every season once
DURATIONS_REMEMBERED = 20
ONE_UNFINISHED = "model_training_history_one_unfinished"
Progress = Callable[[TrainingRun], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggered:
    """What came of asking for a training; `reason` says why not where it was not triggered."""

    triggered: bool
    trigger_type: str
    reason: str
    training_job_id: uuid.UUID | None = None
    estimated_completion: datetime | None = None


def trigger(
    *,
    machine: Machine,
    model_type: str,
    reason: str,
    trigger_type: str = TrainingRun.Trigger.MANUAL,
    data_start: datetime | None = None,
    data_end: datetime | None = None,
    by: str,
) -> Triggered:
    """Ask for a training of a series on its data of the past year, unless another window is given.

    While a run of the series is unfinished nothing is stored; the database sees to that however
    many ask at once.
    """
    now = timezone.now()
    end = data_end or now
    run = TrainingRun(
        machine=machine,
        model_type=model_type,
        training_start=now,
        training_data_start=data_start or end - DATA_WINDOW,
        training_data_end=end,
        trigger_type=trigger_type,
        triggered_by=by,
        reason=reason,
    )
    _check(run)
    if not _insert(run):
        return _busy(run)
    log.info("training_triggered", run_id=str(run.id), model_type=model_type, by=by)
    return Triggered(
        triggered=True,
        trigger_type=trigger_type,
        reason=reason,
        training_job_id=run.id,
        estimated_completion=_estimated_completion(run),
    )


def run_pending(
    *, by: str, progress: Progress | None = None, machine: Machine | None = None
) -> list[TrainingRun]:
    """Train the runs that wait, oldest first, and return those trained here, failed ones included.

    `progress` is called with each run as it starts and as it ends. A run that another process
    took in the meantime is left to it.
    """
    waiting = TrainingRun.objects.filter(training_status=TrainingRun.Status.PENDING)
    if machine is not None:
        waiting = waiting.filter(machine=machine)
    finished = []
    for run in waiting.order_by("created_at", "id").select_related("machine"):
        if not training_work.claim(run=run, by=by):
            continue
        _tell(progress, run)
        finished.append(training_work.train(run=run, by=by))
        _tell(progress, run)
    return finished


def cancel(*, run: TrainingRun, by: str) -> TrainingRun:
    """Give up a run that waits or is at work; what a trainer then still finds is thrown away."""
    now = timezone.now()
    changed = (
        TrainingRun.objects.filter(pk=run.pk)
        .unfinished()
        .update(
            training_status=TrainingRun.Status.CANCELLED,
            training_end=now,
            metadata={**run.metadata, "cancelled_by": by},
        )
    )
    run.refresh_from_db()
    if not changed:
        raise ConflictError(
            f"The training run is {run.training_status} already.", status=run.training_status
        )
    log.info("training_cancelled", run_id=str(run.id), by=by)
    return run


def _check(run: TrainingRun) -> None:
    check_model_type(run.model_type)
    check_text(reason=run.reason)
    if not run.reason.strip():
        raise InvalidError.field("reason", "Say why: the reason is kept with the run.")
    if run.trigger_type not in TrainingRun.Trigger.values:
        known = ", ".join(TrainingRun.Trigger.values)
        raise InvalidError.field("trigger_type", f"trigger_type is one of {known}.")
    if run.training_data_end <= run.training_data_start:
        raise InvalidError.field("data_end", "data_end must be after data_start.")
    if not run.machine.is_active:
        raise ConflictError(
            f"The machine {run.machine.name} is retired. Return it to service to train models.",
            is_active=False,
        )
    _refuse_unknown_series(run)


def _refuse_unknown_series(run: TrainingRun) -> None:
    """Refuse a run that can only fail: nothing says what it is trained on.

    A series with a version but neither a trainer nor a source may be trained by others.
    """
    machine, model_type = run.machine, run.model_type
    if training_work.source_of(machine=machine, model_type=model_type) is not None:
        return
    reason = training_work.no_source(machine=machine, model_type=model_type)
    if training_work.setup_of(machine=machine, model_type=model_type):
        raise InvalidError.field("model_type", reason)
    series = ModelVersion.objects.of_series(machine_id=machine.pk, model_type=model_type)
    if not series.exists():
        raise InvalidError.field("model_type", f"The machine has no such model. {reason}")


def _insert(run: TrainingRun) -> bool:
    try:
        with transaction.atomic():
            run.save(force_insert=True)
    except IntegrityError as error:
        if ONE_UNFINISHED not in str(error):
            raise
        return False
    return True


def _busy(run: TrainingRun) -> Triggered:
    return Triggered(
        triggered=False,
        trigger_type=run.trigger_type,
        reason="A training of this series is already in progress.",
    )


def _estimated_completion(run: TrainingRun) -> datetime | None:
    """Go by the median duration of the series' latest completed runs."""
    past = TrainingRun.objects.of_series(machine_id=run.machine_id, model_type=run.model_type)
    durations = list(
        past.filter(training_status=TrainingRun.Status.COMPLETED)
        .order_by("-training_start")
        .values_list("training_duration_seconds", flat=True)[:DURATIONS_REMEMBERED]
    )
    known = [seconds for seconds in durations if seconds is not None]
    return run.training_start + timedelta(seconds=median(known)) if known else None


def _tell(progress: Progress | None, run: TrainingRun) -> None:
    if progress is not None:
        progress(run)
