"""Recording evaluations: one, judged at once, or a batch, judged by the next check."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from modelperf.models import ModelPerformanceMetric
from modelperf.services import drift_judgement, metrics_store
from modelperf.services.database import repeated
from modelperf.services.drift_history import Position, read_position
from modelperf.services.drift_recommendation import recommendation
from modelperf.services.errors import FieldError, InvalidError, NotFoundError
from modelperf.services.metrics_rows import Evaluation, Row, Subject, build, problems

__all__ = ["LARGEST_BATCH", "Evaluation", "Recorded", "delete", "record", "record_batch"]

LARGEST_BATCH = 5_000
Machines = frozenset[uuid.UUID] | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an evaluation, and the verdict on its model version as it stands now."""

    metric_id: uuid.UUID
    status: str
    revision: int
    drift_detected: bool = False
    drift_score: float | None = None
    recommendation: str | None = None
    verdict: dict[str, Any] | None = None


def record(*, evaluation: Evaluation, by: str, machine_ids: Machines = None) -> Recorded:
    """Record one evaluation and judge its model version, in one transaction with its alert.

    The same evaluation again stores nothing; other values for the same window are a revision. A
    server that goes away in between is waited for: the natural key makes the second try safe.

    Raises
    ------
    NotFoundError
        The model or machine is unknown, or not within `machine_ids`.
    InvalidError
        A value is not one that can be recorded.
    """
    return repeated(lambda: _record(evaluation, by, machine_ids))


@transaction.atomic
def _record(evaluation: Evaluation, by: str, machine_ids: Machines) -> Recorded:
    subject = metrics_store.lock_subject(evaluation.model_id)
    subject = _known(evaluation, subject, machine_ids)
    found = problems(evaluation, {subject.model_id: subject})
    if found:
        raise InvalidError(found[0].msg, found)
    now = timezone.now()
    row = build(evaluation, subject=subject, by=by, now=now)
    position = read_position(subject)
    if position.newest is None or row.rank > position.newest.rank:
        judged = drift_judgement.judge_appended(position, row)
        if judged is not None:
            return _append(subject, row, position, judged, now)
    return _insert(subject, row, now)


def _known(evaluation: Evaluation, subject: Subject | None, machine_ids: Machines) -> Subject:
    if subject is None or not _visible(subject.machine_id, machine_ids):
        raise NotFoundError("Model not found")
    if evaluation.machine_id != subject.machine_id and not (
        _visible(evaluation.machine_id, machine_ids)
        and metrics_store.machine_exists(evaluation.machine_id)
    ):
        raise NotFoundError("Machine not found")
    return subject


def _visible(machine_id: uuid.UUID, machine_ids: Machines) -> bool:
    return machine_ids is None or machine_id in machine_ids


def _append(
    subject: Subject,
    row: Row,
    position: Position,
    judged: drift_judgement.Judged,
    now: datetime,
) -> Recorded:
    """Store a newest evaluation with its verdict: the usual case, and the fast one."""
    row = row._replace(
        drift_detected=judged.detected,
        drift_score=judged.verdict["statistic"],
        drift_threshold=judged.verdict["threshold"],
    )
    state = drift_judgement.state_statement(subject, judged, rank=row.rank, now=now)
    metrics_store.insert(row, beside=state)
    drift_judgement.follow(subject, position, judged, now=now)
    return _answer(row.id, "created", 1, judged.verdict)


def _insert(subject: Subject, row: Row, now: datetime) -> Recorded:
    """Store a late, repeated or corrected evaluation and judge its version anew."""
    old = metrics_store.existing([row]).get(row.key)
    if old is None:
        metrics_store.insert(row)
        metric_id, status, revision = row.id, "created", 1
    elif _is_same(row, old):
        metric_id, status, revision = old["id"], "unchanged", old["revision"]
    else:
        metrics_store.revise(row, metric_id=old["id"], old=old)
        metrics_store.refresh_latest([subject.series])
        metric_id, status, revision = old["id"], "revised", old["revision"] + 1
    if status != "unchanged":
        metrics_store.mark_stale({subject.model_id: row.rank})
    position = read_position(subject)
    if status == "unchanged" and position.state is not None:
        return _answer(metric_id, status, revision, position.state.verdict)
    mark = drift_judgement.Mark(metric_id, row)
    verdict = drift_judgement.judge_stored(subject, position, mark=mark, now=now)
    return _answer(metric_id, status, revision, verdict)


