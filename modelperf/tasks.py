"""Background jobs: each only calls a service. What they are about stands in tables."""

from __future__ import annotations

import uuid
from typing import Any, Final

import structlog
from django.conf import settings
from procrastinate import JobContext
from procrastinate.contrib.django import app
from procrastinate.jobs import Status

from modelperf.services import (
    ab_tests,
    checks,
    notifications,
    notifications_sending,
    notifications_told,
    retraining,
    training_leases,
    training_work,
)
from modelperf.services.errors import ConflictError

log = structlog.get_logger(__name__)

BY: Final = "worker"
TRAINING: Final = "training"
HANDOVER: Final = "handover"  # of the same task: somebody else trains, and is only asked to
NOTIFICATIONS: Final = notifications.QUEUE
NOTICES: Final = "notices"  # apart from both: neither receivers nor checks keep it waiting
UPKEEP: Final = "upkeep"
DEAD_SECONDS: Final = 300
KEPT_HOURS: Final = 7 * 24


@app.task(name="train", queue=TRAINING)
def train(run_id: str) -> None:
    """Train a run that waits."""
    training_work.work_on(run_id=uuid.UUID(run_id), by=BY)


@app.task(name=notifications.DELIVER, queue=NOTIFICATIONS)
def deliver(channel_id: str) -> None:
    """Send what is due over a channel."""
    notifications_sending.send_due(channel_id=uuid.UUID(channel_id))


def notify(timestamp: int) -> None:
    """Decide who is told of what there is to tell, and have it sent."""
    notifications.enqueue(notifications.look())


def check(timestamp: int) -> None:
    """Check the fleet, and let retraining follow what was found."""
    try:
        checks.run(by=BY)
    except ConflictError as error:
        log.info("check_left_out", reason=error.detail)
    retraining.follow(by=BY)


def follow(timestamp: int) -> None:
    """End the tests that are over, and go on with what retraining has come to."""
    ab_tests.complete_expired(by=BY)
    retraining.follow(by=BY)


def recover(timestamp: int) -> None:
    """Let runs go on whose worker died."""
    training_leases.recover(by=BY)


def forget(timestamp: int) -> None:
    """Forget who was told of what has been over for long."""
    notifications_told.forget()


@app.periodic(cron="17 * * * *")
@app.task(name="tidy", queue=UPKEEP, queueing_lock="tidy", pass_context=True)
async def tidy(context: JobContext, timestamp: int) -> None:
    """Forget the jobs of dead workers and old failures: what they were about is in tables."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_SECONDS):
        await manager.finish_job(job, status=Status.FAILED, delete_job=True)
    await manager.delete_old_jobs(
        nb_hours=KEPT_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
    )


def _periodic(name: str, schedule: str, task: Any, queue: str = UPKEEP) -> None:
    """Have a task run by its schedule; one that still waits does not wait twice."""
    if schedule:
        registered = app.task(name=name, queue=queue, queueing_lock=name, lock=None)(task)
        app.periodic(cron=schedule)(registered)


_periodic("check", settings.CHECK_SCHEDULE, check)
_periodic("follow", settings.FOLLOW_SCHEDULE, follow)
_periodic("recover", settings.RECOVERY_SCHEDULE, recover)
_periodic("notify", settings.NOTIFY_SCHEDULE, notify, NOTICES)
_periodic("forget", "47 * * * *", forget)
