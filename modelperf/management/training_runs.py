"""What the commands tell of training runs: as a document, as a line, and while they go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db import connection

from modelperf.models import TrainingRun

PAUSE_SECONDS: Final = 0.5  # between looks at a run that goes on
Say = Callable[[str], None]


def document(run: TrainingRun) -> dict[str, Any]:
    """Return a run as one JSON object; times in ISO 8601, what is not known yet is null."""
    return {
        "training_job_id": str(run.pk),
        "machine_id": str(run.machine_id),
        "machine_name": run.machine.name,
        "model_type": run.model_type,
        "status": run.training_status,
        "trigger_type": run.trigger_type,
        "reason": run.reason,
        "trainer": run.trainer,
        "attempt": run.attempt,
        "model_id": str(run.model_id) if run.model_id else None,
        "model_version": run.model_version,
        "training_data_start": run.training_data_start.isoformat(),
        "training_data_end": run.training_data_end.isoformat(),
        "training_samples": run.training_samples,
        "training_duration_seconds": run.training_duration_seconds,
        "validation_metrics": run.validation_metrics,
        "progress_percent": run.progress_percent,
        "progress_message": run.progress_message,
        "error_message": run.error_message,
    }


def series_name(run: TrainingRun) -> str:
    """Return what a run trains."""
    return f"{run.machine.name} · {run.model_type}"


def progress(run: TrainingRun) -> str:
    """Return how far a run is that is not over."""
    percent = "" if run.progress_percent is None else f"{run.progress_percent:.0f} %"
    told = ", ".join(part for part in (percent, run.progress_message) if part)
    if told:
        return told
    is_waiting = run.training_status == TrainingRun.Status.PENDING
    return "waits for a worker" if is_waiting else "training"


def outcome(run: TrainingRun) -> str:
    """Return what has become of a run, or how it stands where it is not over."""
    status = TrainingRun.Status(run.training_status)
    if status == TrainingRun.Status.COMPLETED:
        samples = f" on {run.training_samples:,} samples" if run.training_samples else ""
        seconds = run.training_duration_seconds
        took = f" in {seconds:.1f} s" if seconds is not None else ""
        return f"completed version {run.model_version}{samples}{took}"
    if status == TrainingRun.Status.CANCELLED:
        by = run.metadata.get("cancelled_by")
        return f"cancelled by {by}" if by else "cancelled"
    if status == TrainingRun.Status.FAILED:
        return f"failed: {run.error_message}"
    return f"{status.value}: {progress(run)}"


def seen(run: TrainingRun) -> TrainingRun:
    """Return a run as it stands in the table now."""
    return TrainingRun.objects.select_related("machine").get(pk=run.pk)


@contextmanager
def told(run: TrainingRun, say: Say) -> Iterator[None]:
    """Say how far a run is, each time that this changes, while somebody else is at work on it.

    It is read from the table, as everybody sees it. Inside a transaction there is nothing to see.
    """
    if connection.in_atomic_block:
        yield
        return
    is_over = threading.Event()
    telling = threading.Thread(target=_tell_until, args=(is_over, run, say), daemon=True)
    telling.start()
    try:
        yield
    finally:
        is_over.set()
        telling.join()


def _tell_until(is_over: threading.Event, run: TrainingRun, say: Say) -> None:
    last = progress(run)
    try:
        while not is_over.wait(PAUSE_SECONDS):
            now = seen(run)
            line = progress(now)
            if line != last and now.training_status in TrainingRun.UNFINISHED:
                say(f"{series_name(now)}: {line}")
                last = line
    finally:
        connection.close()
