"""What judging leaves behind: drift states, the columns of evaluations, verdicts for good."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from math import isnan
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from modelperf.models.keys import uuid7
from modelperf.services import metrics_store
from modelperf.services.database import execute
from modelperf.services.drift_history import History
from modelperf.services.drift_judgement import Folded, Judged
from modelperf.services.drift_rules import rules_document

EACH_UP_TO: Final = 5_000
_encode = msgspec.json.Encoder().encode


class Results:
    """What judging leaves behind, gathered version by version and written all at once.

    Up to `EACH_UP_TO` evaluations each get the verdict of their own prefix; of more only those
    where something is wrong, and the newest of each version: rewriting millions of rows would
    take longer than judging them. What was wrong before and no longer is, is taken back however
    many they are.
    """

    def __init__(self) -> None:
        self._forgotten: list[uuid.UUID] = []
        self._again: dict[uuid.UUID, tuple[uuid.UUID, str]] = {}
        self._states: dict[uuid.UUID, tuple[Any, ...]] = {}
        self._columns: dict[uuid.UUID, list[tuple[Any, ...]]] = {}
        self._n_evaluations = 0

    def add(self, one: Judged) -> None:
        """Take in a version that was judged, or could not be."""
        model_id = one.position.subject.model_id
        if one.replayed and one.position.state is not None:
            self._again[model_id] = one.position.subject.series
        if one.folded is None:
            self._forgotten.append(model_id)
            return
        self._states[model_id] = _state(one, one.folded)
        had_each = self._n_evaluations <= EACH_UP_TO
        self._n_evaluations += len(one.folded.scores)
        has_each = self._n_evaluations <= EACH_UP_TO
        if had_each and not has_each:
            for columns in self._columns.values():
                columns[:] = [column for column in columns if column[-1]]
        machine_id = one.position.subject.machine_id
        self._columns[model_id] = _columns(one.folded, machine_id, each=has_each)

    def leave_out(self, model_ids: Iterable[uuid.UUID]) -> None:
        """Forget versions: what was read of them has changed meanwhile."""
        left_out = set(model_ids)
        for model_id in left_out:
            self._states.pop(model_id, None)
            self._columns.pop(model_id, None)
            self._again.pop(model_id, None)
        self._forgotten = [one for one in self._forgotten if one not in left_out]

    def save(self, *, now: datetime) -> None:
        """Write drift states and the columns of evaluations."""
        columns = [column[:-1] for columns in self._columns.values() for column in columns]
        self._take_back({column[0] for column in columns})
        metrics_store.write_verdicts(columns)
        if self._states or self._forgotten:
            execute(*_states_statement(list(self._states.values()), self._forgotten, now))

    def _take_back(self, written: Collection[uuid.UUID]) -> None:
        """Take back that something was wrong at evaluations judged anew that are not written."""
        if self._again:
            series = map(list, zip(*self._again.values(), strict=True))
            execute(_TAKE_BACK, [list(written), list(self._again), *series])


_TAKEN_BACK: Final = """
    UPDATE {table} AS e SET drift_detected = false, drift_score = NULL, drift_threshold = NULL
    FROM again
    WHERE e.machine_id = again.machine_id AND e.model_type = again.model_type
        AND e.model_id = again.model_id AND e.drift_detected
        AND NOT EXISTS (SELECT FROM written WHERE written.id = e.id)
"""
_TAKE_BACK: Final = f"""
    WITH written AS (SELECT unnest(%b::uuid[]) AS id), again AS (
        SELECT * FROM unnest(%b::uuid[], %b::uuid[], %b::text[])
            AS w (model_id, machine_id, model_type)
    ), rows AS ({_TAKEN_BACK.format(table=metrics_store.TABLE)})
    {_TAKEN_BACK.format(table=metrics_store.LATEST)}