def _answer(metric_id: uuid.UUID, status: str, revision: int, verdict: dict[str, Any]) -> Recorded:
    return Recorded(
        metric_id=metric_id,
        status=status,
        revision=revision,
        drift_detected=drift_judgement.is_detected(verdict),
        drift_score=verdict["statistic"],
        recommendation=recommendation(verdict),
        verdict=verdict,
    )


def _is_same(row: Row, old: dict[str, Any]) -> bool:
    new = row._asdict()
    return all(_plain(name, new[name]) == _plain(name, old[name]) for name in metrics_store.VALUES)


def _plain(name: str, value: Any) -> Any:
    """Return a value in a form that compares: JSON is text in the table and bytes in a row."""
    return msgspec.json.decode(value) if name in ("metrics", "metadata") else value


def record_batch(
    *,
    evaluations: Sequence[Evaluation],
    by: str,
    judge: bool = False,
    machine_ids: Machines = None,
) -> list[Recorded]:
    """Record 1 to 5,000 evaluations, all or nothing, and answer in their order.

    Without `judge` the next check judges them. An evaluation that comes twice in one batch with
    other values is a revision of the one before it.

    Raises
    ------
    InvalidError
        Some evaluation cannot be recorded; each error names its row, from 0.
    """
    if not 1 <= len(evaluations) <= LARGEST_BATCH:
        raise InvalidError(f"A batch holds 1 to {LARGEST_BATCH} evaluations.")
    return repeated(lambda: _record_batch(evaluations, by, judge, machine_ids))


@transaction.atomic
def _record_batch(
    evaluations: Sequence[Evaluation], by: str, judge: bool, machine_ids: Machines
) -> list[Recorded]:
    subjects = _locked({evaluation.model_id for evaluation in evaluations}, machine_ids)
    _refuse_problems(evaluations, subjects)
    now = timezone.now()
    rows = [build(e, subject=subjects[e.model_id], by=by, now=now) for e in evaluations]
    stored = _store_one(rows[0]) if len(rows) == 1 else None
    if stored is None:
        stored = _store(rows, subjects)
        _follow_up(rows, stored, subjects)
    if judge:
        verdicts = {model_id: _judge(subject, now) for model_id, subject in subjects.items()}
        stored = [
            _answer(one.metric_id, one.status, one.revision, verdicts[row.model_id])
            for row, one in zip(rows, stored, strict=True)
        ]
    return stored


def _locked(model_ids: set[uuid.UUID], machine_ids: Machines) -> dict[uuid.UUID, Subject]:
    """Lock the series of the models and return what the caller may see of them, by id."""
    if len(model_ids) == 1:
        subject = metrics_store.lock_subject(*model_ids)
        found = {} if subject is None else {subject.model_id: subject}
    else:
        metrics_store.lock_series(model_ids)
        found = metrics_store.subjects(model_ids)
    return {id_: one for id_, one in found.items() if _visible(one.machine_id, machine_ids)}


def _refuse_problems(evaluations: Sequence[Evaluation], subjects: dict[uuid.UUID, Subject]) -> None:
    found: list[FieldError] = []
    for number, evaluation in enumerate(evaluations):
        found += problems(evaluation, subjects, at=("body", number))
    if found:
        raise InvalidError(f"{len(found)} value(s) of the batch cannot be recorded.", found[:100])


def _store_one(row: Row) -> list[Recorded] | None:
    """Store a row with all that follows in one statement; None where its key was there."""
    late = metrics_store.stale_statement({row.model_id: row.rank})
    return [Recorded(row.id, "created", 1)] if metrics_store.insert(row, beside=late) else None


