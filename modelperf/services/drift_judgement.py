"""Judging a model version: fold its new evaluations, store the state, let the alerts follow.

Record, drift/check and every later check come through here, so they agree by construction.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from math import isnan
from typing import Any

import msgspec

from modelperf.services import alerts, metrics_store
from modelperf.services.database import execute
from modelperf.services.drift_history import (
    EMPTY,
    History,
    Newest,
    Position,
    Rank,
    State,
    count_after,
    read_history,
    reported_metrics,
)
from modelperf.services.drift_rules import rules_document
from modelperf.services.metrics_rows import Row, Subject
from modelperf.stats.fold import Judgement, judge
from modelperf.stats.results import Condition, FoldState, Rules, Verdict

NOT_JUDGED: dict[str, Any] = {
    "status": "insufficient_data",
    "rule": None,
    "metric": None,
    "statistic": None,
    "threshold": None,
    "p_value": None,
    "phi": None,
    "effect": None,
    "baseline": None,
    "current": None,
    "change_index": None,
    "change_low": None,
    "change_high": None,
    "changed_at": None,
    "changed_after": None,
    "changed_before": None,
    "n_evaluations": 0,
    "needed": None,
    "outlier_window": False,
    "conditions": [],
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict and what has to be stored with it."""

    metric: str
    rules: Rules
    history: History
    judgement: Judgement
    verdict: dict[str, Any]
    replayed: bool

    @property
    def detected(self) -> bool:
        """Whether something is wrong now: degraded, or beyond an absolute limit."""
        return is_detected(self.verdict)


def is_detected(verdict: dict[str, Any]) -> bool:
    """Whether a stored verdict says that something is wrong."""
    return bool(verdict["conditions"])


def judge_appended(position: Position, row: Row) -> Judged | None:
    """Judge an evaluation that is not stored yet and newer than all of its version.

    None where that needs what is stored: nothing was judged yet, or not under these rules.
    """
    names = list(msgspec.json.decode(row.metrics))
    state, newest = position.state, position.newest
    if newest is not None and (state is None or state.is_stale or state.last != newest.rank):
        return None
    fresh = newest is None
    metric = position.policy.judged_metric(
        names if fresh or state is None else [*names, state.metric]
    )
    rules = position.policy.rules(metric) if metric else None
    if metric is None or rules is None:
        return None
    if fresh or state is None:
        history, fold = EMPTY, FoldState()
    elif _is_good(state, metric, rules):
        history, fold = position.context, state.fold
    else:
        return None
    value = msgspec.json.decode(row.metrics).get(metric)
    return _judged(metric, rules, history.appended(row, value), fold, state, replayed=False)


def judge_stored(
    subject: Subject, position: Position, *, mark: Mark | None = None, now: datetime
) -> dict[str, Any]:
    """Judge the stored evaluations of a version that are not judged yet; return the verdict."""
    if position.newest is None:
        return NOT_JUDGED
    metric = position.policy.judged_metric(reported_metrics(subject))
    rules = position.policy.rules(metric) if metric else None
    if metric is None or rules is None:
        return {**NOT_JUDGED, "metric": metric}
    state = position.state
    good = state is not None and not state.is_stale and _is_good(state, metric, rules)
    history, fold = _unjudged(subject, metric, state if good else None)
    judged = _judged(
        metric,
        rules,
        history,
        fold,
        state if good else None,
        replayed=state is not None and not good,
    )
    _write_verdicts(subject, position.newest, judged, fold, mark)
    save(subject, position, judged, rank=position.newest.rank, now=now)
    return judged.verdict


def _is_good(state: State, metric: str, rules: Rules) -> bool:
    return state.metric == metric and state.rules == rules_document(rules)


def _unjudged(subject: Subject, metric: str, state: State | None) -> tuple[History, FoldState]:
    if state is None:
        return read_history(subject, metric, limit=None, n_total=0), FoldState()
    new = count_after(subject, state.last)
    context = state.fold.n_seen - state.fold.needs_from
    total = state.fold.n_seen + new
    return read_history(subject, metric, limit=context + new, n_total=total), state.fold


def _judged(
    metric: str,
    rules: Rules,
    history: History,
    fold: FoldState,
    state: State | None,
    *,
    replayed: bool,
) -> Judged:
    judgement = judge(
        history.values, history.counts, rules=rules, state=fold, offset=history.offset
    )
    dates = _Dates(history, state)
    verdict = verdict_document(judgement.verdict, metric, dates)
    return Judged(metric, rules, history, judgement, verdict, replayed)


