"""Runs that failed: said why, for good, with one alert a series until a run succeeds."""

from __future__ import annotations

import traceback
import uuid
from datetime import datetime
from functools import partial
from typing import Final

import structlog
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone

from modelperf.models import Alert, ApiKey, TrainingRun
from modelperf.models.access import PERMISSION_OF_SCOPE
from modelperf.services import jobs
from modelperf.services.alerts_conditions import Wanted
from modelperf.services.alerts_following import SeriesPlace
from modelperf.services.alerts_raising import end_alert, raise_alert, series_key
from modelperf.services.errors import DomainError
from modelperf.trainers import TrainingError
from modelperf.trainers.command_folders import discard_artefacts

log = structlog.get_logger(__name__)

_FAILED = Alert.Type.TRAINING_FAILED.value
LOG_CHARACTERS = 65_536
LAST_PROBLEM: Final = "last_problem"  # in a run's metadata: why it waits to be tried again
_MAY_KNOW: Final = ("modelperf.change_trainingrun", PERMISSION_OF_SCOPE[ApiKey.Scope.TRAIN])


def may_know(user: User | AnonymousUser) -> bool:
    """Whether a person may know why runs failed, and what trainers put out."""
    return any(user.has_perm(name) for name in _MAY_KNOW)


def fail(
    run: TrainingRun,
    message: str,
    *,
    trace: str = "",
    put_out: str = "",
    worked_until: datetime | None = None,
) -> None:
    """End a locked run that came to nothing, and let its series' alert say so."""
    now = timezone.now()
    run.error_message, run.error_traceback = storable(message), storable(trace)
    run.training_log = storable(put_out)[-LOG_CHARACTERS:]
    end(run, TrainingRun.Status.FAILED, now, worked_until=worked_until)
    run.save(update_fields=[*FIELDS_OF_END, "error_message", "error_traceback", "training_log"])
    raise_alert(_wanted(run), SeriesPlace(run.machine_id, run.model_type), now=now)
    log.warning("training_failed", run_id=str(run.id), error=run.error_message)


FIELDS_OF_END = (
    "training_status",
    "training_end",
    "training_duration_seconds",
    "lease_id",
    "leased_until",
    "retry_at",
    "progress_message",
    "metadata",
)


def end(
    run: TrainingRun,
    status: TrainingRun.Status,
    ended: datetime,
    *,
    worked_until: datetime | None = None,
) -> None:
    """Note that a run is over: how, and how long work on it took, where it was at work.

    `worked_until` is when work on it ended, where that was before the run did.
    """
    run.training_end = max(ended, run.training_start)
    if run.training_status == TrainingRun.Status.RUNNING:
        worked = max(worked_until or run.training_end, run.training_start) - run.training_start
        run.training_duration_seconds = worked.total_seconds()
    run.training_status = status
    run.lease_id = run.leased_until = run.retry_at = None
    jobs.withdraw(once=jobs.training_of(run.pk))
    if status != TrainingRun.Status.COMPLETED:
        run.progress_message = ""  # nobody does that any more, and nobody waits
        # What was kept of it belongs to no version.
        transaction.on_commit(partial(_discard, run.pk), robust=True)


def _discard(run_id: uuid.UUID) -> None:
    """Remove what was kept of a run; where no command ever ran there is no folder, nor made one."""
    if (settings.TRAINING_DIR / "artefacts").is_dir():
        discard_artefacts(run_id=run_id)


def told(error: BaseException) -> tuple[str, str, str]:
    """Return what is said of an error, its traceback, and what the trainer had put out."""
    kind = type(error).__name__
    is_sentence = isinstance(error, TrainingError | DomainError)
    message = str(error) if is_sentence else f"{kind}: {error}".rstrip(": ")
    put_out = error.log if isinstance(error, TrainingError) else ""
    return message or kind, "".join(traceback.format_exception(error)), put_out


def forgive(run: TrainingRun, *, now: datetime) -> None:
    """End the alert of a series' failed runs: one has succeeded."""
    key = series_key(run.machine_id, run.model_type, _FAILED)
    end_alert(key, action="recovered", now=now)


def storable(text: str) -> str:
    """Return a text as the database can hold it: without NUL, half characters as question marks."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _wanted(run: TrainingRun) -> Wanted:
    return Wanted(
        condition_key=series_key(run.machine_id, run.model_type, _FAILED),
        alert_type=_FAILED,
        severity=Alert.Severity.WARNING.value,
        # Alerts are read by more people than may see what a trainer put out.
        message=f"{run.machine.name} · {run.model_type}: a training failed; its run says why.",
        occurrences=1,
        current=None,
        threshold=None,
        baseline=None,
        details={
            "rule": _FAILED,
            "changed_at": run.training_start.isoformat(),
            "training_run": str(run.pk),
        },
    )
