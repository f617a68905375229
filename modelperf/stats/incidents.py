"""When a degradation opens, how it goes on, and when the series has recovered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelperf.stats.change_point import Side, change_range
from modelperf.stats.collapse import BACK, BASE, OUTLIER, TWO_IN_A_ROW, Depth, is_back, robust_z
from modelperf.stats.falls import (
    Change,
    base_before_gains,
    directions,
    fall_at,
    matters,
    row_weights,
)
from modelperf.stats.limits import worst
from modelperf.stats.order_statistics import median
from modelperf.stats.orientation import effect, robust_mean
from modelperf.stats.prefixes import Block
from modelperf.stats.results import Incident, MetricKind, Rule, Rules
from modelperf.stats.track import Row, Track


def side(block: Block, direction: int) -> Side:
    """Return the side on which the metric got worse in this direction, watched by its kind."""
    if direction > 0:
        return block.fall
    if block.rise is None:
        raise ValueError("rises are not watched for this kind of metric")
    return block.rise


def first_suspicion(block: Block, end: int, rules: Rules) -> int:
    """Return the first index from `end` on that may open an incident, else the block's end."""
    rows = slice(end - block.first, None)
    suspicious = (block.z[rows] > rules.threshold) | (np.abs(block.depth.z[rows]) > TWO_IN_A_ROW)
    at = int(suspicious.argmax())
    return end + at if suspicious[at] else block.last


def change_incident(track: Track, block: Block, end: int, rules: Rules) -> Incident | None:
    """Open an incident where the prefix ending at track index `end` holds a fall."""
    at = end - block.first
    if not block.z[at] > rules.threshold:
        return None
    for direction in directions(rules.kind):
        found = side(block, direction)
        if not found.z[at] > rules.threshold:
            continue
        row, split = track.row(end), int(found.split[at])
        change = fall_at(row, split, float(found.phi[at]), direction, rules)
        if change is not None and not change.is_loss_of_gain:
            low, high = change_range(row.oriented, row.counts, split, float(found.phi[at]))
            return replace(
                _fallen(row, change, direction, float(block.z[at]), rules),
                threshold=rules.threshold,
                reach_from=track.reach_from(end),
                change_low=int(row.positions[low]),
                change_high=int(row.positions[high]),
            )
    return None


def _fallen(row: Row, change: Change, direction: int, z: float, rules: Rules) -> Incident:
    position = int(row.positions[change.split])
    return Incident(
        rule=Rule.CHANGE_POINT,
        change=position,
        change_low=position,
        change_high=position,
        reach_from=int(row.positions[0]),
        n_since=len(row.positions) - change.split,
        direction=direction,
        before=direction * change.before,
        scale=0.0,
        baseline=change.baseline,
        threshold=z,
        statistic=z,
        peak=z,
        confirmed_p=None,
        worst=worst(row.values[change.split :], rules.kind),
    )


def collapse_incident(track: Track, block: Block, end: int, rules: Rules) -> Incident | None:
    """Open an incident where the newest evaluation, or the last two, fell off a cliff.

    A cliff that leads back to the level before an earlier gain is none: change points tell it as
    the loss of that gain.
    """
    at = end - block.first
    now, before = block.depth, block.depth_before
    if not abs(now.z[at]) > TWO_IN_A_ROW:
        return None
    for direction in directions(rules.kind):
        z_before, z = direction * before.z[at], direction * now.z[at]
        if not (z > TWO_IN_A_ROW and _matters(track, end, rules)):
            continue
        found = None
        if z_before > TWO_IN_A_ROW and _matters(track, end - 1, rules):
            found = _collapsed(track, range(end - 1, end + 1), before, at, direction)
        elif z > now.alone_beyond[at]:
            found = _collapsed(track, range(end, end + 1), now, at, direction)
        if found is not None and not _took_back_a_gain(track, found, end):
            return found
    return None


def is_outlier(track: Track, block: Block, end: int, rules: Rules) -> bool:
    """Tell whether the newest evaluation alone is a mark on the series."""
    at = end - block.first
    is_far = any(direction * block.depth.z[at] > OUTLIER for direction in directions(rules.kind))
    is_told = bool(np.isfinite(block.depth.alone_beyond[at]))
    return is_far and is_told and _matters(track, end, rules)


