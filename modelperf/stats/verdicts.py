"""The verdict at one prefix, from the fold's state and the statistics of that prefix."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelperf.stats.change_point import change_range
from modelperf.stats.falls import Change, change_at, directions, fall_at
from modelperf.stats.incidents import is_outlier, side
from modelperf.stats.orientation import effect, level
from modelperf.stats.results import (
    Condition,
    Crossing,
    FoldState,
    Incident,
    MetricKind,
    Rule,
    Rules,
    Status,
    Verdict,
)
from modelperf.stats.track import Block, Row, Track

_NOTHING: dict[str, Any] = dict.fromkeys(
    (
        "rule",
        "statistic",
        "p_value",
        "phi",
        "effect",
        "baseline",
        "current",
        "change_index",
        "change_low",
        "change_high",
    )
)


def verdict_on(track: Track, state: FoldState, block: Block | None, rules: Rules) -> Verdict:
    """Return the verdict at the newest retained evaluation.

    Parameters
    ----------
    track : Track
        The retained evaluations.
    state : FoldState
        The state after the newest one.
    block : Block or None
        A block whose statistics cover it; None where nothing is retained.
    rules : Rules
        The rules of the fold.

    Returns
    -------
    Verdict
    """
    if block is None:
        return _verdict(rules, n_evaluations=0)
    end = len(track) - 1
    found: dict[str, Any] = {
        **_statistics(block, end),
        "n_evaluations": int(block.scan.n[end - block.first]),
        "outlier_window": is_outlier(track, block, end, rules),
        "conditions": _conditions(track, state, rules),
    }
    if state.incident is not None:
        return _verdict(rules, **found, **_degraded(track, end, state.incident, rules))
    if np.isnan(block.z[end - block.first]):
        return _verdict(rules, **found)
    return _verdict(rules, **found, **_undisturbed(track, block, end, rules))


def _verdict(rules: Rules, **found: Any) -> Verdict:
    values: dict[str, Any] = {
        "status": Status.INSUFFICIENT_DATA,
        "outlier_window": False,
        "conditions": (),
        "threshold": rules.threshold,
        "needed": max(0, rules.min_evaluations - found["n_evaluations"]),
    }
    return Verdict(**_NOTHING | values | found)


def _statistics(block: Block, end: int) -> dict[str, Any]:
    at = end - block.first
    if np.isnan(block.z[at]):
        return {}
    from_rise = block.scan.fall.z[at] < block.z[at]
    strongest = block.scan.rise if from_rise else block.scan.fall
    return {
        "statistic": float(block.z[at]),
        "p_value": float(block.p[at]),
        "phi": float(strongest.phi[at]),
    }


def _degraded(track: Track, end: int, incident: Incident, rules: Rules) -> dict[str, Any]:
    current = _level_since(track, end, incident.change)
    return {
        "status": Status.DEGRADED,
        "rule": incident.rule,
        "effect": effect(incident.baseline, current, rules.kind),
        "baseline": incident.baseline,
        "current": current,
        "change_index": incident.change,
        "change_low": incident.change_low,
        "change_high": incident.change_high,
    }


def _undisturbed(track: Track, block: Block, end: int, rules: Rules) -> dict[str, Any]:
    """Stable, improved or improvement lost."""
    at, row = end - block.first, track.row(end)
    for direction in directions(rules.kind):
        fall = side(block, direction)
        if fall.z[at] > rules.threshold:
            split, phi = int(fall.split[at]), float(fall.phi[at])
            change = fall_at(row, split, phi, direction, rules)
            if change is not None:
                return _changed(row, change, phi, Status.IMPROVEMENT_LOST)
    for direction in (1, -1) if rules.kind is MetricKind.TARGET_ZERO else (-1,):
        rise = side(block, direction)
        if rise.z[at] > rules.threshold:
            change = change_at(row, int(rise.split[at]), rules.kind)
            if change.effect < 0 and -change.effect >= rules.min_effect:
                return _changed(row, change, float(rise.phi[at]), Status.IMPROVED)
    return _stable(row, change_at(row, int(block.scan.fall.split[at]), rules.kind))


def _stable(row: Row, change: Change) -> dict[str, Any]:
    return {
        "status": Status.STABLE,
        "effect": change.effect,
        "baseline": change.baseline,
        "current": change.current,
    }


def _changed(row: Row, change: Change, phi: float, status: Status) -> dict[str, Any]:
    low, high = change_range(row.oriented, row.counts, change.split, phi)
    return {
        "status": status,
        "effect": change.effect,
        "baseline": change.baseline,
        "current": change.current,
        "change_index": int(row.positions[change.split]),
        "change_low": int(row.positions[low]),
        "change_high": int(row.positions[high]),
    }


def _conditions(track: Track, state: FoldState, rules: Rules) -> tuple[Condition, ...]:
    found = []
    if state.incident is not None:
        found.append(_incident_condition(track, state.incident, rules))
    if state.crossing is not None and rules.limit is not None:
        found.append(_limit_condition(track, state.crossing, rules.limit))
    return tuple(found)


def _incident_condition(track: Track, incident: Incident, rules: Rules) -> Condition:
    return Condition(
        rule=incident.rule,
        change_index=incident.change,
        n_since=incident.n_since,
        baseline=incident.baseline,
        current=_level_since(track, len(track) - 1, incident.change),
        threshold=incident.threshold,
        statistic=incident.statistic,
        peak_statistic=incident.peak,
        confirmed_p=incident.confirmed_p,
    )


def _limit_condition(track: Track, crossing: Crossing, limit: float) -> Condition:
    since = min(crossing.since, int(track.positions[-1]))
    return Condition(
        rule=Rule.LIMIT,
        change_index=crossing.since,
        n_since=crossing.n_since,
        baseline=None,
        current=_level_since(track, len(track) - 1, since),
        threshold=limit,
        statistic=crossing.value,
        peak_statistic=crossing.peak,
        confirmed_p=None,
    )


def _level_since(track: Track, end: int, position: int) -> float:
    row = track.row(end, first=track.index_of(position))
    return level(row.values, np.ones(len(row.values)), track.rules.kind)