"""


def states_statement(judged: Iterable[Judged], *, now: datetime) -> tuple[str, list[Any]]:
    """Return the statement that stores the states of judged versions."""
    rows = [_state(one, one.folded) for one in judged if one.folded is not None]
    return _states_statement(rows, [], now)


def _states_statement(
    rows: Sequence[tuple[Any, ...]], forgotten: list[uuid.UUID], now: datetime
) -> tuple[str, list[Any]]:
    columns = map(list, zip(*rows, strict=True)) if rows else [[]] * _N_STATE
    sql = f"WITH forgotten AS ({_FORGET}) {_SAVE}" if forgotten else _SAVE
    return sql, [*([forgotten] if forgotten else []), now, *columns]


def _state(one: Judged, folded: Folded) -> tuple[Any, ...]:
    if one.rank is None:
        raise AssertionError("what was folded has a place")
    return (
        one.position.subject.model_id,
        folded.metric,
        _encode(rules_document(folded.rules)).decode(),
        _encode(folded.after.to_document()).decode(),
        _encode(one.verdict).decode(),
        one.verdict["status"],
        *one.rank,
    )


_N_STATE: Final = 8
_FORGET: Final = "DELETE FROM model_drift_states WHERE model_id = ANY(%b)"
_SAVE: Final = """
    INSERT INTO model_drift_states AS d (judged_at, model_id, metric, rules, fold, verdict, status,
        last_evaluation_end, last_evaluation_start, is_stale)
    SELECT %b::timestamptz, w.*, false
    FROM unnest(%b::uuid[], %b::text[], %b::jsonb[], %b::jsonb[], %b::jsonb[], %b::text[],
        %b::timestamptz[], %b::timestamptz[]) AS w
    ON CONFLICT (model_id) DO UPDATE SET metric = EXCLUDED.metric, rules = EXCLUDED.rules,
        fold = EXCLUDED.fold, verdict = EXCLUDED.verdict, status = EXCLUDED.status,
        last_evaluation_end = EXCLUDED.last_evaluation_end,
        last_evaluation_start = EXCLUDED.last_evaluation_start,
        is_stale = false, judged_at = EXCLUDED.judged_at, stored_verdict_id = NULL
