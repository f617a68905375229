"""Judging model versions: fold their new evaluations and say what the state is.

Record, drift/check and the check of the fleet come through here, so they agree by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelperf.models import REGISTERED_METRICS
from modelperf.services.database import execute
from modelperf.services.drift_documents import Dates, verdict_document
from modelperf.services.drift_history import EMPTY, History, Wanted, read_histories
from modelperf.services.drift_positions import Position, State
from modelperf.services.drift_rules import rules_document
from modelperf.services.metrics_rows import END_OF_TIME, START_OF_TIME, Rank, Row
from modelperf.stats.fleet_fold import Series, judge_fleet
from modelperf.stats.fold import Judgement
from modelperf.stats.results import FoldState, Rules
from modelperf.stats.season import judged_values
from modelperf.stats.warm_start import first_state

DAY: Final = 86_400.0
CHUNK: Final = 512  # histories in memory at a time: 400 evaluations each are 10 MB
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
class Folded:
    """What a verdict was computed by: rules and evaluations, the state before and after.

    `previous` is the state before the newest evaluation, from which the verdict follows; `scores`
    and `detected` are about the newly judged evaluations, the last of the history.
    """

    metric: str
    rules: Rules
    history: History
    previous: FoldState
    after: FoldState
    scores: NDArray[np.float64]
    detected: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict on a version; without `folded` there was nothing that could be judged."""

    position: Position
    rank: Rank | None
    verdict: dict[str, Any]
    replayed: bool
    folded: Folded | None
    is_new: bool = True

    def without_history(self) -> Judged:
        """Return the verdict alone: the evaluations of a fleet need not stay in memory."""
        position = replace(self.position, context=EMPTY)
        return replace(self, position=position, folded=None)

    @property
    def detected(self) -> bool:
        """Whether something is wrong now: degraded, or beyond an absolute limit."""
        return is_detected(self.verdict)


def is_detected(verdict: dict[str, Any]) -> bool:
    """Whether a stored verdict says that something is wrong."""
    return bool(verdict["conditions"])


def current_verdict(position: Position) -> dict[str, Any] | None:
    """Return the stored verdict where it still holds: on all that is stored, by these rules."""
    state, newest = position.state, position.newest
    if state is None or newest is None or state.is_stale or state.last != newest.rank:
        return None
    metric = position.policy.judged_metric([state.metric])
    rules = position.policy.rules(metric) if metric else None
    is_good = metric is not None and rules is not None and _is_good(state, metric, rules)
    return state.verdict if is_good else None


def judge_appended(position: Position, row: Row) -> Judged | None:
    """Judge an evaluation that is not stored yet and newer than all of its version.

    None where that needs what is stored: nothing was judged yet, or not under these rules, or the
    version begins with the noise of the one before, or a successor judged later may have
    begun with this noise.
    """
    metrics = msgspec.json.decode(row.metrics)
    state, newest = position.state, position.newest
    if newest is None:
        state = None
    elif state is None or state.is_stale or state.last != newest.rank:
        return None
    if (newest is None and position.has_predecessor) or position.judged_later(row.rank):
        return None
    metric = position.policy.judged_metric([*metrics, state.metric] if state else metrics)
    rules = position.policy.rules(metric) if metric else None
    if metric is None or rules is None or (state and not _is_good(state, metric, rules)):
        return None
    if rules.season_period_days is not None:  # which is fitted to all there is
        return None
    plan = _Plan(position, row.rank, metric, rules, state, n_new=1)
    history = (position.context if state else EMPTY).appended(row, metrics.get(metric))
    return next(_judged([(plan, history)]))


def judge_stored(positions: Sequence[Position]) -> Iterator[Judged]:
    """Judge what is stored and not judged yet; versions whose verdict still holds are left out."""
    plans: list[_Plan] = []
    for position, reported in _reported([one for one in positions if not current_verdict(one)]):
        plan = _plan(position, reported)
        if plan is None:
            yield _not_judged(position, reported)
        else:
            plans.append(plan)
    histories = read_histories([plan.wanted() for plan in plans])
    while chunk := list(islice(histories, CHUNK)):
        yield from _judged([(plans[number], one) for number, one in chunk])


