"""What judging a model version reads: where its judgement stands, and its evaluations."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelperf.services.alerts_conditions import OpenAlert
from modelperf.services.database import execute
from modelperf.services.drift_rules import PolicyValues
from modelperf.services.metrics_rows import Row, Subject
from modelperf.stats.results import FoldState

Rank = tuple[datetime, datetime]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Newest(NamedTuple):
    """The newest stored evaluation of a model version."""

    metric_id: uuid.UUID
    evaluation_end: datetime
    evaluation_start: datetime

    @property
    def rank(self) -> Rank:
        """Place within the evaluations of the version."""
        return self.evaluation_end, self.evaluation_start


@dataclass(frozen=True, slots=True)
class State:
    """The stored drift state of a model version."""

    metric: str
    rules: dict[str, Any]
    fold: FoldState
    verdict: dict[str, Any]
    last: Rank
    is_stale: bool


@dataclass(frozen=True, slots=True)
class History:
    """Evaluations of one model version in order: positions `offset` to the newest."""

    values: NDArray[np.float64]
    counts: NDArray[np.float64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    offset: int = 0

    def __len__(self) -> int:
        return self.values.size

    def appended(self, row: Row, value: float | None) -> History:
        """Return the history with one more evaluation that is newer than all of it."""
        return History(
            np.append(self.values, np.nan if value is None else value),
            np.append(self.counts, row.sample_count),
            np.append(self.starts, _seconds(row.evaluation_start)),
            np.append(self.ends, _seconds(row.evaluation_end)),
            self.offset,
        )

    def starts_at(self, position: int) -> datetime | None:
        """Return when the window at an absolute position began; None before this history."""
        index = position - self.offset
        return _moment(float(self.starts[index])) if index >= 0 else None


_NOTHING = np.empty(0)
EMPTY = History(_NOTHING, _NOTHING, _NOTHING, _NOTHING)


@dataclass(frozen=True, slots=True)
class Position:
    """Where the judgement of a model version stands, read under the lock of its series."""

    is_active: bool
    policy: PolicyValues
    state: State | None
    newest: Newest | None
    open_alerts: tuple[OpenAlert, ...]
    context: History


def read_position(subject: Subject) -> Position:
    """Return where the judgement of a model version stands."""
    found = execute(
        f"""
        SELECT v.is_active,
            p.primary_metric, p.directions, p.min_effect, p.limit_value, p.clear_value,
            d.metric, d.rules, d.fold, d.verdict,
            d.last_evaluation_end, d.last_evaluation_start, d.is_stale,
            newest.id, newest.evaluation_end, newest.evaluation_start,
            (SELECT jsonb_agg(jsonb_build_object(
                'id', a.id, 'model_id', a.model_id,
                'condition_key', a.condition_key, 'alert_type', a.alert_type,
                'severity', a.severity, 'occurrences', a.occurrences, 'details', a.alert_details))
             FROM model_alerts a
             WHERE a.machine_id = v.machine_id AND a.model_type = v.model_type
                AND NOT a.is_resolved),
            context.packed
        FROM model_versions v
        LEFT JOIN model_policies p ON p.model_type = v.model_type
        LEFT JOIN model_drift_states d ON d.model_id = v.id
        LEFT JOIN LATERAL (
            SELECT e.id, e.evaluation_end, e.evaluation_start
            FROM model_performance_metrics e
            WHERE e.machine_id = v.machine_id AND e.model_type = v.model_type
                AND e.model_id = v.id
            ORDER BY e.evaluation_end DESC, e.evaluation_start DESC
            LIMIT 1
        ) AS newest ON true
        LEFT JOIN LATERAL (
            SELECT {_PACKED} AS packed FROM (
                {_NEWEST_FIRST.format(metric="d.metric")}
                LIMIT (d.fold ->> 'n_seen')::int - (d.fold ->> 'needs_from')::int
            ) AS newest_first
        ) AS context ON NOT d.is_stale
        WHERE v.id = %s
        """,
        [*_series(subject), subject.model_id],
    ).fetchone()
    if found is None:
        raise AssertionError("a locked model version is there")
    state = None if found[6] is None else _state(found[6:13])
    return Position(
        is_active=found[0],
        policy=PolicyValues() if found[1] is None else _policy(found[1:6]),
        state=state,
        newest=None if found[13] is None else Newest(*found[13:16]),
        open_alerts=() if found[16] is None else _decode(found[16], tuple[OpenAlert, ...]),
        context=_unpacked(found[17], n_total=state.fold.n_seen if state else 0),
    )


def _policy(columns: tuple[Any, ...]) -> PolicyValues:
    primary_metric, directions, min_effect, limit_value, clear_value = columns
    return PolicyValues(
        primary_metric, _decode(directions, dict), min_effect, limit_value, clear_value
    )


def _state(columns: tuple[Any, ...]) -> State:
    metric, rules, fold, verdict, end, start, is_stale = columns
    return State(
        metric=metric,
        rules=_decode(rules, dict),
        fold=FoldState.from_document(_decode(fold, dict)),
        verdict=_decode(verdict, dict),
        last=(end, start),
        is_stale=is_stale,
    )


def _decode(text: Any, kind: Any) -> Any:
    return msgspec.json.decode(text, type=kind)


# One value a row would cost more to decode than to judge.
_PACKED = """
    string_agg(float8send(value) || float8send(sample_count::float8)
        || float8send(extract(epoch FROM evaluation_start)::float8)
        || float8send(extract(epoch FROM evaluation_end)::float8), ''::bytea)
