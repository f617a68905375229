"""Who works on a run: a lease that is renewed while they live, and what becomes of those who died.

Every change of a run at work is fenced by its `lease_id`: what a worker finds whose lease was
taken away is thrown away, so that a run ends once.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from modelperf.models import TrainingRun
from modelperf.services import jobs, training_external, training_failures
from modelperf.services.policies import policy_of
from modelperf.trainers import EXTERNAL

log = structlog.get_logger(__name__)

LONGEST_BEAT_SECONDS: Final = 2.0  # so soon is a cancellation noticed
TRAIN: Final = "train"


def lease_until(now: datetime) -> datetime:
    """Return until when a worker that is heard of now is believed to live."""
    return now + timedelta(seconds=settings.TRAINING_LEASE_SECONDS)


_held: Final[set[uuid.UUID]] = set()  # what is worked on in this process


@dataclass(slots=True)
class Lease:
    """The watch of a run at work: tells what it does, and learns that it is no longer wanted."""

    run_id: uuid.UUID
    lease_id: uuid.UUID
    _percent: float | None = None
    _message: str = ""
    _is_wanted: bool = True

    def progress(self, percent: float | None, message: str) -> None:
        """Tell how far the run is; it is stored with the next beat."""
        self._percent = None if percent is None else min(max(float(percent), 0.0), 100.0)
        self._message = training_failures.storable(message)[:500]

    def is_wanted(self) -> bool:
        """Whether the run is still this worker's."""
        return self._is_wanted

    def beat(self) -> None:
        """Renew the lease; whose lease it is no longer is not wanted any more."""
        now = timezone.now()
        changed = TrainingRun.objects.filter(
            pk=self.run_id, training_status=TrainingRun.Status.RUNNING, lease_id=self.lease_id
        ).update(
            heartbeat_at=now,
            leased_until=lease_until(now),
            progress_percent=self._percent,
            progress_message=self._message,
        )
        self._is_wanted = changed == 1

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease from a thread of its own as long as the block lasts.

        Inside a transaction nobody else sees the run: there is nothing to renew.
        """
        if connection.in_atomic_block:
            yield
            return
        is_over = threading.Event()
        _held.add(self.lease_id)
        beating = threading.Thread(target=self._beat_until, args=(is_over,), daemon=True)
        beating.start()
        try:
            yield
        finally:
            is_over.set()
            beating.join()
            _held.discard(self.lease_id)

    def _beat_until(self, is_over: threading.Event) -> None:
        pause = min(settings.TRAINING_LEASE_SECONDS / 3, LONGEST_BEAT_SECONDS)
        try:
            while not is_over.wait(pause):
                try:
                    self.beat()
                except Exception:  # the database may be back before the lease is over
                    log.warning("training_heartbeat_failed", run_id=str(self.run_id), exc_info=True)
                    connection.close()
        finally:
            connection.close()


def give_back(*, by: str) -> list[TrainingRun]:
    """Let the runs wait again that this process is still at work on: it stops.

    What they would still have come to here is thrown away.
    """
    with transaction.atomic():
        found = TrainingRun.objects.unfinished().filter(lease_id__in=list(_held))
        runs = list(found.select_for_update())
        for run in runs:
            release(run, retry_at=None)
    for run in runs:
        log.info("training_given_back", run_id=str(run.id), by=by)
    return runs


def recover(*, by: str, now: datetime | None = None) -> list[TrainingRun]:
    """Let runs go on or fail that nobody was heard of: their worker died, or nobody reported."""
    moment = now or timezone.now()
    _take_back()
    _enqueue_forgotten(moment)
    lost = TrainingRun.objects.unfinished().filter(leased_until__lt=moment).order_by("leased_until")
    return [run for pk in lost.values_list("pk", flat=True) if (run := _one(pk, moment, by))]


def _one(pk: uuid.UUID, now: datetime, by: str) -> TrainingRun | None:
    """Recover one run; where that breaks, the others are still to be recovered."""
    try:
        return _recover(pk, now, by)
    except Exception:
        log.exception("training_not_recovered", run_id=str(pk))
        return None


@transaction.atomic
def _recover(pk: uuid.UUID, now: datetime, by: str) -> TrainingRun | None:
    """Decide about one run under its lock; None where it was heard of meanwhile."""
    found = TrainingRun.objects.unfinished().filter(pk=pk, leased_until__lt=now)
    run = found.select_for_update(of=("self",), skip_locked=True).select_related("machine").first()
    if run is None:
        return None
    if run.lease_id is None:
        training_failures.fail(run, _unheard_of(run))
        return run
    died = int(run.metadata.get("workers_died", 0)) + 1
    run.metadata = {**run.metadata, "workers_died": died}
    policy = policy_of(machine_id=run.machine_id, model_type=run.model_type)
    if died > policy.training_retries:
        message = f"The worker that trained it died (attempt {run.attempt})."
        training_failures.fail(run, message, worked_until=run.heartbeat_at)
        return run
    release(run, retry_at=None)
    log.warning("training_recovered", run_id=str(run.id), workers_died=died, by=by)
    return run


def _take_back() -> None:
    """Have workers take the runs that waited for others, where the policy names a trainer now."""
    offered = TrainingRun.objects.filter(
        training_status=TrainingRun.Status.PENDING, trainer=EXTERNAL
    )
    for run in offered:
        policy = policy_of(machine_id=run.machine_id, model_type=run.model_type)
        if training_external.is_external(policy):
            continue
        with transaction.atomic():
            still = offered.filter(pk=run.pk)  # nobody has taken it meanwhile
            if still.update(trainer="", leased_until=None, progress_message=""):
                enqueue(run)


def _enqueue_forgotten(now: datetime) -> None:
    """Have workers take runs that wait for long: a job may have died with its worker."""
    waiting = TrainingRun.objects.ready(now).exclude(trainer=EXTERNAL)
    patience = now - timedelta(seconds=settings.TRAINING_LEASE_SECONDS)
    enqueued = jobs.waiting(TRAIN)
    for run in waiting.filter(created_at__lt=patience):
        if jobs.training_of(run.pk) not in enqueued:
            enqueue(run)


def _unheard_of(run: TrainingRun) -> str:
    if run.training_status == TrainingRun.Status.PENDING:
        return "Nobody took the run in time."
    return "Whoever trains it did not report in time."


def _waits_until(retry_at: datetime | None) -> str:
    when = f" at {retry_at:%H:%M:%S} UTC" if retry_at else ""
    return f"Waits to be tried again{when}."


def release(run: TrainingRun, *, retry_at: datetime | None) -> None:
    """Let a locked run wait again, and have it worked on at its time."""
    run.training_status = TrainingRun.Status.PENDING
    run.lease_id = run.leased_until = None
    run.trainer = ""  # what its policy says by then
    run.retry_at = retry_at
    run.progress_percent, run.progress_message = None, _waits_until(retry_at)
    run.save(
        update_fields=[
            "training_status",
            "lease_id",
            "leased_until",
            "trainer",
            "retry_at",
            "progress_percent",
            "progress_message",
            "metadata",
        ]
    )
    enqueue(run)


def enqueue(run: TrainingRun) -> None:
    """Have a worker take a pending run, once it may be."""
    queue = _queue_of(run)
    jobs.defer(
        TRAIN, queue=queue, once=jobs.training_of(run.pk), at=run.retry_at, run_id=str(run.pk)
    )


def _queue_of(run: TrainingRun) -> str:
    """Return where a run waits: receivers that do not answer keep no other training waiting."""
    trainer = policy_of(machine_id=run.machine_id, model_type=run.model_type).trainer or {}
    return "handover" if trainer.get("kind") == "webhook" else "training"
