"""Storing many evaluations at once: new ones by COPY, known ones compared, others corrected."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from modelperf.services import metrics_store
from modelperf.services.metrics_rows import (
    Evaluation,
    Rank,
    Row,
    Subject,
    build,
    is_same,
    key,
    with_values,
)

Placed = tuple[Row, Subject]
Status = Literal["created", "unchanged", "revised"]


class Stored(NamedTuple):
    """What became of a row."""

    metric_id: uuid.UUID
    status: Status
    revision: int


def store(
    evaluations: Sequence[Evaluation], about: Sequence[Subject], *, by: str, now: datetime
) -> list[tuple[Row, Stored]]:
    """Store checked evaluations of locked series; latest rows and drift states follow them."""
    rows = _Rows(evaluations, about, by, now)
    stored = _store(rows)
    by_status: dict[Status, list[Placed]] = {"created": [], "revised": [], "unchanged": []}
    for place, one in enumerate(stored):
        by_status[one.status].append((rows[place], about[place]))
    _offer_latest(by_status["created"])
    _mark_stale(by_status["created"] + by_status["revised"])
    _refresh_latest(by_status["revised"])
    return [(rows[place], one) for place, one in enumerate(stored)]


def store_one(row: Row, subject: Subject) -> Stored:
    """Store a row; a new one with its latest row and its mark on the drift state at once."""
    sql, params = metrics_store.stale_statement({subject: row.rank})
    if metrics_store.insert(row, beside=(f"{sql} AND EXISTS (SELECT FROM stored)", params)):
        return _created(row)
    stored = correct(row, metrics_store.existing([row])[key(row)])
    if stored.status == "revised":
        _mark_stale([(row, subject)])
        _refresh_latest([(row, subject)])
    return stored


class _Rows(dict[int, Row]):
    """The rows of a batch by place, each built when it is first asked for."""

    def __init__(
        self, evaluations: Sequence[Evaluation], about: Sequence[Subject], by: str, now: datetime
    ) -> None:
        self.evaluations, self.about, self.by, self.now = evaluations, about, by, now

    def __missing__(self, place: int) -> Row:
        row = build(self.evaluations[place], subject=self.about[place], by=self.by, now=self.now)
        self[place] = row
        return row


def _store(rows: _Rows) -> list[Stored]:
    """Store rows in the order of their keys, in which nobody waits for anybody in a circle.

    Rows are built while they are copied: the server works on the first ones meanwhile.
    """
    n = len(rows.evaluations)
    keyed = sorted((key(evaluation), place) for place, evaluation in enumerate(rows.evaluations))
    once = [keyed[0], *(this for before, this in pairwise(keyed) if before[0] != this[0])]
    if len(once) == n and metrics_store.copy(rows[place] for _, place in once):
        return [_created(rows[place]) for place in range(n)]
    first = [rows[place] for _, place in once]
    new = metrics_store.copy_missing(first)
    held = metrics_store.existing(first)
    return [
        _created(row) if row.id in new else correct(row, held[key(row)])
        for row in (rows[place] for place in range(n))
    ]


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