"""
_NEWEST_FIRST = """
    SELECT coalesce((metrics ->> {metric})::float8, 'NaN') AS value, sample_count,
        evaluation_start, evaluation_end
    FROM model_performance_metrics
    WHERE machine_id = %s AND model_type = %s AND model_id = %s
    ORDER BY evaluation_end DESC, evaluation_start DESC
"""


def read_history(subject: Subject, metric: str, *, limit: int | None, n_total: int) -> History:
    """Return the newest `limit` evaluations (None: all) of `n_total`, packed by PostgreSQL."""
    found = execute(
        f"SELECT {_PACKED} FROM ({_NEWEST_FIRST.format(metric='%s')} LIMIT %s) AS newest_first",
        [metric, *_series(subject), limit],
        binary=True,
    ).fetchone()
    return _unpacked(found[0] if found else None, n_total=None if limit is None else n_total)


def _series(subject: Subject) -> tuple[uuid.UUID, str, uuid.UUID]:
    return subject.machine_id, subject.model_type, subject.model_id


def _unpacked(packed: bytes | None, *, n_total: int | None) -> History:
    """Return a packed history; `n_total` is where it ends, None where it is whole."""
    if packed is None:
        return EMPTY
    block = np.frombuffer(packed, ">f8").astype(float).reshape(-1, 4)[::-1]
    values, counts, starts, ends = np.ascontiguousarray(block.T)
    return History(values, counts, starts, ends, 0 if n_total is None else n_total - len(block))


def count_after(subject: Subject, rank: Rank | None) -> int:
    """Return how many evaluations of a version are newer than a place (None: all there are)."""
    found = execute(
        """
        SELECT count(*) FROM model_performance_metrics
        WHERE machine_id = %s AND model_type = %s AND model_id = %s
            AND (evaluation_end, evaluation_start) > (%s, %s)
        """,
        [*_series(subject), *(rank or (_EPOCH, _EPOCH))],
    ).fetchone()
    return 0 if found is None else int(found[0])


def newest_ids(subject: Subject, n: int) -> list[uuid.UUID]:
    """Return the ids of the newest `n` evaluations of a version, oldest first."""
    found = execute(
        """
        SELECT id FROM model_performance_metrics
        WHERE machine_id = %s AND model_type = %s AND model_id = %s
        ORDER BY evaluation_end DESC, evaluation_start DESC
        LIMIT %s
        """,
        [*_series(subject), n],
        binary=True,
    )
    return [metric_id for (metric_id,) in found.fetchall()][::-1]


def reported_metrics(subject: Subject) -> list[str]:
    """Return the names of all metrics that a version's evaluations report."""
    found = execute(
        """
        SELECT DISTINCT jsonb_object_keys(metrics) FROM model_performance_metrics
        WHERE machine_id = %s AND model_type = %s AND model_id = %s
        """,
        _series(subject),
    )
    return [name for (name,) in found]


def _seconds(moment: datetime) -> float:
    return (moment - _EPOCH) / timedelta(seconds=1)


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(microseconds=round(seconds * 1e6))
