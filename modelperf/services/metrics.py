"""Recording evaluations: one, judged at once, or a batch, judged by the next check."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from modelperf.models import ModelPerformanceMetric
from modelperf.services import drift_following, drift_store, metrics_batch, metrics_store
from modelperf.services.database import repeated
from modelperf.services.drift_judgement import (
    Judged,
    current_verdict,
    is_detected,
    judge_appended,
)
from modelperf.services.drift_positions import read_position, read_positions
from modelperf.services.drift_recommendation import recommendation
from modelperf.services.errors import FieldError, InvalidError, NotFoundError
from modelperf.services.metrics_batch import Status
from modelperf.services.metrics_rows import Evaluation, Rank, Row, Subject, build, problems

__all__ = ["LARGEST_BATCH", "Evaluation", "Recorded", "delete", "record", "record_batch"]

LARGEST_BATCH = 5_000
Machines = frozenset[uuid.UUID] | None


class Recorded(msgspec.Struct, frozen=True):
    """What became of an evaluation, and the verdict on its model version as it stands now."""

    metric_id: uuid.UUID
    status: Status
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
    found = problems(evaluation, subject)
    if found:
        raise InvalidError(found[0].msg, found)
    now = timezone.now()
    row = build(evaluation, subject=subject, by=by, now=now)
    position = read_position(subject.model_id, now=now)
    is_newest = position.newest is None or row.rank > position.newest.rank
    if is_newest and position.is_due(row.rank, now):
        judged = judge_appended(position, row)
        if judged is not None:
            return _append(row, judged, now)
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


def _append(row: Row, judged: Judged, now: datetime) -> Recorded:
    """Store a newest evaluation with its verdict: the usual case, and the fast one."""
    if judged.folded is None:
        raise AssertionError("an evaluation that was judged was folded")
    detected, score, threshold = drift_store.of_newest(judged.folded)
    row = row._replace(drift_detected=detected, drift_score=score, drift_threshold=threshold)
    metrics_store.insert(row, beside=drift_store.states_statement([judged], now=now))
    drift_following.follow([judged], now=now)
    return _answer(row.id, "created", 1, judged.verdict)


def _insert(subject: Subject, row: Row, now: datetime) -> Recorded:
    """Store a late, repeated or corrected evaluation and judge its version anew."""
    stored = metrics_batch.store_one(row, subject)
    position = read_position(subject.model_id, now=now)
    verdict = current_verdict(position)
    if stored.status == "unchanged" and verdict is not None:
        return _answer(*stored, verdict)
    return _answer(*stored, drift_following.settle([position], now=now)[subject.model_id])


def _answer(
    metric_id: uuid.UUID, status: Status, revision: int, verdict: dict[str, Any]
) -> Recorded:
    return Recorded(
        metric_id=metric_id,
        status=status,
        revision=revision,
        drift_detected=is_detected(verdict),
        drift_score=verdict["statistic"],
        recommendation=recommendation(verdict),
        verdict=verdict,
    )


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
    about = _about(evaluations, subjects)
    now = timezone.now()
    if len(evaluations) == 1:
        row = build(evaluations[0], subject=about[0], by=by, now=now)
        stored = [(row, metrics_batch.store_one(row, about[0]))]
    else:
        stored = metrics_batch.store(evaluations, about, by=by, now=now)
    if not judge:
        return [Recorded(*one) for _, one in stored]
    verdicts = drift_following.settle(read_positions(subjects, now=now), now=now)
    return [_answer(*one, verdicts[row.model_id]) for row, one in stored]


def _locked(model_ids: set[uuid.UUID], machine_ids: Machines) -> dict[uuid.UUID, Subject]:
    """Lock the series of the models and return what the caller may see of them, by id."""
    if len(model_ids) == 1:
        subject = metrics_store.lock_subject(*model_ids)
        found = {} if subject is None else {subject.model_id: subject}
    else:
        metrics_store.lock_series(model_ids)
        found = metrics_store.subjects(model_ids)
    return {id_: one for id_, one in found.items() if _visible(one.machine_id, machine_ids)}


def _about(evaluations: Sequence[Evaluation], subjects: dict[uuid.UUID, Subject]) -> list[Subject]:
    """Return whom each evaluation is about; refuse the batch where one cannot be recorded."""
    found: list[FieldError] = []
    about: list[Subject] = []
    for number, evaluation in enumerate(evaluations):
        subject = subjects.get(evaluation.model_id)
        found += problems(evaluation, subject, at=("body", number))
        if subject is not None:
            about.append(subject)
    if found:
        raise InvalidError(f"{len(found)} value(s) of the batch cannot be recorded.", found[:100])
    return about


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
    first: dict[Subject, Rank] = {}
    for metric in doomed:
        subject, rank = subjects[metric.model_id], (metric.evaluation_end, metric.evaluation_start)
        first[subject] = min(rank, first.get(subject, rank))
    metrics_store.mark_stale(first)
    now = timezone.now()
    drift_following.settle(read_positions(subjects, now=now), now=now)
    return len(doomed)


def refresh_latest(series: Iterable[tuple[uuid.UUID, str]]) -> None:
    """Recompute the latest rows of series, as after the activation of another version."""
    metrics_store.refresh_latest(series)
