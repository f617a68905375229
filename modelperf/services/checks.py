"""Checks of the fleet: all series judged in one pass, and their alerts rationed together."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from os import cpu_count
from typing import Any, Final, NamedTuple

import psycopg
import structlog
from django.db import connection, transaction
from django.utils import timezone

from modelperf.models import CheckRun, Machine
from modelperf.models.keys import uuid7
from modelperf.services import alerts_fleet, alerts_following, drift_following, drift_store
from modelperf.services.alerts_fleet import CommonFall, Gathering, Group, Type
from modelperf.services.alerts_following import Changes, Followed
from modelperf.services.checks_common_cause import common_falls
from modelperf.services.database import execute
from modelperf.services.drift_judgement import (
    Judged,
    judge_stored,
    standing,
    standing_verdict,
)
from modelperf.services.drift_positions import Position, positions_in_service
from modelperf.services.errors import ConflictError
from modelperf.services.policies import PolicyValues
from modelperf.services.profiles_judgement import judged_features
from modelperf.stats import fleet
from modelperf.stats.fleet import CutOff

log = structlog.get_logger(__name__)

_LOCK: Final = 0x6D6F64656C706572  # "modelper": one check of the fleet at a time, in a database
WORKERS: Final = min(2, cpu_count() or 1)
Progress = Callable[[int, int], None]
_EARNED: Final = frozenset({"opened", "kept", "would_open", "in_fleet_alert"})


class Look(NamedTuple):
    """What a check says of one model version."""

    model_id: uuid.UUID
    machine_id: uuid.UUID
    machine_name: str
    model_type: str
    model_version: int
    is_active: bool
    status: str
    is_stale: bool
    metric: str | None
    statistic: float | None
    p_value: float | None
    q_value: float | None
    effect: float | None
    changed_at: str | None
    conditions: list[str]
    drifted_features: list[str]
    decisions: list[str]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check; `check_run_id` is None where nothing was stored."""

    check_run_id: uuid.UUID | None
    started_at: datetime
    finished_at: datetime
    n_series: int
    n_rejected: int
    n_judged: int
    n_skipped: int
    summary: dict[str, Any]
    looks: list[Look]

    @property
    def has_drift(self) -> bool:
        """Whether something drifts that has earned an alert."""
        return any(
            (look.conditions or look.drifted_features) and _EARNED.intersection(look.decisions)
            for look in self.looks
        )


