"""The verdict at one prefix, from the fold's state and the statistics of that prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelperf.stats.change_point import Side, change_range
from modelperf.stats.falls import Change, change_at, directions, fall_at
from modelperf.stats.incidents import is_outlier, side
from modelperf.stats.orientation import effect, level
from modelperf.stats.prefixes import Block, fewest_evaluations, levels_around, rises
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
from modelperf.stats.track import Row, Track

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


@dataclass(frozen=True, slots=True)
class Judged:
    """A series at its newest retained evaluation.

    Parameters
    ----------
    track : Track
        The retained evaluations.
    state : FoldState
        The state after the newest one.
    block : Block or None
        A block whose statistics cover it; None where nothing is retained.
    """

    track: Track
    state: FoldState
    block: Block | None

    @property
    def is_undisturbed(self) -> bool:
        """Whether it may be stable or improved: no incident is open, and a change can be told."""
        if self.block is None or self.state.incident is not None:
            return False
        return not np.isnan(self.block.z[len(self.track) - 1 - self.block.first])

    @property
    def knows_rises(self) -> bool:
        """Whether its block has the best rises too."""
        return self.block is not None and self.block.rise is not None


def verdicts_on(judged: Sequence[Judged]) -> list[Verdict]:
    """Return the verdict on every series at its newest retained evaluation."""
    undisturbed = [at for at, one in enumerate(judged) if one.is_undisturbed]
    unknown = [at for at in undisturbed if not judged[at].knows_rises]
    best_rises = rises([judged[at].track.newest() for at in unknown])
    rise_of = dict(zip(unknown, best_rises, strict=True))
    answers: dict[int, dict[str, Any]] = {}
    for at in undisturbed:
        changed = _undisturbed(judged[at], rise_of.get(at))
        if changed is not None:
            answers[at] = changed
    stable = [at for at in undisturbed if at not in answers]
    answers |= zip(stable, _stable([judged[at] for at in stable]), strict=True)
    return [_verdict_on(one, answers.get(at, {})) for at, one in enumerate(judged)]


def _verdict_on(one: Judged, undisturbed: dict[str, Any]) -> Verdict:
    track, state, block, rules = one.track, one.state, one.block, one.track.rules
    if block is None:
        return _verdict(track, n_evaluations=0)
    end = len(track) - 1
    found: dict[str, Any] = {
        **_statistics(block, end),
        "n_evaluations": min(end + 1, rules.window),
        "outlier_window": is_outlier(track, block, end, rules),
        "conditions": _conditions(track, state, rules),
    }
    if state.incident is not None:
        return _verdict(track, **found, **_degraded(track, end, state.incident, rules))
    return _verdict(track, **found, **undisturbed)


def _verdict(track: Track, **found: Any) -> Verdict:
    values: dict[str, Any] = {
        "status": Status.INSUFFICIENT_DATA,
        "outlier_window": False,
        "conditions": (),
        "threshold": track.rules.threshold,
        "needed": max(0, fewest_evaluations(track) - found["n_evaluations"]),
    }
    return Verdict(**_NOTHING | values | found)


def _statistics(block: Block, end: int) -> dict[str, Any]:
    at = end - block.first
    if np.isnan(block.z[at]):
        return {}
    from_rise = block.rise is not None and block.fall.z[at] < block.z[at]
    strongest = side(block, -1 if from_rise else 1)
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


def _undisturbed(one: Judged, newest_rise: Side | None) -> dict[str, Any] | None:
    """Improved or improvement lost; None where stable."""
    track, block, rules = one.track, one.block, one.track.rules
    if block is None:
        return None
    end = len(track) - 1
    at = end - block.first
    for direction in directions(rules.kind):
        fall = side(block, direction)
        if fall.z[at] > rules.threshold:
            row, split, phi = track.row(end), int(fall.split[at]), float(fall.phi[at])
            change = fall_at(row, split, phi, direction, rules)
            if change is not None:
                return _changed(row, change, phi, Status.IMPROVEMENT_LOST)
    for rise, row_at in _rises(block, at, newest_rise, rules):
        if rise.z[row_at] > rules.threshold:
            row, split, phi = track.row(end), int(rise.split[row_at]), float(rise.phi[row_at])
            change = change_at(row, split, rules.kind)
            if change.effect < 0 and -change.effect >= rules.min_effect:
                return _changed(row, change, phi, Status.IMPROVED)
    return None


def _rises(block: Block, at: int, newest_rise: Side | None, rules: Rules) -> list[tuple[Side, int]]:
    """Return the sides on which the metric may have improved, and the row of the newest prefix."""
    if newest_rise is not None:
        return [(newest_rise, 0)]
    rise = (side(block, -1), at)
    return [(block.fall, at), rise] if rules.kind is MetricKind.TARGET_ZERO else [rise]


def _stable(stable: Sequence[Judged]) -> list[dict[str, Any]]:
    """Describe the best fall of each, though it is none."""
    spans = [one.track.newest() for one in stable]
    splits = [_split(one) for one in stable]
    return [
        {
            "status": Status.STABLE,
            "effect": effect(baseline, current, one.track.rules.kind),
            "baseline": baseline,
            "current": current,
        }
        for one, (baseline, current) in zip(stable, levels_around(spans, splits), strict=True)
    ]


def _split(one: Judged) -> int:
    if one.block is None:
        return 0
    return int(one.block.fall.split[len(one.track) - 1 - one.block.first])


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
        worst=incident.worst,
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
        worst=crossing.peak,
    )


def _level_since(track: Track, end: int, position: int) -> float:
    row = track.row(end, first=track.index_of(position))
    return level(row.values, np.ones(len(row.values)), track.rules.kind)