def standing_verdict(position: Position) -> Judged:
    """Return a verdict that still holds, without what it was computed by."""
    if position.state is None:
        raise AssertionError("a verdict that holds is that of a state")
    return Judged(position, position.state.last, position.state.verdict, False, None, is_new=False)


def standing(positions: Sequence[Position]) -> Iterator[Judged]:
    """Yield what versions whose verdict still holds were last judged by; nothing is judged.

    Left out is where something is wrong: that was kept when it was judged.
    """
    known = [
        (one, one.state)
        for one in positions
        if one.state is not None and one.state.fold.incident is None and not one.state.fold.crossing
    ]
    for number, history in read_histories([_looked_at(*one) for one in known]):
        position, state = known[number]
        rules = position.policy.rules(state.metric)
        if rules is None:
            raise AssertionError("a verdict that holds was judged by rules")
        has_season = rules.season_period_days is not None
        previous = state.fold.at_first() if has_season else _one_earlier(state.fold)
        nothing = np.empty(0), np.empty(0, bool)
        folded = Folded(state.metric, rules, history, previous, state.fold, *nothing)
        yield Judged(position, state.last, state.verdict, False, folded, is_new=False)


def _looked_at(position: Position, state: State) -> Wanted:
    """Return what a state was judged on: its window, or all where a season was fitted."""
    has_season = state.rules.get("season_period_days") is not None
    limit = None if has_season else state.fold.n_seen - state.fold.needs_from
    return Wanted(position.subject, state.metric, limit, state.fold.n_seen, state.last)


