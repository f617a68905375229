"""Checks of the fleet: all series judged in one pass, and their alerts rationed together."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import psycopg
import structlog
from django.db import connection, transaction
from django.utils import timezone

from modelperf.models import CheckRun, Machine
from modelperf.models.keys import uuid7
from modelperf.services import (
    alerts_fleet,
    alerts_following,
    alerts_writing,
    drift_following,
    drift_store,
)
from modelperf.services.alerts_following import Changes, Followed
from modelperf.services.alerts_gathering import Gathering
from modelperf.services.checks_report import Look, Report, report_on
from modelperf.services.checks_seeing import Progress, Scope, Seen, see
from modelperf.services.database import execute
from modelperf.services.drift_judgement import (
    Judged,
)
from modelperf.services.errors import ConflictError

__all__ = ["Look", "Progress", "Report", "run"]

log = structlog.get_logger(__name__)

_LOCK: Final = 0x6D6F64656C706572  # "modelper": one check of the fleet at a time, in a database


def run(
    *,
    by: str,
    model_type: str = "",
    machine: Machine | None = None,
    as_of: datetime | None = None,
    dry_run: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Report:
    """Judge everything recorded and not judged yet, and let the alerts of the fleet follow.

    With `as_of` as if it were then; that, and a dry run, store nothing. What is recorded for a
    series while the check runs goes before: the series is left to the next check.

    Raises
    ------
    ConflictError
        Another check is running.
    """
    started_at = timezone.now()
    scope = Scope(model_type, machine.pk if machine else None)
    stores = as_of is None and not dry_run
    run_id = uuid7()
    with _alone():
        if stores:
            _mark(run_id, scope)
        with _snapshot():
            seen = see(scope, now=started_at, as_of=as_of, progress=progress)
        skipped: set[uuid.UUID] = set()
        with transaction.atomic():
            if stores:
                skipped = _take(run_id, seen, started_at if scope.is_fleet else None)
            changes, members = _decide(seen, as_of or started_at, skipped)
            if stores:
                _carry_out(changes, members, seen, now=started_at)
            else:
                alerts_writing.foresee(changes, now=started_at)
            report = report_on(seen, changes, skipped, started_at, run_id if stores else None)
            if stores:
                _store(seen, changes, report, scope, by)
    has_news = report.n_judged or report.summary["opened"] or report.summary["cleared"]
    tell = log.info if has_news else log.debug  # a worker looks often
    tell("fleet_checked", by=by, dry_run=not stores, **report.summary)
    return report


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of checks; PostgreSQL takes it back from a process that dies."""
    found = execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
    if not (found and found[0]):
        raise ConflictError("Another check is running.")
    try:
        yield
    finally:
        if connection.is_usable():
            execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


@contextmanager
def _snapshot() -> Iterator[None]:
    """Read everything as of one moment; nobody waits for that."""
    if connection.in_atomic_block:
        yield
        return
    connection.ensure_connection()
    raw = connection.connection
    raw.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        with transaction.atomic():
            yield
    finally:
        raw.isolation_level = None


def _mark(run_id: uuid.UUID, scope: Scope) -> None:
    """Mark the series as being checked; whoever changes one takes the mark away."""
    execute(
        """
        UPDATE model_series s SET check_id = %b
        FROM (
            SELECT s.id FROM model_series s JOIN machines m ON m.id = s.machine_id
            WHERE m.is_active AND (%b = '' OR s.model_type = %b)
                AND (%b::uuid IS NULL OR s.machine_id = %b)
            ORDER BY s.machine_id, s.model_type
            FOR UPDATE OF s
        ) AS locked
        WHERE s.id = locked.id
        """,
        [run_id, scope.model_type, scope.model_type, scope.machine_id, scope.machine_id],
    )


def _take(run_id: uuid.UUID, seen: Seen, checked_at: datetime | None) -> set[uuid.UUID]:
    """Lock the series that are still as they were read; leave the others to the next check.

    Those keep when the whole fleet was checked together with them.
    """
    found = execute(
        """
        WITH locked AS (
            SELECT id FROM model_series WHERE check_id = %b
            ORDER BY machine_id, model_type FOR UPDATE
        )
        UPDATE model_series s
        SET check_id = NULL, checked_at = coalesce(%b::timestamptz, s.checked_at)
        FROM locked WHERE s.id = locked.id
        RETURNING s.machine_id, s.model_type
        """,
        [run_id, checked_at],
        binary=True,
    )
    ours = set(found.fetchall())
    skipped = {
        one.position.subject.model_id
        for one in seen.judged
        if one.position.subject.series not in ours
    }
    if skipped:
        seen.n_judged -= sum(
            one.is_new and one.position.subject.model_id in skipped for one in seen.judged
        )
        seen.results.leave_out(skipped)
        seen.judged = [one for one in seen.judged if one.position.subject.model_id not in skipped]
        for model_id in skipped & seen.kept.keys():
            del seen.kept[model_id]
    return skipped


def _decide(
    seen: Seen, now: datetime, skipped: Collection[uuid.UUID]
) -> tuple[Changes, list[alerts_fleet.Member]]:
    changes = alerts_following.decide(
        (_followed(one, seen, now) for one in seen.judged if one.position.subject.is_active),
        cut_off=lambda one: seen.cut_off.of(one.policy.q),
    )
    gathering = Gathering(changes, seen.types, seen.falls, skipped, since=seen.since)
    if seen.types:
        gathering.gather(alerts_fleet.read())
    return changes, gathering.members


def _followed(one: Judged, seen: Seen, now: datetime) -> Followed:
    model_id = one.position.subject.model_id
    missing = drift_following.overdue(one, now)
    if missing is not None:
        seen.overdue.add(model_id)
    features = seen.features.get(model_id, [])
    return drift_following.followed_with(
        one,
        missing=missing,
        features=features,
        own_part=seen.own_parts.get(model_id),
        compares=bool(seen.types),
    )


def _carry_out(
    changes: Changes, members: Sequence[alerts_fleet.Member], seen: Seen, *, now: datetime
) -> None:
    if seen.types:
        alerts_writing.carry_out(changes, now=now, members=members)
    else:
        alerts_writing.apply(changes, now=now)


def _store(seen: Seen, changes: Changes, report: Report, scope: Scope, by: str) -> None:
    now = report.finished_at
    seen.results.save(now=now)
    CheckRun.objects.bulk_create(
        [
            CheckRun(
                id=report.check_run_id,
                started_at=report.started_at,
                finished_at=report.finished_at,
                started_by=by,
                model_type=scope.model_type,
                machine_id=scope.machine_id,
                n_series=report.n_series,
                n_rejected=report.n_rejected,
                n_judged=report.n_judged,
                n_skipped=report.n_skipped,
                summary=report.summary,
            )
        ]
    )
    told = changes.documents()
    rationed = {"n_series": report.n_series, "n_rejected": report.n_rejected}
    reasons = {
        one.position.subject.model_id: {
            **rationed,
            "cut_off": seen.cut_off.of(one.position.policy.q),
            "q_value": seen.q_values.get(one.position.subject.model_id),
            **told.get(one.position.subject.model_id, {}),
        }
        for one in seen.judged
    }
    drift_store.store_verdicts(
        list(seen.kept.values()), reasons, check_run_id=report.check_run_id, now=now
    )
    drift_store.tell_reasons(
        {
            one.position.state.stored_verdict_id: reasons[model_id]
            for one in seen.judged
            if (model_id := one.position.subject.model_id) in changes.touched
            and model_id not in seen.kept
            and one.position.state is not None
            and one.position.state.stored_verdict_id is not None
        }
    )
