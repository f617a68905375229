"""What judging leaves behind: drift states, the columns of evaluations, verdicts for good."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from math import isnan
from typing import Any, Final

import msgspec
import numpy as np

from modelperf.models.keys import uuid7
from modelperf.services import metrics_store
from modelperf.services.database import execute
from modelperf.services.drift_history import History
from modelperf.services.drift_judgement import Folded, Judged
from modelperf.services.drift_rules import rules_document
from modelperf.stats.fold import judge
from modelperf.stats.results import FoldState

# Up to so many evaluations at once each get the verdict of their own prefix; of more, those where
# something is wrong and the newest: rewriting millions of rows would take longer than judging them.
EACH_UP_TO: Final = 5_000
_encode = msgspec.json.Encoder().encode


def save(judged: Sequence[Judged], *, now: datetime) -> None:
    """Store the states of judged versions and the verdicts of their evaluations."""
    forgotten = [one.position.subject.model_id for one in judged if one.folded is None]
    if forgotten:
        execute("DELETE FROM model_drift_states WHERE model_id = ANY(%b)", [forgotten])
    folded = [one for one in judged if one.folded is not None]
    if folded:
        write_columns(folded)
        execute(*states_statement(folded, now=now))


def states_statement(judged: Iterable[Judged], *, now: datetime) -> tuple[str, list[Any]]:
    """Return the statement that stores the states of judged versions."""
    rows = [_state(one, one.folded) for one in judged if one.folded is not None]
    return _SAVE, [now, *map(list, zip(*rows, strict=True))]


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


_SAVE = """
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


def write_columns(judged: Sequence[Judged]) -> None:
    """Write newly judged evaluations the verdict of their own prefix."""
    folds = [(one.position.subject.machine_id, one.folded) for one in judged if one.folded]
    each = sum(len(folded.scores) for _, folded in folds) <= EACH_UP_TO
    metrics_store.write_verdicts(
        [
            (metric_id, machine_id, detected, score, folded.rules.threshold)
            for machine_id, folded in folds
            for metric_id, detected, score in _columns(folded, each=each)
        ]
    )


def _columns(folded: Folded, *, each: bool) -> list[tuple[uuid.UUID, bool, float | None]]:
    history, detected = folded.history, folded.detected
    chosen = np.ones(len(detected), bool) if each else detected.copy()
    chosen[-1:] = True
    first = len(history) - len(detected)
    return [
        (
            uuid.UUID(bytes=history.ids[first + at].tobytes()),
            bool(detected[at]),
            None if isnan(score := float(folded.scores[at])) else score,
        )
        for at in np.flatnonzero(chosen)
    ]


def store_verdicts(
    judged: Sequence[Judged],
    reasons: dict[uuid.UUID, dict[str, Any]],
    *,
    check_run_id: uuid.UUID | None,
    now: datetime,
) -> dict[uuid.UUID, uuid.UUID]:
    """Store verdicts for good, with why there is an alert or none; return their ids by model."""
    rows = [
        (uuid7(), *_verdict_row(one, one.folded, reasons.get(one.position.subject.model_id, {})))
        for one in judged
        if one.folded is not None
    ]
    if rows:
        execute(_STORE, [now, check_run_id, *map(list, zip(*rows, strict=True))])
    return {row[1]: row[0] for row in rows}


def _verdict_row(one: Judged, folded: Folded, reason: dict[str, Any]) -> tuple[Any, ...]:
    subject, end = one.position.subject, folded.after
    before = state_before(folded)
    first = min(before.needs_from, end.n_seen - 1)
    looked_at = _from(folded.history, first)
    keeps_inputs = changed(one) or bool(reason.get("touched"))
    if one.rank is None:
        raise AssertionError("what was folded has a place")
    return (
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
        _encode(_inputs(looked_at)).decode() if keeps_inputs else None,
        _encode(reason).decode(),
    )


_STORE = """
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


def state_before(folded: Folded) -> FoldState:
    """Return the state before the newest evaluation, from which the verdict follows.

    Where nothing was or is wrong that is the state after it, one evaluation earlier; otherwise
    the evaluations before it are folded once more.
    """
    end, before = folded.after, folded.before
    was_wrong = bool(folded.detected[-2:].any()) or _is_wrong(before)
    if not was_wrong and not _is_wrong(end):
        return replace(end, n_seen=end.n_seen - 1, needs_from=min(end.needs_from, end.n_seen - 1))
    history = folded.history
    return judge(
        history.values[:-1],
        history.counts[:-1],
        rules=folded.rules,
        state=before,
        offset=history.offset,
    ).state


def _is_wrong(state: FoldState) -> bool:
    return state.incident is not None or state.crossing is not None


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


def _inputs(history: History) -> dict[str, Any]:
    """Return evaluations as they stand in a stored verdict: columns; missing values are null."""
    return {
        "ids": [str(one) for one in history.metric_ids(history.offset)],
        "values": [None if isnan(value) else value for value in history.values.tolist()],
        "sample_counts": history.counts.astype(int).tolist(),
        "starts": history.starts.tolist(),
        "ends": history.ends.tolist(),
    }