def _store(rows: Sequence[Row], subjects: dict[uuid.UUID, Subject]) -> list[Recorded]:
    """Store rows: by one statement where all are new, else the new ones and then corrections."""
    once = {row.key: row for row in reversed(rows)}
    if len(once) == len(rows) > 1 and metrics_store.copy(rows):
        _offer_latest(rows, subjects)
        return [Recorded(row.id, "created", 1) for row in rows]
    new = metrics_store.copy_missing(list(once.values()))
    _offer_latest([row for row in rows if row.id in new], subjects)
    held = metrics_store.existing(list(once.values()))
    return [
        Recorded(row.id, "created", 1) if row.id in new else _correct(row, held[row.key])
        for row in rows
    ]


def _offer_latest(rows: Sequence[Row], subjects: dict[uuid.UUID, Subject]) -> None:
    """Offer the newest row of each series as its latest."""
    newest: dict[tuple[uuid.UUID, str], Row] = {}
    for row in rows:
        series = (row.machine_id, row.model_type)
        if series not in newest or _newness(row, subjects) > _newness(newest[series], subjects):
            newest[series] = row
    if newest:
        metrics_store.offer_latest(list(newest.values()))


def _correct(row: Row, old: dict[str, Any]) -> Recorded:
    """Revise what is stored under the row's key where its values differ, and note the new ones."""
    if _is_same(row, old):
        return Recorded(old["id"], "unchanged", old["revision"])
    metrics_store.revise(row, metric_id=old["id"], old=old)
    old.update({name: getattr(row, name) for name in metrics_store.VALUES})
    old["revision"] += 1
    return Recorded(old["id"], "revised", old["revision"])


def _follow_up(
    rows: Sequence[Row], stored: Sequence[Recorded], subjects: dict[uuid.UUID, Subject]
) -> None:
    """Bring drift states and, after corrections, latest rows in line with what was stored."""
    late: dict[uuid.UUID, metrics_store.Rank] = {}
    revised = set()
    for row, one in zip(rows, stored, strict=True):
        subject = subjects[row.model_id]
        if one.status != "unchanged" and subject.may_have_judged(row.rank):
            late[row.model_id] = min(row.rank, late.get(row.model_id, row.rank))
        if one.status == "revised":
            revised.add(subject.series)
    if late:
        metrics_store.mark_stale(late)
    if revised:
        metrics_store.refresh_latest(revised)


def _newness(row: Row, subjects: dict[uuid.UUID, Subject]) -> tuple[datetime, datetime, bool, int]:
    return (*row.rank, subjects[row.model_id].is_active, row.model_version)


def _judge(subject: Subject, now: datetime) -> dict[str, Any]:
    return drift_judgement.judge_stored(subject, read_position(subject), now=now)


@transaction.atomic
def delete(*, metrics: Iterable[ModelPerformanceMetric], by: str) -> int:
    """Delete evaluations with their revisions, and judge what is left of their versions."""
    doomed = list(metrics)
    if not doomed:
        return 0
    model_ids = {metric.model_id for metric in doomed}
    metrics_store.lock_series(model_ids)
    subjects = metrics_store.subjects(model_ids)
    metrics_store.delete([(metric.pk, metric.machine_id) for metric in doomed])
    metrics_store.refresh_latest({subject.series for subject in subjects.values()})
    first: dict[uuid.UUID, metrics_store.Rank] = {}
    for metric in doomed:
        rank = (metric.evaluation_end, metric.evaluation_start)
        first[metric.model_id] = min(rank, first.get(metric.model_id, rank))
    metrics_store.mark_stale(first)
    now = timezone.now()
    for subject in subjects.values():
        verdict = _judge(subject, now)
        if verdict is drift_judgement.NOT_JUDGED:
            drift_judgement.forget([subject.model_id])
    return len(doomed)


def refresh_latest(series: Iterable[tuple[uuid.UUID, str]]) -> None:
    """Recompute the latest rows of series, as after the activation of another version."""
    metrics_store.refresh_latest(series)
