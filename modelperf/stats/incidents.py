"""When a degradation opens, and when it has recovered: rules on one prefix of one series."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.change_point import Side, change_range, scan, weights
from modelperf.stats.collapse import BACK, BASE, OUTLIER, TWO_IN_A_ROW, Depth, is_back
from modelperf.stats.fleet import FEWEST_AFTER, FEWEST_BEFORE
from modelperf.stats.order_statistics import median
from modelperf.stats.orientation import effect, level, robust_mean, winsorised
from modelperf.stats.results import Incident, MetricKind, Rule, Rules
from modelperf.stats.track import Block, Row, Track

Floats = NDArray[np.float64]

IMPROVED_BEFORE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change in a row: where, from which level to which, and what became of it.

    ``split`` counts evaluations before the change; ``before`` is the base level on the directed
    scale, ``baseline`` and ``current`` are on the metric's own; ``is_loss_of_gain`` tells that the
    fall only took back an earlier improvement.
    """

    split: int
    before: float
    baseline: float
    current: float
    effect: float
    is_loss_of_gain: bool


def directions(kind: MetricKind) -> tuple[int, ...]:
    """Directions in which a metric can get worse: falls, and rises too where zero is the aim."""
    return (1, -1) if kind is MetricKind.TARGET_ZERO else (1,)


def side(block: Block, direction: int) -> Side:
    """Return the scan's side that is a fall in this direction."""
    return block.scan.fall if direction > 0 else block.scan.rise


def change_at(row: Row, split: int, kind: MetricKind) -> Change:
    """Describe the change between the evaluations before and after a split, without judging it."""
    weight = _row_weights(row)
    baseline = level(row.values[:split], weight[:split], kind)
    current = level(row.values[split:], weight[split:], kind)
    return Change(
        split=split,
        before=robust_mean(row.oriented[:split], weight[:split]),
        baseline=baseline,
        current=current,
        effect=effect(baseline, current, kind),
        is_loss_of_gain=False,
    )


def fall_at(row: Row, split: int, phi: float, direction: int, rules: Rules) -> Change | None:
    """Judge a fall whose statistic exceeds the threshold.

    Parameters
    ----------
    row : Row
        The window.
    split : int
        Evaluations before the fall.
    phi : float
        Autocorrelation around the two levels.
    direction : int
        1 where a lower oriented value is worse, -1 where a higher one is.
    rules : Rules
        The smallest effect that matters.

    Returns
    -------
    Change or None
        None where the fall is smaller than ``min_effect``. Up, then back: where the evaluations
        before the fall had themselves risen (mirrored statistic above 3), the base is what lies
        before that rise, and so on backwards; the fall counts as loss of a gain unless it goes
        below that base by ``min_effect`` and by twice its standard error.
    """
    plain = change_at(row, split, rules.kind)
    if plain.effect < rules.min_effect or plain.effect <= 0:
        return None
    base = _base(row, split, direction)
    return plain if base == split else _against_base(row, plain, base, phi, direction, rules)


def _base(row: Row, split: int, direction: int) -> int:
    """How many evaluations lie before every rise that preceded the fall."""
    base = split
    while base >= FEWEST_BEFORE + FEWEST_AFTER:
        before = scan(direction * row.oriented[None, :base], row.counts[None, :base])
        if not before.rise.z[0] > IMPROVED_BEFORE:
            break
        base = int(before.rise.split[0])
    return base


def _against_base(
    row: Row, plain: Change, base: int, phi: float, direction: int, rules: Rules
) -> Change:
    weight = _row_weights(row)
    directed = direction * row.oriented
    first, last = directed[:base], directed[plain.split :]
    before = robust_mean(first, weight[:base])
    fall = before - robust_mean(last, weight[plain.split :])
    baseline = level(row.values[:base], weight[:base], rules.kind)
    size = effect(baseline, plain.current, rules.kind)
    is_below = size >= rules.min_effect and fall > 2 * _standard_error(first, last, phi)
    if not is_below:
        return replace(plain, is_loss_of_gain=True)
    return replace(plain, before=direction * before, baseline=baseline, effect=size)


def _standard_error(first: Floats, last: Floats, phi: float) -> float:
    """Of the difference of two means, with autocorrelation phi."""
    parts = [winsorised(part) for part in (first, last)]
    squares = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    variance = squares / (len(first) + len(last) - 2)
    inflation = (1 / len(first) + 1 / len(last)) * (1 + phi) / (1 - phi)
    return float(np.sqrt(variance * inflation))


def change_incident(track: Track, block: Block, end: int, rules: Rules) -> Incident | None:
    """Open an incident where the prefix ending at track index `end` holds a fall."""
    at = end - block.first
    if not block.z[at] > rules.threshold:
        return None
    for direction in directions(rules.kind):
        found = side(block, direction)
        if not found.z[at] > rules.threshold:
            continue
        row = track.row(end)
        phi, split = float(found.phi[at]), int(found.split[at])
        change = fall_at(row, split, phi, direction, rules)
        if change is not None and not change.is_loss_of_gain:
            return _opened(row, change, phi, direction, float(block.z[at]), rules)
    return None


