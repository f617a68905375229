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

from modelperf.models import Alert, Machine, ModelVersion, TrainingRun
from modelperf.services import (
    training_external,
    training_failures,
    training_leases,
    training_work,
)
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.policies import PolicyValues, policy_of
from modelperf.services.registry_checks import check_model_type, check_text
from modelperf.trainers import EXTERNAL

log = structlog.get_logger(__name__)

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
    alert: Alert | None = None,
    now: datetime | None = None,
    by: str,
) -> Triggered:
    """Ask for a training of a series on the data that its policy says, or of another window.

    While a run of the series is unfinished nothing is stored; the database sees to that however
    many ask at once. A worker takes it as soon as this is committed; `alert` is the condition that
    the new version is meant to end.
    """
    asked_at = now or timezone.now()
    check_model_type(model_type)
    policy = policy_of(machine_id=machine.pk, model_type=model_type)
    end = data_end or asked_at
    run = TrainingRun(
        machine=machine,
        model_type=model_type,
        training_start=asked_at,
        training_data_start=data_start or end - timedelta(days=policy.training_window_days),
        training_data_end=end,
        trigger_type=trigger_type,
        triggered_by=by,
        reason=reason,
        alert=alert,
        created_at=asked_at,
    )
    _check(run, policy)
    if training_external.is_external(policy):
        training_external.leave_to_others(run, policy, since=asked_at)
    if not _insert(run):
        return _busy(run)
    log.info("training_triggered", run_id=str(run.id), model_type=model_type, by=by)
    return Triggered(
        triggered=True,
        trigger_type=trigger_type,
        reason=reason,
        training_job_id=run.id,
        estimated_completion=estimated_completion(run),
    )


def run_pending(
    *, by: str, progress: Progress | None = None, machine: Machine | None = None
) -> list[TrainingRun]:
    """Train the runs that wait, oldest first, and return those trained here, failed ones included.

    `progress` is called with each run as it starts and as it ends. A run that another process
    took in the meantime is left to it.
    """
    waiting = TrainingRun.objects.ready(timezone.now()).exclude(trainer=EXTERNAL)
    if machine is not None:
        waiting = waiting.filter(machine=machine)
    finished = []
    for pk in list(waiting.order_by("created_at", "id").values_list("pk", flat=True)):
        run = training_work.claim(run_id=pk, by=by)
        if run is None:
            continue
        _tell(progress, run)
        finished.append(training_work.train(run=run, by=by))
        _tell(progress, run)
    return finished


def cancel(*, run: TrainingRun, reason: str = "", by: str) -> TrainingRun:
    """Give up a run that waits or is at work; what a trainer then still finds is thrown away.

    A reason, where one is given, is kept with the run.
    """
    check_text(reason=reason)
    with transaction.atomic():
        locked = TrainingRun.objects.select_for_update(of=("self",)).get(pk=run.pk)
        if locked.training_status not in TrainingRun.UNFINISHED:
            status = locked.training_status
            raise ConflictError(f"The training run is {status} already.", status=status)
        training_failures.end(locked, TrainingRun.Status.CANCELLED, timezone.now())
        said = {"cancel_reason": reason} if reason.strip() else {}
        locked.metadata = {**locked.metadata, "cancelled_by": by, **said}
        locked.save(update_fields=training_failures.FIELDS_OF_END)
    log.info("training_cancelled", run_id=str(run.id), by=by)
    run.refresh_from_db()
    return run


def _check(run: TrainingRun, policy: PolicyValues) -> None:
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
    _refuse_unknown_series(run, policy)


def _refuse_unknown_series(run: TrainingRun, policy: PolicyValues) -> None:
    """Refuse a run that can only fail: nothing says what it is trained on.

    A series with a version but neither a trainer nor a source may be trained by others.
    """
    machine, model_type = run.machine, run.model_type
    if policy.training_source is not None:
        return
    reason = training_work.no_source(machine=machine, model_type=model_type)
    kind = training_external.trainer_document(policy).get("kind")
    if kind == training_external.DEFAULT_TRAINER:
        raise InvalidError.field("model_type", reason)
    series = ModelVersion.objects.of_series(machine_id=machine.pk, model_type=model_type)
    if policy.trainer is None and not series.exists():
        raise InvalidError.field("model_type", f"The machine has no such model. {reason}")


def _insert(run: TrainingRun) -> bool:
    try:
        with transaction.atomic():
            run.save(force_insert=True)
            if run.trainer != EXTERNAL:
                training_leases.enqueue(run)
    except IntegrityError as error:
        if ONE_UNFINISHED not in str(error):
            raise
        return False
    return True


def _busy(asked: TrainingRun) -> Triggered:
    """Say which run is in the way; it may have ended since."""
    of_series = TrainingRun.objects.of_series(
        machine_id=asked.machine_id, model_type=asked.model_type
    )
    there = of_series.unfinished().first()
    which = f": {there.training_status} as {there.pk}. Cancel it to ask anew" if there else ""
    return Triggered(
        triggered=False,
        trigger_type=asked.trigger_type,
        reason=f"A training of this series is already in progress{which}.",
    )


def estimated_completion(run: TrainingRun) -> datetime | None:
    """Tell when an unfinished run ends, by the median of the series' latest completed ones."""
    if run.training_status not in TrainingRun.UNFINISHED:
        return None
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
