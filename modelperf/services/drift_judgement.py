"""Judging a model version: fold its new evaluations, store the state, let the alerts follow.

Record, drift/check and every later check come through here, so they agree by construction.
"""

from __future__ import annotations

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
    Position,
    Rank,
    State,
    count_after,
    newest_ids,
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


def judge_stored(subject: Subject, position: Position, *, now: datetime) -> dict[str, Any]:
    """Judge the stored evaluations of a version that are not judged yet; return the verdict."""
    metric = position.policy.judged_metric(reported_metrics(subject)) if position.newest else None
    rules = position.policy.rules(metric) if metric else None
    if position.newest is None or metric is None or rules is None:
        return _not_judged(subject, position, metric, now=now)
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
    _write_verdicts(subject, judged)
    save(subject, position, judged, rank=position.newest.rank, now=now)
    return judged.verdict


def _not_judged(
    subject: Subject, position: Position, metric: str | None, *, now: datetime
) -> dict[str, Any]:
    """Forget the state of a version without anything to judge, and what it was alerted for."""
    verdict = {**NOT_JUDGED, "metric": metric}
    if position.state is not None:
        execute("DELETE FROM model_drift_states WHERE model_id = %s", [subject.model_id])
    follow(subject, position, verdict, replayed=True, now=now)
    return verdict


def current_verdict(position: Position) -> dict[str, Any] | None:
    """Return the stored verdict where it still holds: on all that is stored, by these rules."""
    state, newest = position.state, position.newest
    if state is None or newest is None or state.is_stale or state.last != newest.rank:
        return None
    metric = position.policy.judged_metric([state.metric])
    rules = position.policy.rules(metric) if metric else None
    is_good = metric is not None and rules is not None and _is_good(state, metric, rules)
    return state.verdict if is_good else None


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


def _write_verdicts(subject: Subject, judged: Judged) -> None:
    """Write each newly judged evaluation the verdict of its own prefix."""
    judgement = judged.judgement
    metric_ids = newest_ids(subject, len(judgement.statistics))
    scores = [None if isnan(score) else score for score in judgement.statistics.tolist()]
    detected = (judgement.degraded | judgement.crossed).tolist()
    metrics_store.write_verdicts(
        [
            (metric_id, subject.machine_id, is_wrong, score, judged.rules.threshold)
            for metric_id, is_wrong, score in zip(metric_ids, detected, scores, strict=True)
        ]
    )


def save(
    subject: Subject, position: Position, judged: Judged, *, rank: Rank, now: datetime
) -> None:
    """Store the state of a version, and let its series' alerts follow."""
    execute(*state_statement(subject, judged, rank=rank, now=now))
    follow(subject, position, judged.verdict, replayed=judged.replayed, now=now)


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


def follow(
    subject: Subject,
    position: Position,
    verdict: dict[str, Any],
    *,
    replayed: bool,
    now: datetime,
) -> None:
    """Let a series' alerts follow the verdict on its active version, on a machine in service."""
    if position.is_active and subject.in_service:
        alerts.follow_verdict(
            subject=subject,
            verdict=verdict,
            open_alerts=position.open_alerts,
            replayed=replayed,
            now=now,
        )