@dataclass(slots=True)
class _Seen:
    """Everything that a check has read and judged, before anything is written."""

    judged: list[Judged]
    n_judged: int
    results: drift_store.Results
    kept: dict[uuid.UUID, drift_store.Kept]
    features: dict[uuid.UUID, list[dict[str, Any]]]
    cut_off: CutOff
    q_values: dict[uuid.UUID, float]
    types: dict[str, Type]
    falls: dict[Group, CommonFall] = field(default_factory=dict)
    overdue: set[uuid.UUID] = field(default_factory=set)


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
    scope = _Scope(model_type, machine.pk if machine else None)
    stores = as_of is None and not dry_run
    run_id = uuid7()
    with _alone():
        if stores:
            _mark(run_id, scope)
        with _snapshot():
            seen = _see(scope, now=started_at, as_of=as_of, progress=progress)
        changes, members, skipped = Changes(), [], set[uuid.UUID]()
        with transaction.atomic():
            if stores:
                skipped = _take(run_id, seen)
            changes, members = _decide(seen, as_of or started_at)
            if stores:
                _carry_out(changes, members, seen, now=started_at)
            else:
                changes.tell_raised("would_open")
            report = _report(seen, changes, skipped, started_at, run_id if stores else None)
            if stores:
                _store(seen, changes, report, scope, by)
    log.info("fleet_checked", by=by, dry_run=not stores, **report.summary)
    return report


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which series a check is about."""

    model_type: str
    machine_id: uuid.UUID | None

    def has(self, position: Position) -> bool:
        subject = position.subject
        return self.model_type in {"", subject.model_type} and (
            self.machine_id in {None, subject.machine_id}
        )


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


def _mark(run_id: uuid.UUID, scope: _Scope) -> None:
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


def _see(scope: _Scope, *, now: datetime, as_of: datetime | None, progress: Progress) -> _Seen:
    everything = positions_in_service(now=now, as_of=as_of)
    positions = [one for one in everything if scope.has(one)]
    results, kept = drift_store.Results(), dict[uuid.UUID, drift_store.Kept]()
    judged: list[Judged] = []
    n_judged = 0
    for one in _judge(positions):
        model_id = one.position.subject.model_id
        if one.is_new:
            n_judged += 1
            results.add(one)
        if one.folded is not None:
            kept[model_id] = drift_store.kept(one, one.folded)
        judged.append(one.without_history())
        progress(len(judged), len(positions))
    cut_off, q_values = _ration(everything, judged)
    features = {
        model_id: [_brief(one) for one in found]
        for model_id, found in judged_features(
            model_ids=[one.subject.model_id for one in positions if one.subject.is_active],
            as_of=as_of,
        )
    }
    whole_types = scope.machine_id is None
    return _Seen(
        judged=judged,
        n_judged=n_judged,
        results=results,
        kept=kept,
        features=features,
        cut_off=cut_off,
        q_values=q_values,
        types=_types(positions) if whole_types else {},
        falls=common_falls(judged, cut_off=lambda one: cut_off.of(one.position.policy.q))
        if whole_types
        else {},
    )


def _judge(positions: Sequence[Position]) -> Iterator[Judged]:
    """Yield every version: newly judged, or with the verdict that still holds."""
    known: set[uuid.UUID] = set()
    for one in judge_stored(positions, workers=WORKERS):
        known.add(one.position.subject.model_id)
        yield one
    rest = [one for one in positions if one.subject.model_id not in known]
    unkept = [one for one in rest if one.state and one.state.stored_verdict_id is None]
    for one in standing(unkept):
        known.add(one.position.subject.model_id)
        yield one
    for position in rest:
        if position.subject.model_id not in known:
            yield standing_verdict(position)


def _ration(
    everything: Sequence[Position], judged: Sequence[Judged]
) -> tuple[CutOff, dict[uuid.UUID, float]]:
    """Return the cut-off of p over all active versions, and the q-value of each."""
    now = {one.position.subject.model_id: one.verdict for one in judged}
    p_values: dict[uuid.UUID, float] = {}
    q: list[float] = []
    for position in everything:
        model_id = position.subject.model_id
        verdict = now.get(model_id) or (position.state.verdict if position.state else None)
        if position.subject.is_active and verdict and verdict["p_value"] is not None:
            p_values[model_id] = verdict["p_value"]
            q.append(position.policy.q)
    found = list(p_values.values())
    adjusted = fleet.q_values(found).tolist() if found else []
    return fleet.cut_off(found, q), dict(zip(p_values, adjusted, strict=True))


_BRIEF: Final = (
    *("name", "role", "status", "statistic", "p_value", "q_value", "ks_distance", "psi"),
    *("threshold", "window_start"),
)


def _brief(feature: Mapping[str, Any]) -> dict[str, Any]:
    """Return a feature's verdict without its histograms."""
    return {name: feature.get(name) for name in _BRIEF}


def _types(positions: Sequence[Position]) -> dict[str, Type]:
    policies: dict[str, list[PolicyValues]] = defaultdict(list)
    for one in positions:
        if one.subject.is_active:
            policies[one.subject.model_type].append(one.policy)
    return {
        name: Type(len(found), Counter(found).most_common(1)[0][0])
        for name, found in policies.items()
    }


def _take(run_id: uuid.UUID, seen: _Seen) -> set[uuid.UUID]:
    """Lock the series that are still as they were read; leave the others to the next check."""
    found = execute(
        """
        WITH locked AS (
            SELECT id FROM model_series WHERE check_id = %b
            ORDER BY machine_id, model_type FOR UPDATE
        )
        UPDATE model_series s SET check_id = NULL FROM locked WHERE s.id = locked.id
        RETURNING s.machine_id, s.model_type
        """,
        [run_id],
        binary=True,
    )
    ours = set(found.fetchall())
    skipped = {
        one.position.subject.model_id
        for one in seen.judged
        if one.position.subject.series not in ours
    }
    if skipped:
        seen.results.leave_out(skipped)
        seen.judged = [one for one in seen.judged if one.position.subject.model_id not in skipped]
        for model_id in skipped & seen.kept.keys():
            del seen.kept[model_id]
    return skipped


