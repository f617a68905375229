"""Where the judgement of model versions stands: what was folded, and what has come since."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from modelperf.services.alerts_conditions import OpenAlert
from modelperf.services.database import execute
from modelperf.services.drift_history import EMPTY, NEWEST_FIRST, PACKED, History, unpacked
from modelperf.services.metrics_rows import Rank, Subject
from modelperf.services.metrics_store import SUBJECT_COLUMNS
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
_N_SUBJECT: Final = SUBJECT_COLUMNS.count(",") + 1


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
    """Where the judgement of a model version stands, read under the lock of its series.

    The last three are there for the judgement of one more evaluation: the evaluations it looks
    at; for a first one whether lower versions were evaluated; how far successors were judged.
    """

    subject: Subject
    registered_at: datetime
    policy: PolicyValues
    state: State | None
    newest: Newest | None
    open_alerts: tuple[OpenAlert, ...]
    context: History = EMPTY
    has_predecessor: bool = False
    successor_judged: Rank | None = None

    def judged_later(self, rank: Rank) -> bool:
        """Whether a successor was judged beyond a place: it may have begun with the noise of it."""
        return self.successor_judged is not None and self.successor_judged > rank

    def is_due(self, rank: Rank, now: datetime) -> bool:
        """Whether a window is old enough to be judged: its labels have had time to arrive."""
        delay = self.policy.label_delay_seconds
        return not delay or rank[0] <= now - timedelta(seconds=delay)


_JUDGED = (
    "AND (evaluation_end, evaluation_start) <= (d.last_evaluation_end, d.last_evaluation_start)"
)
_COLUMNS = f"""
    {SUBJECT_COLUMNS}, v.created_at,
    to_jsonb(array_remove(ARRAY[to_jsonb(of_type), to_jsonb(of_machine)], NULL)),
    d.metric, d.rules, d.fold, d.verdict,
    d.last_evaluation_end, d.last_evaluation_start, d.is_stale, d.stored_verdict_id,
    newest.id, newest.evaluation_end, newest.evaluation_start,
    (SELECT jsonb_agg(jsonb_build_object(
        'id', a.id, 'model_id', a.model_id, 'model_version', a.model_version,
        'condition_key', a.condition_key, 'alert_type', a.alert_type,
        'severity', a.severity, 'occurrences', a.occurrences, 'details', a.alert_details,
        'opened_at', a.alert_timestamp, 'seen_through', a.seen_through))
     FROM model_alerts a
     WHERE a.machine_id = v.machine_id AND a.model_type = v.model_type
        AND NOT a.is_resolved)
"""
# Windows whose labels may still be missing are not judged yet.
_TABLES = """
    model_versions v
    JOIN machines m ON m.id = v.machine_id
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


def read_position(model_id: uuid.UUID, *, now: datetime) -> Position:
    """Return where a model version stands, with the context that its next evaluation needs."""
    found = execute(
        f"""
        SELECT {_COLUMNS}, newest.id IS NULL AND EXISTS (
                SELECT FROM model_performance_metrics e
                WHERE e.machine_id = v.machine_id AND e.model_type = v.model_type
                    AND e.model_version < v.model_version),
            successor.last_evaluation_end, successor.last_evaluation_start, context.packed
        FROM {_DUE}
        LEFT JOIN LATERAL (
            SELECT s.last_evaluation_end, s.last_evaluation_start
            FROM model_versions n JOIN model_drift_states s ON s.model_id = n.id
            WHERE n.machine_id = v.machine_id AND n.model_type = v.model_type
                AND n.model_version > v.model_version AND NOT s.is_stale
            ORDER BY s.last_evaluation_end DESC, s.last_evaluation_start DESC
            LIMIT 1
        ) AS successor ON true
        LEFT JOIN LATERAL (
            SELECT {PACKED} AS packed FROM (
                {NEWEST_FIRST.format(metric="d.metric", of="v", id="id", until=_JUDGED)}
                LIMIT (d.fold ->> 'n_seen')::int - (d.fold ->> 'needs_from')::int
            ) AS newest_first
        ) AS context ON NOT d.is_stale
        WHERE v.id = %b
        """,
        [now, model_id],
    ).fetchone()
    if found is None:
        raise AssertionError("a locked model version is there")
    *columns, has_predecessor, successor_end, successor_start, packed = found
    return replace(
        _position(tuple(columns), packed),
        has_predecessor=has_predecessor,
        successor_judged=None if successor_end is None else (successor_end, successor_start),
    )


def read_positions(model_ids: Iterable[uuid.UUID], *, now: datetime) -> list[Position]:
    """Return where model versions stand, without context."""
    found = execute(f"SELECT {_COLUMNS} FROM {_DUE} WHERE v.id = ANY(%b)", [now, list(model_ids)])
    return [_position(row) for row in found]


def positions_in_service(*, now: datetime, as_of: datetime | None = None) -> list[Position]:
    """Return where all versions on machines in service stand, by name.

    With `as_of` as if nothing that ended later had been recorded.
    """
    found = execute(
        f"SELECT {_COLUMNS} FROM {_DUE_THEN if as_of else _DUE} WHERE m.is_active"
        " ORDER BY m.name, v.model_type, v.model_version, v.id",
        [as_of or now],
    )
    return [_position(row) for row in found]


def _position(row: tuple[Any, ...], packed: bytes | None = None) -> Position:
    subject, row = Subject(*row[:_N_SUBJECT]), row[_N_SUBJECT:]
    registered_at, policy, *state, metric_id, end, start, open_alerts = row
    known = None if state[0] is None else _state(state)
    return Position(
        subject=subject,
        registered_at=registered_at,
        policy=read_policies(policy),
        state=known,
        newest=None if metric_id is None else Newest(metric_id, end, start),
        open_alerts=() if open_alerts is None else _decode(open_alerts, tuple[OpenAlert, ...]),
        context=unpacked(packed, n_total=known.fold.n_seen if known else 0),
    )


def _state(columns: Sequence[Any]) -> State:
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
