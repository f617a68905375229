"""Reports of those who train elsewhere: a run has begun, goes on, has brought a model, or failed.

The first report takes the run over: whatever a worker of ours still does about it (a request that
timed out although it was received, a retry that waits) is fenced off from then on.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from math import isfinite
from typing import Any, Final

import msgspec
import structlog
from django.db import transaction
from django.utils import timezone

from modelperf.models import TrainingRun
from modelperf.services import training_external, training_failures, training_work
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.metrics_rows import METRIC_NAME, is_metric_name
from modelperf.services.policies import policy_of
from modelperf.services.registry_checks import check_text
from modelperf.trainers import EXTERNAL, TrainedModel, Trainer, TrainingError, find

log = structlog.get_logger(__name__)

ELSEWHERE: Final = (EXTERNAL, "webhook")
PATIENCE_SECONDS: Final = 86_400.0  # for the next report, where the policy no longer says
MESSAGE_CHARACTERS: Final = 500
_DIGEST: Final = "report_sha256"
_TAKER: Final = "started_by"  # whose run it is, of all who could take it
_FIELDS_OF_LIFE: Final = (
    "training_status",
    "training_start",
    "attempt",
    "trainer",
    "lease_id",
    "leased_until",
    "heartbeat_at",
    "retry_at",
    "progress_percent",
    "progress_message",
    "metadata",
)


@transaction.atomic
def started(*, run: TrainingRun, by: str) -> TrainingRun:
    """Note that somebody has begun to train a run; again it is only a sign of life.

    Raises
    ------
    ConflictError
        Somebody else has taken the run, or it has ended, or is not trained elsewhere.
    """
    locked = _unfinished(run)
    _refuse_taken(locked, by)
    _take_over(locked, by)
    locked.save(update_fields=_FIELDS_OF_LIFE)
    return locked


@transaction.atomic
def progressed(
    *, run: TrainingRun, percent: float | None = None, message: str = "", by: str
) -> TrainingRun:
    """Note how far a run is, which is a sign of life too; it has begun at the latest now."""
    if percent is not None and not (isfinite(percent) and 0 <= percent <= 100):
        raise InvalidError.field("percent", "percent lies between 0 and 100.")
    check_text(message=message)
    locked = _unfinished(run)
    _take_over(locked, by)
    locked.progress_percent = percent
    locked.progress_message = message[:MESSAGE_CHARACTERS]
    locked.save(update_fields=_FIELDS_OF_LIFE)
    return locked


@transaction.atomic
def completed(
    *,
    run: TrainingRun,
    trained: TrainedModel,
    as_asked: bool = False,
    model_id: uuid.UUID | None = None,
    by: str,
) -> TrainingRun:
    """Register what was trained and end the run; the same again answers the same.

    Where it is not at work its duration stays unknown. `as_asked`: the report names
    no hyperparameters, so those count that the run was to be trained with.

    Raises
    ------
    ConflictError
        The run has ended otherwise, or is not trained elsewhere.
    InvalidError
        What was trained cannot be stored; the run goes on.
    """
    _refuse_unmeasured(trained)
    digest = _digest(trained, as_asked, model_id)
    locked = _locked(run)
    if locked.metadata.get(_DIGEST) == digest:
        return locked
    _refuse_ended(locked)
    locked.metadata = {**locked.metadata, _DIGEST: digest}
    if as_asked:
        trained = replace(trained, hyperparameters=_asked_hyperparameters(locked))
    training_work.complete(run=locked, trained=trained, by=by, model_id=model_id)
    return locked


@transaction.atomic
def failed(
    *, run: TrainingRun, message: str, trace: str = "", put_out: str = "", by: str
) -> TrainingRun:
    """End a run that came to nothing, saying why; the same again answers the same."""
    if not message.strip():
        raise InvalidError.field("message", "Say why: the message is kept with the run.")
    check_text(message=message, traceback=trace, log=put_out)
    trace = trace[-training_failures.LOG_CHARACTERS :]
    locked = _locked(run)
    has_failed = locked.training_status == TrainingRun.Status.FAILED
    if has_failed and (locked.error_message, locked.error_traceback) == (message, trace):
        return locked
    _refuse_ended(locked)
    training_failures.fail(locked, message, trace=trace, put_out=put_out)
    log.info("training_failure_reported", run_id=str(locked.pk), by=by)
    return locked


def _unfinished(run: TrainingRun) -> TrainingRun:
    locked = _locked(run)
    _refuse_ended(locked)
    return locked


def _locked(run: TrainingRun) -> TrainingRun:
    """Lock a run that is trained elsewhere; of ours nothing is told but that it is."""
    found = TrainingRun.objects.select_for_update(of=("self",)).select_related("machine")
    locked = found.get(pk=run.pk)
    if not _is_elsewhere(locked):
        raise ConflictError(
            "This run is trained by modelperf itself: nobody else reports about it.",
            status=locked.training_status,
        )
    return locked


def _is_elsewhere(run: TrainingRun) -> bool:
    """Whether others train a run: its kind says so, or a worker has handed it over."""
    is_handed_over = run.training_status == TrainingRun.Status.RUNNING and run.lease_id is None
    if is_handed_over or _DIGEST in run.metadata:
        return True
    return (run.trainer or str(_document(run).get("kind"))) in ELSEWHERE


def _refuse_ended(run: TrainingRun) -> None:
    if run.training_status not in TrainingRun.UNFINISHED:
        status = run.training_status
        raise ConflictError(f"The training run is {status} already.", status=status)


def _refuse_taken(run: TrainingRun, by: str) -> None:
    """Refuse a second taker: two would train the same. The run's own token always has the right."""
    taker = run.metadata.get(_TAKER)
    is_taken = run.training_status == TrainingRun.Status.RUNNING and taker is not None
    if is_taken and by not in (taker, f"run:{run.pk}"):
        status = run.training_status
        raise ConflictError("Somebody else has taken this training run already.", status=status)