def _decide(seen: _Seen, now: datetime) -> tuple[Changes, list[alerts_fleet.Member]]:
    changes = alerts_following.decide(
        (_followed(one, seen, now) for one in seen.judged if one.position.subject.is_active),
        cut_off=lambda one: seen.cut_off.of(one.policy.q),
    )
    gathering = Gathering(
        changes,
        seen.types,
        seen.falls,
        frozenset(one.position.subject.model_id for one in seen.judged),
    )
    if seen.types:
        gathering.gather(alerts_fleet.read_open())
    return changes, gathering.members


def _followed(one: Judged, seen: _Seen, now: datetime) -> Followed:
    model_id = one.position.subject.model_id
    missing = drift_following.overdue(one, now)
    if missing is not None:
        seen.overdue.add(model_id)
    features = seen.features.get(model_id, [])
    return drift_following.followed_with(one, missing=missing, features=features)


def _carry_out(
    changes: Changes, members: Sequence[alerts_fleet.Member], seen: _Seen, *, now: datetime
) -> None:
    if seen.types:
        alerts_following.carry_out(changes, now=now)
    else:
        alerts_following.apply(changes, now=now)
    alerts_fleet.write_members(members, changes.alert_ids, now)


def _store(seen: _Seen, changes: Changes, report: Report, scope: _Scope, by: str) -> None:
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


def _report(
    seen: _Seen,
    changes: Changes,
    skipped: set[uuid.UUID],
    started_at: datetime,
    run_id: uuid.UUID | None,
) -> Report:
    looks = [_look(one, seen, changes) for one in seen.judged]
    active = [look for look in looks if look.is_active]
    summary = {
        "by_status": dict(Counter("stale" if one.is_stale else one.status for one in active)),
        "opened": _count(changes, "opened"),
        "cleared": _count(changes, "cleared"),
        "above_cut_off": _count(changes, "above_cut_off"),
        "in_fleet_alerts": _count(changes, "in_fleet_alert"),
        "fleet_alerts": changes.fleet_keys(),
        "drifted_features": sum(bool(one.drifted_features) for one in active),
    }
    return Report(
        check_run_id=run_id,
        started_at=started_at,
        finished_at=max(timezone.now(), started_at),
        n_series=seen.cut_off.n_judged,
        n_rejected=seen.cut_off.n_rejected,
        n_judged=seen.n_judged,
        n_skipped=len(skipped),
        summary=summary,
        looks=looks,
    )


def _count(changes: Changes, decision: str) -> int:
    entries = (entry for told in changes.reasons.values() for entry in told)
    return sum(entry["decision"] == decision for entry in entries)


def _look(one: Judged, seen: _Seen, changes: Changes) -> Look:
    subject, verdict = one.position.subject, one.verdict
    decisions = changes.reasons.get(subject.model_id, [])
    features = seen.features.get(subject.model_id, [])
    return Look(
        model_id=subject.model_id,
        machine_id=subject.machine_id,
        machine_name=subject.machine_name,
        model_type=subject.model_type,
        model_version=subject.model_version,
        is_active=subject.is_active,
        status=verdict["status"],
        is_stale=subject.model_id in seen.overdue,
        metric=verdict["metric"],
        statistic=verdict["statistic"],
        p_value=verdict["p_value"],
        q_value=seen.q_values.get(subject.model_id),
        effect=verdict["effect"],
        changed_at=verdict["changed_at"],
        conditions=[condition["rule"] for condition in verdict["conditions"]],
        drifted_features=[one["name"] for one in features if one["status"] == "drifted"],
        decisions=[entry["decision"] for entry in decisions],
    )