@dataclass(frozen=True, slots=True)
class _Reported:
    """How many evaluations are to be judged, and which metrics they report."""

    n: int
    names: list[str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a version is judged: by which rules, and from which state on (None: from the start).

    `replayed` says that what had been judged already no longer is what is stored, or was judged by
    other rules; a season is fitted anew with every evaluation and is none of that.
    """

    position: Position
    rank: Rank
    metric: str
    rules: Rules
    state: State | None
    n_new: int
    replayed: bool = False

    def wanted(self) -> Wanted:
        """Return which evaluations that takes."""
        if self.state is None:
            limit, total = None, 0
        else:
            fold = self.state.fold
            limit = fold.n_seen - fold.needs_from + self.n_new
            total = fold.n_seen + self.n_new
        is_first = self.state is None
        return Wanted(self.position.subject, self.metric, limit, total, self.rank, is_first)


def _plan(position: Position, reported: _Reported) -> _Plan | None:
    newest, state = position.newest, position.state
    metric = position.policy.judged_metric(reported.names) if newest else None
    rules = position.policy.rules(metric) if metric else None
    if newest is None or metric is None or rules is None:
        return None
    is_good = state is not None and _is_good(state, metric, rules) and not _starts_over(position)
    return _Plan(
        position,
        newest.rank,
        metric,
        rules,
        state=state if is_good and rules.season_period_days is None else None,
        n_new=reported.n,
        replayed=state is not None and not is_good,
    )


def _is_good(state: State, metric: str, rules: Rules) -> bool:
    return state.metric == metric and state.rules == rules_document(rules)


def _starts_over(position: Position) -> bool:
    """Whether what was folded no longer is what is stored, or is no longer to be judged."""
    state, newest = position.state, position.newest
    return state is None or newest is None or state.is_stale or state.last > newest.rank


def _reported(positions: Sequence[Position]) -> Iterator[tuple[Position, _Reported]]:
    """Yield positions with what their evaluations since the last judgement report.

    Custom metrics are only looked for where no registered one is reported, which come first.
    """
    if not positions:
        return
    after = [
        (START_OF_TIME, START_OF_TIME) if one.state is None or _starts_over(one) else one.state.last
        for one in positions
    ]
    until = [
        (END_OF_TIME, END_OF_TIME) if one.newest is None else one.newest.rank for one in positions
    ]
    params: list[list[Any]] = [
        list(range(len(positions))),
        [one.subject.machine_id for one in positions],
        [one.subject.model_type for one in positions],
        [one.subject.model_id for one in positions],
        *([rank[place] for rank in ranks] for ranks in (after, until) for place in (0, 1)),
    ]
    for number, n, registered, custom in execute(_REPORTED, params, binary=True):
        position = positions[number]
        names = [name for name, is_in in zip(REGISTERED_METRICS, registered, strict=True) if is_in]
        kept = [] if position.state is None or _starts_over(position) else [position.state.metric]
        yield position, _Reported(n, [*names, *(custom or ()), *kept])


_OF_VERSION = """
    FROM model_performance_metrics e
    WHERE e.machine_id = w.machine_id AND e.model_type = w.model_type AND e.model_id = w.model_id
        AND (e.evaluation_end, e.evaluation_start) > (w.after_end, w.after_start)
        AND (e.evaluation_end, e.evaluation_start) <= (w.until_end, w.until_start)
"""
_REPORTED = f"""
    SELECT w.number, r.n, r.registered, CASE WHEN NOT true = ANY(r.registered) THEN (
        SELECT array_agg(DISTINCT name)
        FROM (SELECT jsonb_object_keys(e.metrics) AS name {_OF_VERSION}) AS names
    ) END
    FROM unnest(%b::int4[], %b::uuid[], %b::text[], %b::uuid[], %b::timestamptz[],
            %b::timestamptz[], %b::timestamptz[], %b::timestamptz[])
        AS w (number, machine_id, model_type, model_id,
            after_end, after_start, until_end, until_start)
    CROSS JOIN LATERAL (
        SELECT count(*) AS n,
            ARRAY[{", ".join(f"count(e.{name}) > 0" for name in REGISTERED_METRICS)}] AS registered
        {_OF_VERSION}
    ) AS r
"""


def _not_judged(position: Position, reported: _Reported) -> Judged:
    metric = position.policy.judged_metric(reported.names) if position.newest else None
    return Judged(position, None, {**NOT_JUDGED, "metric": metric}, True, None)


def _judged(found: Iterable[tuple[_Plan, History]]) -> Iterator[Judged]:
    known = list(found)
    series = [
        Series(
            _values(history, plan.rules),
            history.counts,
            plan.rules,
            _fold(plan, history),
            history.offset,
        )
        for plan, history in known
    ]
    judgements = judge_fleet(series)
    previous = _previous(series, judgements)
    for number, ((plan, history), judgement) in enumerate(zip(known, judgements, strict=True)):
        folded = Folded(
            plan.metric,
            plan.rules,
            history,
            previous=previous[number],
            after=judgement.state,
            scores=judgement.statistics,
            detected=judgement.degraded | judgement.crossed,
        )
        dates = Dates(history, plan.state.verdict if plan.state else None)
        verdict = verdict_document(judgement.verdict, plan.metric, dates)
        yield Judged(plan.position, plan.rank, verdict, plan.replayed, folded)


def _previous(series: Sequence[Series], judgements: Sequence[Judgement]) -> list[FoldState]:
    """Return the states before the newest evaluations.

    Where nothing was or is wrong that is the state after it, one evaluation earlier; otherwise
    the evaluations before it are folded once more. With a season it is the very first state: each
    evaluation moves the season, and all are judged again.
    """
    states: list[FoldState] = []
    again: list[int] = []
    for number, (one, judgement) in enumerate(zip(series, judgements, strict=True)):
        first = one.state or FoldState()
        was_wrong = bool((judgement.degraded | judgement.crossed)[-2:].any()) or _is_wrong(first)
        if one.rules.season_period_days is not None:
            states.append(first)
            continue
        states.append(_one_earlier(judgement.state))
        if was_wrong or _is_wrong(judgement.state):
            again.append(number)
    shorter = [
        replace(
            series[number], values=series[number].values[:-1], counts=series[number].counts[:-1]
        )
        for number in again
    ]
    for number, judgement in zip(again, judge_fleet(shorter), strict=True):
        states[number] = judgement.state
    return states


def _one_earlier(state: FoldState) -> FoldState:
    return replace(
        state, n_seen=state.n_seen - 1, needs_from=min(state.needs_from, state.n_seen - 1)
    )


def _is_wrong(state: FoldState) -> bool:
    return state.incident is not None or state.crossing is not None


def _values(history: History, rules: Rules) -> NDArray[np.float64]:
    return judged_values(history.values, history.counts, history.ends / DAY, rules)


def _fold(plan: _Plan, history: History) -> FoldState:
    """Return the state to go on from; a new version begins with the noise of the one before."""
    if plan.state is not None:
        return plan.state.fold
    before = history.before
    if before is None:
        return FoldState()
    return first_state(_values(before, plan.rules), before.counts, rules=plan.rules)
