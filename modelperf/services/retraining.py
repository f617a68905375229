"""The loop: what is wrong is trained anew, tested, promoted, and comes to rest.

`follow` looks at how things stand in the tables and does what is due next; it remembers nothing
itself, so that nothing is lost or done twice where it is interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from django.db import connection
from django.utils import timezone

from modelperf.models import ABTest, Alert, TrainingRun
from modelperf.services import (
    retraining_given_up,
    retraining_proof,
    retraining_schedule,
    retraining_tests,
    retraining_wanted,
    training_after,
)
from modelperf.services.database import execute
from modelperf.services.retraining_guards import Refusal

log = structlog.get_logger(__name__)

_LOCK: Final = 0x6C6F6F70  # "loop": one process at a time follows


@dataclass(slots=True)
class Followed:
    """What a look has done, and what it left for later, with the reason."""

    decided: list[ABTest] = field(default_factory=list)
    resolved: list[Alert] = field(default_factory=list)
    triggered: list[TrainingRun] = field(default_factory=list)
    waiting: list[Refusal] = field(default_factory=list)


def follow(*, by: str, now: datetime | None = None) -> Followed:
    """Decide tests, resolve what has proved better, and trigger the retrainings that are due.

    Nothing is done where another process is at it.
    """
    moment = now or timezone.now()
    followed = Followed()
    with _alone() as is_first:
        if not is_first:
            return followed
        followed.decided, won = retraining_tests.settle(now=moment)
        followed.resolved = won + retraining_proof.settle(now=moment, by=by)
        training_after.start_waiting_tests(now=moment)
        retraining_given_up.end_what_policies_ended(now=moment)
        followed.triggered, followed.waiting = retraining_wanted.trigger(now=moment)
        scheduled, refused = retraining_schedule.trigger(now=moment)
        followed.triggered += scheduled
        followed.waiting += refused
    if followed.decided or followed.resolved or followed.triggered:
        log.info(
            "retraining_followed",
            by=by,
            decided=len(followed.decided),
            resolved=len(followed.resolved),
            triggered=len(followed.triggered),
        )
    return followed


@contextmanager
def _alone() -> Iterator[bool]:
    """Hold the lock of the loop; PostgreSQL takes it back from a process that dies."""
    found = execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
    is_first = bool(found and found[0])
    try:
        yield is_first
    finally:
        if is_first and connection.is_usable():
            execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
