"""Where the judgement of model versions stands: what was folded, and what has come since."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from modelperf.services.alerts_conditions import OpenAlert
from modelperf.services.database import execute
from modelperf.services.drift_history import EMPTY, NEWEST_FIRST, PACKED, History, unpacked
from modelperf.services.metrics_rows import Rank, Subject
from modelperf.services.policies import PolicyValues, read_policies
from modelperf.stats.results import FoldState


class Newest(NamedTuple):
    """The newest stored evaluation of a model version."""

    metric_id: uuid.UUID
    evaluation_end: datetime
    evaluation_start: datetime

    @property
    def rank(self) -> Rank:
        """Place within the evaluations of the version."""
        return self.evaluation_end, self.evaluation_start


_LARGEST_EXACT: Final = 2**53


@dataclass(frozen=True, slots=True)
class State:
    """The stored drift state of a model version."""

    metric: str
    rules: dict[str, Any]
    fold: FoldState
    verdict: dict[str, Any]
    last: Rank
    is_stale: bool
    stored_verdict_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where the judgement of a model version stands, read under the lock of its series."""

    subject: Subject
    is_active: bool
    registered_at: datetime
    policy: PolicyValues
    state: State | None
    newest: Newest | None
    open_alerts: tuple[OpenAlert, ...]
    context: History = EMPTY

    def is_due(self, rank: Rank, now: datetime) -> bool:
        """Whether a window is old enough to be judged: its labels have had time to arrive."""
        delay = self.policy.label_delay_seconds
        return not delay or rank[0] <= now - timedelta(seconds=delay)


_JUDGED = (
    "AND (evaluation_end, evaluation_start) <= (d.last_evaluation_end, d.last_evaluation_start)"
)
_COLUMNS = """
    v.id, v.is_active, v.created_at,
    to_jsonb(array_remove(ARRAY[to_jsonb(of_type), to_jsonb(of_machine)], NULL)),
    d.metric, d.rules, d.fold, d.verdict,
    d.last_evaluation_end, d.last_evaluation_start, d.is_stale, d.stored_verdict_id,
    newest.id, newest.evaluation_end, newest.evaluation_start,
    (SELECT jsonb_agg(jsonb_build_object(
        'id', a.id, 'model_id', a.model_id,
        'condition_key', a.condition_key, 'alert_type', a.alert_type,
        'severity', a.severity, 'occurrences', a.occurrences, 'details', a.alert_details))
     FROM model_alerts a
     WHERE a.machine_id = v.machine_id AND a.model_type = v.model_type
        AND NOT a.is_resolved)
"""
# Windows whose labels may still be missing are not judged yet.
_TABLES = """
    model_versions v
    LEFT JOIN model_policies of_type
        ON of_type.model_type = v.model_type AND of_type.machine_id IS NULL
    LEFT JOIN model_policies of_machine
        ON of_machine.model_type = v.model_type AND of_machine.machine_id = v.machine_id
    LEFT JOIN model_drift_states d ON d.model_id = v.id
    LEFT JOIN LATERAL (
        SELECT e.id, e.evaluation_end, e.evaluation_start
        FROM model_performance_metrics e
        WHERE e.machine_id = v.machine_id AND e.model_type = v.model_type
            AND e.model_id = v.id AND e.evaluation_end <= {until}
        ORDER BY e.evaluation_end DESC, e.evaluation_start DESC
        LIMIT 1
    ) AS newest ON true
"""
_DELAY = "coalesce(of_machine.label_delay_seconds, of_type.label_delay_seconds, 0)"
_DUE = _TABLES.format(
    until=f"CASE WHEN {_DELAY} = 0 THEN 'infinity'"
    f" ELSE %b::timestamptz - {_DELAY} * interval '1 second' END"
)
_DUE_THEN = _TABLES.format(until=f"%b::timestamptz - {_DELAY} * interval '1 second'")


def read_position(subject: Subject, *, now: datetime) -> Position:
    """Return where a model version stands, with the context that its next evaluation needs."""
    found = execute(
        f"""
        SELECT {_COLUMNS}, context.packed
        FROM {_DUE}
        LEFT JOIN LATERAL (
            SELECT {PACKED} AS packed FROM (
                {NEWEST_FIRST.format(metric="d.metric", of="v", id="id", until=_JUDGED)}
                LIMIT (d.fold ->> 'n_seen')::int - (d.fold ->> 'needs_from')::int
            ) AS newest_first
        ) AS context ON NOT d.is_stale
        WHERE v.id = %b
        """,
        [now, subject.model_id],
    ).fetchone()
    if found is None:
        raise AssertionError("a locked model version is there")
    return _position(subject, found[:-1], packed=found[-1])


def read_positions(
    subjects: Collection[Subject], *, now: datetime, as_of: datetime | None = None
) -> list[Position]:
    """Return where model versions stand, without context; `as_of` leaves out what came later."""
    by_id = {subject.model_id: subject for subject in subjects}
    found = execute(
        f"SELECT {_COLUMNS} FROM {_DUE_THEN if as_of else _DUE} WHERE v.id = ANY(%b)",
        [as_of or now, list(by_id)],
    )
    return [_position(by_id[row[0]], row) for row in found]


def _position(subject: Subject, row: tuple[Any, ...], packed: bytes | None = None) -> Position:
    state = None if row[4] is None else _state(row[4:12])
    return Position(
        subject=subject,
        is_active=row[1],
        registered_at=row[2],
        policy=read_policies(row[3]),
        state=state,
        newest=None if row[12] is None else Newest(*row[12:15]),
        open_alerts=() if row[15] is None else _decode(row[15], tuple[OpenAlert, ...]),
        context=unpacked(packed, n_total=state.fold.n_seen if state else 0),
    )


def _state(columns: tuple[Any, ...]) -> State:
    metric, rules, fold, verdict, end, start, is_stale, stored_verdict_id = columns
    return State(
        metric=metric,
        rules=_decode(rules, dict),
        fold=FoldState.from_document(_decode(fold, dict)),
        verdict=_with_floats(_decode(verdict, dict)),
        last=(end, start),
        is_stale=is_stale,
        stored_verdict_id=stored_verdict_id,
    )


def _with_floats(verdict: dict[str, Any]) -> dict[str, Any]:
    """Return a verdict with the floats it had: jsonb writes 1e100 with all its digits."""
    for document in (verdict, *verdict["conditions"]):
        for name, value in document.items():
            if isinstance(value, int) and abs(value) > _LARGEST_EXACT:
                document[name] = float(value)
    return verdict


def _decode(text: Any, kind: Any) -> Any:
    return msgspec.json.decode(text, type=kind)
