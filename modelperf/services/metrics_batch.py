"""Storing many evaluations at once: new ones by COPY, known ones compared, others corrected."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from modelperf.services import metrics_store
from modelperf.services.metrics_rows import Rank, Row, Subject, is_same, with_values

Placed = tuple[Row, Subject]


class Stored(NamedTuple):
    """What became of a row."""

    metric_id: uuid.UUID
    status: str
    revision: int


def store(placed: Sequence[Placed]) -> list[Stored]:
    """Store rows of locked series and bring latest rows and drift states in line with them."""
    if len(placed) == 1:
        return [_store_one(*placed[0])]
    stored = _store([row for row, _ in placed])
    by_status: dict[str, list[Placed]] = {"created": [], "revised": [], "unchanged": []}
    for one, row_and_subject in zip(stored, placed, strict=True):
        by_status[one.status].append(row_and_subject)
    _offer_latest(by_status["created"])
    _mark_stale(by_status["created"] + by_status["revised"])
    _refresh_latest(by_status["revised"])
    return stored


def _store_one(row: Row, subject: Subject) -> Stored:
    """Store a row; a new one with its latest row and its mark on the drift state at once."""
    if metrics_store.insert(row, beside=metrics_store.stale_statement({subject: row.rank})):
        return _created(row)
    stored = correct(row, metrics_store.existing([row])[row.key])
    if stored.status == "revised":
        _mark_stale([(row, subject)])
        _refresh_latest([(row, subject)])
    return stored


def _store(rows: list[Row]) -> list[Stored]:
    """Store rows in the order of their keys, in which nobody waits for anybody in a circle."""
    keyed = sorted((row.key, place, row) for place, row in enumerate(rows))
    first = [keyed[0], *(this for before, this in pairwise(keyed) if before[0] != this[0])]
    once = [row for _, _, row in first]
    if len(once) == len(rows) and metrics_store.copy(once):
        return [_created(row) for row in rows]
    new = metrics_store.copy_missing(once)
    held = metrics_store.existing(once)
    return [_created(row) if row.id in new else correct(row, held[row.key]) for row in rows]


def _created(row: Row) -> Stored:
    return Stored(row.id, "created", 1)


def correct(row: Row, old: dict[str, Any]) -> Stored:
    """Revise what is stored under the row's key where its values differ; `old` becomes them."""
    if is_same(row, old):
        return Stored(old["id"], "unchanged", old["revision"])
    metrics_store.revise(row, metric_id=old["id"], old=old)
    old.update(with_values(row), revision=old["revision"] + 1)
    return Stored(old["id"], "revised", old["revision"])


def _offer_latest(placed: Iterable[Placed]) -> None:
    """Offer the newest row of each series as its latest."""
    newest: dict[tuple[int, str], Placed] = {}
    for row, subject in placed:
        series = (row.machine_id.int, row.model_type)
        if series not in newest or _newness(row, subject) > _newness(*newest[series]):
            newest[series] = (row, subject)
    if newest:
        metrics_store.offer_latest([row for row, _ in newest.values()])


def _newness(row: Row, subject: Subject) -> tuple[Rank, bool, int]:
    return row.rank, subject.is_active, row.model_version


def _mark_stale(placed: Iterable[Placed]) -> None:
    """Mark the drift states that have counted a place at which something changed."""
    late: dict[Subject, Rank] = {}
    for row, subject in placed:
        if subject.may_have_judged(row.rank):
            late[subject] = min(row.rank, late.get(subject, row.rank))
    if late:
        metrics_store.mark_stale(late)


def _refresh_latest(placed: Iterable[Placed]) -> None:
    """Recompute the latest rows of series in which evaluations were corrected."""
    series = {subject.series for _, subject in placed}
    if series:
        metrics_store.refresh_latest(series)
