"""Background jobs: deferred by name, in the transaction that decides them.

Rows are the truth and jobs are hints: one that runs twice, or late, finds nothing to do.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued


def defer(
    name: str, *, queue: str, once: str, at: datetime | None = None, **arguments: Any
) -> None:
    """Have a worker run a task, at a time or soon; `once` names what waits but once."""
    task = app.configure_task(
        name, allow_unknown=False, queue=queue, queueing_lock=once, schedule_at=at
    )
    try:
        with transaction.atomic():  # a refusal must not spoil the transaction around it
            task.defer(**arguments)
    except AlreadyEnqueued:
        return


def waiting(name: str) -> set[str]:
    """Return what the jobs of a task that no worker has taken yet wait under: their `once`."""
    found = ProcrastinateJob.objects.filter(task_name=name, status="todo")
    return set(found.values_list("queueing_lock", flat=True))


def withdraw(*, once: str) -> None:
    """Delete the job that waits under a name: there is nothing left for it to do.

    One that a worker has taken already is the worker's. Without this, where no worker ever takes
    them, jobs would only become more.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM procrastinate_jobs WHERE queueing_lock = %s AND status = 'todo'", [once]
        )


def training_of(run_id: uuid.UUID) -> str:
    """Return what the job of a training run waits under."""
    return f"train:{run_id}"