@dataclass(frozen=True, slots=True)
class _Dates:
    """From positions to dates; those before the loaded history were stored when they were in it."""

    history: History
    state: State | None

    def __call__(self, position: int | None) -> str | None:
        if position is None:
            return None
        moment = self.history.starts_at(position)
        if moment is not None:
            return moment.isoformat().replace("+00:00", "Z")
        return self._stored(position)

    def _stored(self, position: int) -> str | None:
        if self.state is None:
            return None
        verdict = self.state.verdict
        dated = {entry["change_index"]: entry["changed_at"] for entry in verdict["conditions"]}
        dated |= {verdict[f"change_{at}"]: verdict[f"changed_{by}"] for at, by in _DATED}
        return dated.get(position)


_DATED = (("low", "after"), ("high", "before"), ("index", "at"))
_VERDICT_FIELDS = [one.name for one in fields(Verdict)]


def verdict_document(verdict: Verdict, metric: str, dates: _Dates) -> dict[str, Any]:
    """Return a verdict as it is stored and answered: plain values, positions with their dates."""
    document = {name: getattr(verdict, name) for name in _VERDICT_FIELDS}
    return document | {
        "status": verdict.status.value,
        "rule": verdict.rule.value if verdict.rule else None,
        "metric": metric,
        **{f"changed_{by}": dates(document[f"change_{at}"]) for at, by in _DATED},
        "conditions": [_condition(condition, dates) for condition in verdict.conditions],
    }


def _condition(condition: Condition, dates: _Dates) -> dict[str, Any]:
    return asdict(condition) | {
        "rule": condition.rule.value,
        "changed_at": dates(condition.change_index),
    }


@dataclass(frozen=True, slots=True)
class Mark:
    """An evaluation that gets the verdict of its own prefix beside the newest one."""

    metric_id: uuid.UUID
    row: Row


def _write_verdicts(
    subject: Subject, newest: Newest, judged: Judged, fold: FoldState, mark: Mark | None
) -> None:
    verdict = judged.verdict
    newest_row = (judged.detected, verdict["statistic"], verdict["threshold"])
    rows = [(newest.metric_id, subject.machine_id, *newest_row)]
    if mark is not None and mark.metric_id != newest.metric_id:
        at = judged.history.index_of(mark.row) + judged.history.offset - fold.n_seen
        score = float(judged.judgement.statistics[at])
        own = (bool(judged.judgement.degraded[at]), None if isnan(score) else score)
        rows.append((mark.metric_id, subject.machine_id, *own, verdict["threshold"]))
    metrics_store.write_verdicts(rows)


def save(
    subject: Subject, position: Position, judged: Judged, *, rank: Rank, now: datetime
) -> None:
    """Store the state of a version, and let its series' alerts follow."""
    execute(*state_statement(subject, judged, rank=rank, now=now))
    follow(subject, position, judged, now=now)


def state_statement(
    subject: Subject, judged: Judged, *, rank: Rank, now: datetime
) -> tuple[str, list[Any]]:
    """Return the statement that stores the state of a version."""
    encode = msgspec.json.encode
    params = [
        subject.model_id,
        judged.metric,
        encode(rules_document(judged.rules)).decode(),
        encode(judged.judgement.state.to_document()).decode(),
        encode(judged.verdict).decode(),
        judged.verdict["status"],
        *rank,
        now,
    ]
    return _SAVE, params


_SAVE = """
    INSERT INTO model_drift_states AS d (model_id, metric, rules, fold, verdict, status,
        last_evaluation_end, last_evaluation_start, is_stale, judged_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, false, %s)
    ON CONFLICT (model_id) DO UPDATE SET metric = EXCLUDED.metric, rules = EXCLUDED.rules,
        fold = EXCLUDED.fold, verdict = EXCLUDED.verdict, status = EXCLUDED.status,
        last_evaluation_end = EXCLUDED.last_evaluation_end,
        last_evaluation_start = EXCLUDED.last_evaluation_start,
        is_stale = false, judged_at = EXCLUDED.judged_at
"""


def follow(subject: Subject, position: Position, judged: Judged, *, now: datetime) -> None:
    """Let a series' alerts follow the verdict on its active version, on a machine in service."""
    if position.is_active and subject.in_service:
        alerts.follow_verdict(
            subject=subject,
            verdict=judged.verdict,
            open_alerts=position.open_alerts,
            replayed=judged.replayed,
            now=now,
        )


def forget(model_ids: Iterable[Any]) -> None:
    """Drop the states of versions whose last evaluation was deleted."""
    execute("DELETE FROM model_drift_states WHERE model_id = ANY(%s)", [list(model_ids)])