def _take_over(run: TrainingRun, by: str) -> None:
    """Let a locked run be that of whoever reports, until his next report is overdue."""
    now = timezone.now()
    if run.training_status == TrainingRun.Status.PENDING:
        _begin(run, now, by)
    elif _TAKER not in run.metadata:  # handed over by a worker, and nobody has begun until now
        run.training_start = now
        run.metadata = {**run.metadata, _TAKER: by}
    run.lease_id = run.retry_at = None
    run.heartbeat_at = now
    run.leased_until = now + timedelta(seconds=_patience_seconds(run))


def _begin(run: TrainingRun, now: datetime, by: str) -> None:
    run.training_status = TrainingRun.Status.RUNNING
    run.training_start = now
    run.attempt = max(run.attempt, 1)
    run.trainer = run.trainer or str(_document(run).get("kind", ""))
    run.progress_percent, run.progress_message = None, ""
    run.metadata = {**run.metadata, _TAKER: by}
    log.info("training_started", run_id=str(run.pk), attempt=run.attempt, by=by)


def _patience_seconds(run: TrainingRun) -> float:
    """Return how long the next report may take, as the trainer of the policy says."""
    return float(getattr(_trainer(run), "timeout_seconds", PATIENCE_SECONDS))


def _asked_hyperparameters(run: TrainingRun) -> dict[str, Any]:
    """Return what a run was to be trained with; none where its policy names another by now."""
    trainer = _trainer(run)
    return {} if trainer is None else dict(trainer.hyperparameters)


def _trainer(run: TrainingRun) -> Trainer | None:
    """Return what trains a run, as its policy says; None where that is another kind by now."""
    try:
        trainer = find(_document(run))
    except TrainingError:
        return None
    return trainer if trainer.kind == (run.trainer or trainer.kind) else None


def _document(run: TrainingRun) -> Any:
    policy = policy_of(machine_id=run.machine_id, model_type=run.model_type)
    return training_external.trainer_document(policy)


def _refuse_unmeasured(trained: TrainedModel) -> None:
    """Refuse metrics that are no finite numbers, or are called as none can be."""
    for field in ("training_metrics", "validation_metrics"):
        for name, value in getattr(trained, field).items():
            if not is_metric_name(name):
                raise InvalidError.field(field, f"{field}: {METRIC_NAME}")
            if not isfinite(value):
                raise InvalidError.field(field, f"{field}: {name} is not a finite number.")


def _digest(trained: TrainedModel, as_asked: bool, model_id: uuid.UUID | None) -> str:
    """Return what tells a report from another one."""
    content = msgspec.json.encode([trained, as_asked, model_id], order="sorted")
    return hashlib.sha256(content).hexdigest()