"""


def of_newest(folded: Folded) -> tuple[bool, float | None, float]:
    """Return what the newest evaluation is told: detected, score and threshold."""
    score = float(folded.scores[-1])
    return bool(folded.detected[-1]), None if isnan(score) else score, folded.rules.threshold


def _columns(folded: Folded, machine_id: uuid.UUID, *, each: bool) -> list[tuple[Any, ...]]:
    """Return what newly judged evaluations are told, and last, whether always."""
    history, detected = folded.history, folded.detected
    always = detected.copy()
    always[-1:] = True
    first = len(history) - len(detected)
    return [
        (
            uuid.UUID(bytes=history.ids[first + at].tobytes()),
            machine_id,
            bool(detected[at]),
            None if isnan(score := float(folded.scores[at])) else score,
            folded.rules.threshold,
            bool(always[at]),
        )
        for at in (range(len(detected)) if each else np.flatnonzero(always))
    ]


class Kept(NamedTuple):
    """A verdict as it is stored for good; `inputs` only where they may have to be."""

    model_id: uuid.UUID
    machine_id: uuid.UUID
    model_type: str
    metric: str
    status: str
    p_value: float | None
    verdict: str
    rules: str
    fold: str
    first_position: int
    last_position: int
    last_evaluation_end: datetime
    last_evaluation_start: datetime
    digest: int
    inputs: str | None
    has_changed: bool


def kept(one: Judged, folded: Folded) -> Kept:
    """Return a verdict with what it takes to recompute it."""
    if one.rank is None:
        raise AssertionError("what was folded has a place")
    subject, end = one.position.subject, folded.after
    before = folded.previous
    first = min(before.needs_from, end.n_seen - 1)
    looked_at = _from(folded.history, first)
    has_changed = changed(one)
    may_touch = has_changed or one.detected or bool(one.position.open_alerts)
    return Kept(
        subject.model_id,
        subject.machine_id,
        subject.model_type,
        folded.metric,
        one.verdict["status"],
        one.verdict["p_value"],
        _encode(one.verdict).decode(),
        _encode(rules_document(folded.rules)).decode(),
        _encode(before.to_document()).decode(),
        first,
        end.n_seen - 1,
        *one.rank,
        digest(looked_at),
        _encode(inputs_document(looked_at)).decode() if may_touch else None,
        has_changed,
    )


def store_verdicts(
    verdicts: Sequence[Kept],
    reasons: Mapping[uuid.UUID, dict[str, Any]],
    *,
    check_run_id: uuid.UUID | None,
    now: datetime,
) -> None:
    """Store verdicts for good, with why there is an alert or none."""
    rows = [_stored(one, reasons.get(one.model_id, {})) for one in verdicts]
    if rows:
        execute(_STORE, [now, check_run_id, *map(list, zip(*rows, strict=True))])


def tell_reasons(reasons: Mapping[uuid.UUID, dict[str, Any]]) -> None:
    """Write to stored verdicts what has become of their alerts since; the rest is kept."""
    if reasons:
        execute(
            """
            UPDATE model_verdicts v SET alert = v.alert || w.alert
            FROM unnest(%b::uuid[], %b::jsonb[]) AS w (id, alert) WHERE v.id = w.id
            """,
            [list(reasons), [_encode(reason).decode() for reason in reasons.values()]],
        )


def _stored(one: Kept, reason: dict[str, Any]) -> tuple[Any, ...]:
    inputs = one.inputs if one.has_changed or reason.get("touched") else None
    return (uuid7(), *one[:-2], inputs, _encode(reason).decode())


_STORE: Final = """
    WITH stored AS (
        INSERT INTO model_verdicts (judged_at, check_run_id, id, model_id, machine_id, model_type,
            metric, status, p_value, verdict, rules, fold, first_position, last_position,
            last_evaluation_end, last_evaluation_start, digest, inputs, alert)
        SELECT %b::timestamptz, %b::uuid, w.* FROM unnest(%b::uuid[], %b::uuid[], %b::uuid[],
            %b::text[], %b::text[], %b::text[], %b::float8[], %b::jsonb[], %b::jsonb[],
            %b::jsonb[], %b::int4[], %b::int4[], %b::timestamptz[], %b::timestamptz[], %b::int8[],
            %b::jsonb[], %b::jsonb[]) AS w
        RETURNING id, model_id
    )
    UPDATE model_drift_states d SET stored_verdict_id = stored.id
    FROM stored WHERE d.model_id = stored.model_id
"""


def changed(one: Judged) -> bool:
    """Whether the state is another one than at the judgement before."""
    before = one.position.state
    if before is None or one.replayed:
        return one.verdict["status"] not in {"insufficient_data", "stable"} or one.detected
    return _state_of(before.verdict) != _state_of(one.verdict)


def _state_of(verdict: dict[str, Any]) -> tuple[Any, ...]:
    conditions = sorted((one["rule"], one["change_index"]) for one in verdict["conditions"])
    return verdict["status"], verdict["rule"], conditions


def _from(history: History, first: int) -> History:
    start = max(0, first - history.offset)
    return History(
        history.values[start:],
        history.counts[start:],
        history.starts[start:],
        history.ends[start:],
        history.ids[start:],
        history.offset + start,
    )


def digest(history: History) -> int:
    """Return a number that is the same for the same evaluations: ids, values and counts."""
    content = history.ids.tobytes() + history.values.tobytes() + history.counts.tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)


def inputs_document(history: History) -> dict[str, Any]:
    """Return evaluations as they stand in a stored verdict: columns; missing values are null."""
    return {
        "ids": [str(one) for one in history.metric_ids(history.offset)],
        "values": [None if isnan(value) else value for value in history.values.tolist()],
        "sample_counts": history.counts.astype(int).tolist(),
        "starts": history.starts.tolist(),
        "ends": history.ends.tolist(),
    }