def _base_level(track: Track, index: int) -> float:
    return median(track.values[max(0, index - BASE) : index])


def _matters(track: Track, index: int, rules: Rules) -> bool:
    """Whether an evaluation is worse than the median of those before it by the smallest effect."""
    size = effect(_base_level(track, index), float(track.values[index]), rules.kind)
    return matters(size, rules)


def _took_back_a_gain(track: Track, incident: Incident, end: int) -> bool:
    """Whether one of the collapsed evaluations is no collapse from the level before a gain."""
    row, split = track.row(end), end + 1 - incident.n_since
    split -= end + 1 - len(row.positions)
    base = base_before_gains(row, split, incident.direction)
    if base == split:
        return False
    before = incident.direction * robust_mean(row.oriented[:base], row_weights(row)[:base])
    highest = float((incident.direction * row.oriented[split:]).max())
    return before - highest <= TWO_IN_A_ROW * incident.scale


def _collapsed(track: Track, run: range, found: Depth, at: int, direction: int) -> Incident:
    """Describe the collapse of the evaluations `run`, by the depth of the first of them."""
    before, scale = direction * float(found.before[at]), float(found.scale[at])
    position = int(track.positions[run[0]])
    newest = direction * float(track.row(run[-1]).oriented[-1])
    z = float(robust_z(newest, before, scale))
    return Incident(
        rule=Rule.COLLAPSE,
        change=position,
        change_low=position,
        change_high=position,
        reach_from=track.reach_from(run[-1]),
        n_since=len(run),
        direction=direction,
        before=before,
        scale=scale,
        baseline=_base_level(track, run[0]),
        threshold=TWO_IN_A_ROW if len(run) > 1 else float(found.alone_beyond[at]),
        statistic=z,
        peak=z,
        confirmed_p=None,
        worst=worst(track.values[run[0] : run[-1] + 1], track.rules.kind),
    )


def continued(incident: Incident, track: Track, block: Block, end: int) -> Incident:
    """Return an open incident one evaluation later."""
    statistic = float(block.z[end - block.first])
    if incident.rule is Rule.COLLAPSE:
        newest = incident.direction * float(track.row(end).oriented[-1])
        statistic = float(robust_z(newest, incident.before, incident.scale))
    return replace(
        incident,
        n_since=incident.n_since + 1,
        statistic=statistic,
        peak=max(incident.peak, statistic),
        worst=worst_since(incident, track, slice(end, end + 1)),
    )


def worst_since(incident: Incident, track: Track, new: slice) -> float | None:
    """Return the worst value since an open incident's change, with those at some new indices."""
    if incident.worst is None:
        return None
    return worst([incident.worst, *track.values[new]], track.rules.kind)


def recovered_from(track: Track, incident: Incident, end: int, rise: int | None) -> int | None:
    """Tell whether an incident is over, and since when.

    Parameters
    ----------
    track : Track
        The retained evaluations.
    incident : Incident
        The open incident.
    end : int
        Track index of the newest evaluation.
    rise : int or None
        How many of the evaluations since the change lie before their best rise; None where its
        statistic does not exceed ``clear_threshold``.

    Returns
    -------
    int or None
        Absolute position of the first recovered evaluation: after the rise, where its level is at
        least ``before - d/4`` (and the absolute level of a ``TARGET_ZERO`` metric has lost three
        quarters of its growth); for a collapse also where `collapse.is_back`.
    """
    row = track.row(end, first=track.index_of(incident.change))
    directed = incident.direction * row.oriented
    if incident.rule is Rule.COLLAPSE and is_back(directed, incident.before):
        return int(row.positions[-BACK])
    if rise is None:
        return None
    weight = row_weights(row)
    fallen = robust_mean(directed[:rise], weight[:rise])
    back = robust_mean(directed[rise:], weight[rise:])
    if back < incident.before - (incident.before - fallen) / 4:
        return None
    if track.rules.kind is MetricKind.TARGET_ZERO and not _is_near_zero_again(
        abs(incident.before), abs(fallen), abs(back)
    ):
        return None
    return int(row.positions[rise])


def _is_near_zero_again(before: float, fallen: float, back: float) -> bool:
    return back - before <= (fallen - before) / 4