def _opened(
    row: Row, change: Change, phi: float, direction: int, z: float, rules: Rules
) -> Incident:
    low, high = change_range(row.oriented, row.counts, change.split, phi)
    return Incident(
        rule=Rule.CHANGE_POINT,
        change=int(row.positions[change.split]),
        change_low=int(row.positions[low]),
        change_high=int(row.positions[high]),
        n_since=len(row.positions) - change.split,
        direction=direction,
        before=direction * change.before,
        scale=0.0,
        baseline=change.baseline,
        threshold=rules.threshold,
        statistic=z,
        peak=z,
        confirmed_p=None,
    )


def collapse_incident(track: Track, block: Block, end: int, rules: Rules) -> Incident | None:
    """Open an incident where the newest evaluation, or the last two, fell off a cliff."""
    at = end - block.first
    now, before = block.depth, block.depth_before
    if not abs(now.z[at]) > TWO_IN_A_ROW:
        return None
    for direction in directions(rules.kind):
        if not (direction * now.z[at] > TWO_IN_A_ROW and _matters(track, end, rules)):
            continue
        if direction * before.z[at] > TWO_IN_A_ROW and _matters(track, end - 1, rules):
            return _collapsed(track, end - 1, end, before, at, direction)
        if direction * now.z[at] > now.alone_beyond[at]:
            return _collapsed(track, end, end, now, at, direction)
    return None


def is_outlier(track: Track, block: Block, end: int, rules: Rules) -> bool:
    """Tell whether the newest evaluation alone is a mark on the series."""
    at = end - block.first
    is_far = any(direction * block.depth.z[at] > OUTLIER for direction in directions(rules.kind))
    return is_far and bool(np.isfinite(block.depth.alone_beyond[at])) and _matters(track, end, rules)


def _base_level(track: Track, index: int) -> float:
    return median(track.values[max(0, index - BASE) : index])


def _matters(track: Track, index: int, rules: Rules) -> bool:
    """Whether an evaluation is worse than the median of those before it by the smallest effect."""
    size = effect(_base_level(track, index), float(track.values[index]), rules.kind)
    return size > 0 and size >= rules.min_effect


def _collapsed(
    track: Track, first: int, end: int, found: Depth, at: int, direction: int
) -> Incident:
    before, scale = direction * float(found.before[at]), float(found.scale[at])
    position = int(track.positions[first])
    newest = direction * float(track.row(end).oriented[-1])
    z = (before - newest) / scale
    return Incident(
        rule=Rule.COLLAPSE,
        change=position,
        change_low=position,
        change_high=position,
        n_since=end - first + 1,
        direction=direction,
        before=before,
        scale=scale,
        baseline=_base_level(track, first),
        threshold=float(found.alone_beyond[at]) if first == end else TWO_IN_A_ROW,
        statistic=z,
        peak=z,
        confirmed_p=None,
    )


def continued(incident: Incident, track: Track, block: Block, end: int) -> Incident:
    """Return an open incident one evaluation later."""
    statistic = float(block.z[end - block.first])
    if incident.rule is Rule.COLLAPSE:
        newest = incident.direction * float(track.row(end).oriented[-1])
        statistic = (incident.before - newest) / incident.scale
    return replace(
        incident,
        n_since=incident.n_since + 1,
        statistic=statistic,
        peak=max(incident.peak, statistic),
    )


def recovered_from(
    track: Track, incident: Incident, end: int, rise_z: float, rise_split: int, rules: Rules
) -> int | None:
    """Tell whether an incident is over, and since when.

    Parameters
    ----------
    track : Track
        The retained evaluations.
    incident : Incident
        The open incident.
    end : int
        Track index of the newest evaluation.
    rise_z, rise_split : float, int
        The best rise among the evaluations since the change, at least 4 on either side.
    rules : Rules
        ``clear_threshold``, which `rise_z` must exceed.

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
    if not rise_z > rules.clear_threshold:
        return None
    weight = _row_weights(row)
    fallen = robust_mean(directed[:rise_split], weight[:rise_split])
    back = robust_mean(directed[rise_split:], weight[rise_split:])
    if back < incident.before - (incident.before - fallen) / 4:
        return None
    if rules.kind is MetricKind.TARGET_ZERO and not _is_near_zero_again(
        abs(incident.before), abs(fallen), abs(back)
    ):
        return None
    return int(row.positions[rise_split])


def _is_near_zero_again(before: float, fallen: float, back: float) -> bool:
    return back - before <= (fallen - before) / 4


def _row_weights(row: Row) -> Floats:
    return weights(row.oriented[None, :], row.counts[None, :])[0]
