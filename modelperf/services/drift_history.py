"""The evaluations that judging looks at, packed by PostgreSQL: one value a row costs too much."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelperf.services.database import stream
from modelperf.services.metrics_rows import Rank, Row, Subject
from modelperf.stats.warm_start import REMEMBERED

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PACKED_ROW = np.dtype(
    [("value", ">f8"), ("count", ">f8"), ("start", ">f8"), ("end", ">f8"), ("id", "V16")]
)


@dataclass(frozen=True, slots=True)
class History:
    """Evaluations of one model version in order: positions `offset` to the newest."""

    values: NDArray[np.float64]
    counts: NDArray[np.float64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    ids: NDArray[np.void]
    offset: int = 0
    before: History | None = None  # of the version before, where it was wanted and there is one

    def __len__(self) -> int:
        return self.values.size

    def appended(self, row: Row, value: float | None) -> History:
        """Return the history with one more evaluation that is newer than all of it."""
        return History(
            np.append(self.values, np.nan if value is None else value),
            np.append(self.counts, row.sample_count),
            np.append(self.starts, _seconds(row.evaluation_start)),
            np.append(self.ends, _seconds(row.evaluation_end)),
            np.append(self.ids, np.void(row.id.bytes)),
            self.offset,
        )

    def starts_at(self, position: int) -> datetime | None:
        """Return when the window at an absolute position began; None before this history."""
        index = position - self.offset
        return _moment(float(self.starts[index])) if index >= 0 else None

    def metric_ids(self, first: int) -> list[uuid.UUID]:
        """Return the ids of the evaluations from an absolute position on."""
        return [uuid.UUID(bytes=one.tobytes()) for one in self.ids[first - self.offset :]]


_NOTHING = np.empty(0)
EMPTY = History(_NOTHING, _NOTHING, _NOTHING, _NOTHING, np.empty(0, "V16"))


class Wanted(NamedTuple):
    """Which evaluations of a version to read: the newest `limit` (None: all) of one metric.

    `n_total` is how many there are up to `until`, the place of the newest to read. `with_before`
    asks for what the version before had shown when this one began.
    """

    subject: Subject
    metric: str
    limit: int | None
    n_total: int
    until: Rank
    with_before: bool = False


# Shared with the position of a version, which brings the context of its next judgement along.
PACKED = """
    string_agg(float8send(value) || float8send(sample_count::float8)
        || float8send(extract(epoch FROM evaluation_start)::float8)
        || float8send(extract(epoch FROM evaluation_end)::float8) || uuid_send(id), ''::bytea)
"""
NEWEST_FIRST = """
    SELECT coalesce((metrics ->> {metric})::float8, 'NaN') AS value, sample_count,
        evaluation_start, evaluation_end, id
    FROM model_performance_metrics
    WHERE machine_id = {of}.machine_id AND model_type = {of}.model_type AND model_id = {of}.{id}
        {until}
    ORDER BY evaluation_end DESC, evaluation_start DESC
"""
_UNTIL = "AND (evaluation_end, evaluation_start) <= (w.until_end, w.until_start)"
# The version before is the last lower one that had been evaluated when this one was for the first
# time. What it shows later is not asked for: neither the order in which the evaluations of both
# arrive nor a version that goes on beside its successor moves the noise it left.
_OF_VERSION = "machine_id = w.machine_id AND model_type = w.model_type AND model_id"
_EARLIER = "AND (evaluation_end, evaluation_start) < (first.evaluation_end, first.evaluation_start)"
_BEFORE = f"""
    SELECT (
        SELECT {PACKED} FROM (
            {NEWEST_FIRST.format(metric="w.metric", of="before", id="id", until=_EARLIER)}
            LIMIT {REMEMBERED}
        ) AS newest_first
    )
    FROM (
        SELECT evaluation_end, evaluation_start FROM model_performance_metrics
        WHERE {_OF_VERSION} = w.model_id
        ORDER BY evaluation_end, evaluation_start LIMIT 1
    ) AS first
    CROSS JOIN LATERAL (
        SELECT v.machine_id, v.model_type, v.id FROM model_versions v
        WHERE v.machine_id = w.machine_id AND v.model_type = w.model_type
            AND v.model_version < w.model_version
            AND EXISTS (
                SELECT FROM model_performance_metrics
                WHERE {_OF_VERSION} = v.id {_EARLIER}
            )
        ORDER BY v.model_version DESC LIMIT 1
    ) AS before
"""
_HISTORIES = f"""
    SELECT w.number, (
        SELECT {PACKED} FROM (
            {NEWEST_FIRST.format(metric="w.metric", of="w", id="model_id", until=_UNTIL)}
            LIMIT w.most
        ) AS newest_first
    ), CASE WHEN w.with_before THEN ({_BEFORE}) END
    FROM unnest(%b::int4[], %b::uuid[], %b::text[], %b::uuid[], %b::text[], %b::int8[],
            %b::timestamptz[], %b::timestamptz[], %b::bool[], %b::int4[])
        AS w (number, machine_id, model_type, model_id, metric, most, until_end, until_start,
            with_before, model_version)
"""


def read_histories(wanted: Sequence[Wanted]) -> Iterator[tuple[int, History]]:
    """Yield histories with their number in `wanted`, as they come: never all in memory."""
    if not wanted:
        return
    params: list[list[Any]] = [
        list(range(len(wanted))),
        [one.subject.machine_id for one in wanted],
        [one.subject.model_type for one in wanted],
        [one.subject.model_id for one in wanted],
        [one.metric for one in wanted],
        [one.limit for one in wanted],
        [one.until[0] for one in wanted],
        [one.until[1] for one in wanted],
        [one.with_before for one in wanted],
        [one.subject.model_version for one in wanted],
    ]
    for number, packed, before in stream(_HISTORIES, params):
        one = wanted[number]
        history = unpacked(packed, n_total=None if one.limit is None else one.n_total)
        yield (
            number,
            history if before is None else replace(history, before=unpacked(before, n_total=None)),
        )


def unpacked(packed: bytes | None, *, n_total: int | None) -> History:
    """Return a packed history; `n_total` is where it ends, None where it is whole."""
    if packed is None:
        return EMPTY
    block = np.frombuffer(packed, _PACKED_ROW)[::-1]
    values, counts, starts, ends = (
        np.ascontiguousarray(block[name], float) for name in ("value", "count", "start", "end")
    )
    offset = 0 if n_total is None else n_total - len(block)
    return History(values, counts, starts, ends, np.ascontiguousarray(block["id"]), offset)


def _seconds(moment: datetime) -> float:
    return (moment - _EPOCH) / timedelta(seconds=1)


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(microseconds=round(seconds * 1e6))
