"""What machines share, apart from what each does by itself: the fleet part and the own parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.change_point import scan
from modelperf.stats.fleet import FEWEST_BEFORE
from modelperf.stats.fold import judge as judge_series
from modelperf.stats.loading import fitted_loading
from modelperf.stats.order_statistics import row_quantile
from modelperf.stats.orientation import effect, metric_value
from modelperf.stats.results import MetricKind, Rule, Rules, Verdict

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]

FEWEST_SHARED = 15
FELL = 2.0
_PASSES = 6
_SETTLED = 0.01
_WORTH_FOLDING = 3.0
_FAR_OUT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Each series as level + loading times fleet part + own part, on the oriented scale.

    Parameters
    ----------
    fleet : ndarray, shape (windows,)
        Median of the machines' deviations from their levels, its own median 0; NaN where fewer
        than ``min_machines`` reported.
    own : ndarray, shape (machines, windows)
        What the others do not explain; NaN where the machine or the fleet part is missing, and
        for machines outside.
    level : ndarray, shape (machines,)
        Level of each machine while the fleet part is 0; NaN outside.
    loading : ndarray, shape (machines,)
        How strongly each machine responds to the fleet part, 0 to 2; NaN outside.
    n_machines : ndarray of int, shape (windows,)
        Machines that reported and are inside.
    outside : ndarray of int
        Machines that share fewer than 15 windows with enough others to be split.
    """

    fleet: Floats
    own: Floats
    level: Floats
    loading: Floats
    n_machines: Ints
    outside: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFall:
    """A fall that most machines share: one alert, with its members.

    Parameters
    ----------
    rule : Rule
        Change point or collapse, as in `fold.judge`.
    split, change_low, change_high : int
        First window after the change and its approximate 95 % range.
    statistic, threshold : float
        ``Z`` of the fleet part (for a collapse its robust z), and what it exceeds.
    p_value : float or None
        Tail probability of ``Z`` at the newest window.
    confirmed_p : float or None
        Smallest p that held at two windows in a row; None for a collapse, which alerts at once.
    effect : float
        Median over all machines of the relative effect on the metric's own scale; positive is
        worse.
    direction : int
        1 where the oriented values fell, -1 where a metric with target zero rose.
    t : ndarray, shape (machines,)
        One-sided t of each machine at the split; NaN where it has too few windows around it.
    members : ndarray of int
        The machines that fell: ``t > 2``.
    """

    rule: Rule
    split: int
    change_low: int
    change_high: int
    statistic: float
    threshold: float
    p_value: float | None
    confirmed_p: float | None
    effect: float
    direction: int
    t: Floats
    members: Ints


def split(oriented: ArrayLike, *, min_machines: int = 4) -> Split | None:
    """Split the series of machines that share windows into a fleet part and own parts.

    Parameters
    ----------
    oriented : array_like, shape (machines, windows)
        Values where higher is better, one column a window; NaN where missing: gaps, and machines
        that joined late or left.
    min_machines : int
        Machines a window must have, at least 4: the part of the others needs three of them.

    Returns
    -------
    Split or None
        None where fewer than `min_machines` machines share 15 such windows.

    Raises
    ------
    ValueError
        If the block is not two-dimensional or `min_machines` is below 4.

    Notes
    -----
    Levels ``a`` and fleet part come from alternating medians (Tukey's median polish), so gaps and
    late joiners move neither. With ``D = y - a``, the part of the others ``F`` is the median of D
    over all machines but the one in question, and ``own = D - b F`` with the loading ``b`` of
    `loading.fitted_loading`: machines respond differently to what they share.
    """
    y = np.asarray(oriented, float)
    if y.ndim != 2:
        raise ValueError("split takes a block of shape (machines, windows)")
    if min_machines < 4:
        raise ValueError("min_machines is at least 4: three others, and the machine itself")
    inside = _inside(y, min_machines)
    if inside.sum() < min_machines:
        return None
    shared = y[inside]
    n = (~np.isnan(shared)).sum(axis=0)
    shared[:, n < min_machines] = np.nan
    level, fleet = _polished(shared)
    shared -= level[:, None]
    others = median_of_others(shared)
    loading = fitted_loading(shared, others)
    shared -= loading[:, None] * others
    return Split(
        fleet=fleet,
        own=_spread(shared, inside),
        level=_spread(level, inside),
        loading=_spread(loading, inside),
        n_machines=n,
        outside=np.flatnonzero(~inside),
    )


def median_of_others(block: Floats) -> Floats:
    """Return, for each value, the median of the other values in its column.

    Parameters
    ----------
    block : ndarray, shape (machines, windows)
        NaN where missing.

    Returns
    -------
    ndarray, same shape
        From one sort a column: without a value, the middle moves up by one place or stays. NaN
        where the value is missing or alone.
    """
    columns = np.ascontiguousarray(block.T)
    order = np.argsort(columns, axis=1)
    ordered = np.take_along_axis(columns, order, axis=1)
    rest = (~np.isnan(columns)).sum(axis=1)[:, None] - 1
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(columns.shape[1])[None, :], axis=1)
    low, high = np.maximum(rest - 1, 0) // 2, np.maximum(rest, 0) // 2
    middle = _without(ordered, rank, low) / 2 + _without(ordered, rank, high) / 2
    return np.asarray(np.where(np.isnan(columns) | (rest < 1), np.nan, middle).T)


def judge(
    found: Split,
    oriented: ArrayLike,
    sample_counts: ArrayLike | None = None,
    *,
    rules: Rules,
) -> FleetFall | None:
    """Tell whether the fleet as a whole has fallen and not recovered.

    Parameters
    ----------
    found : Split
        The split of these machines.
    oriented : array_like, shape (machines, windows)
        The block it was made from.
    sample_counts : array_like, same shape, optional
        Rows behind each value; only proportions need them, to give the effect in their unit.
    rules : Rules
        Kind, threshold, smallest effect and window of the machines' common policy.

    Returns
    -------
    FleetFall or None
        The fleet part is judged as one series by `fold.judge`, latch and collapse included. None
        unless more than half of the machines with windows on both sides fell with it, and
        the median effect is at least ``min_effect``.
    """
    y = np.asarray(oriented, float)
    verdict = _fleet_verdict(found, rules)
    if not verdict.is_degraded or verdict.change_index is None:
        return None
    at = verdict.change_index
    rose = rules.kind is MetricKind.TARGET_ZERO and _rose(found, at)
    t = (-1 if rose else 1) * _t(y, at)
    told = ~np.isnan(t)
    members = np.flatnonzero(t > FELL)
    size = _median_effect(y, sample_counts, at, told, rules.kind)
    if 2 * len(members) <= told.sum() or not (size > 0 and size >= rules.min_effect):
        return None
    return _fleet_fall(verdict, effect_size=size, direction=-1 if rose else 1, t=t, members=members)


def own_parts_degraded(
    found: Split,
    sample_counts: ArrayLike | None = None,
    *,
    rules: Rules | Sequence[Rules],
) -> Flags:
    """Tell which machines have a problem of their own, beside what the fleet does.

    Parameters
    ----------
    found, sample_counts, rules
        As in `own_verdicts`.

    Returns
    -------
    ndarray of bool, shape (machines,)
        Whether `own_verdicts` has one.
    """
    degraded = np.zeros(len(found.own), bool)
    degraded[list(own_verdicts(found, sample_counts, rules=rules))] = True
    return degraded


def own_verdicts(
    found: Split,
    sample_counts: ArrayLike | None = None,
    *,
    rules: Rules | Sequence[Rules],
) -> dict[int, Verdict]:
    """Judge what the others do not explain of each machine, and return what is degraded.

    Parameters
    ----------
    found : Split
        The split of these machines.
    sample_counts : array_like, shape (machines, windows), optional
        Rows behind each value; 0 where not reported.
    rules : Rules or sequence of Rules
        One for all machines, or one for each.

    Returns
    -------
    dict of int to Verdict
        By row, where an incident is open in the own part at its newest window, by `fold.judge`:
        own part and level are put back together on the metric's own scale, so that smallest
        effect, weights, latch and collapse mean what they mean for the series itself. Positions
        count the windows that the machine has an own part in. Nothing for machines outside.
    """
    own = found.own
    counts = np.zeros(own.shape) if sample_counts is None else np.asarray(sample_counts, float)
    each = [rules] * len(own) if isinstance(rules, Rules) else list(rules)
    verdicts: dict[int, Verdict] = {}
    for row in np.flatnonzero(_worth_folding(own, counts, each)).tolist():
        there = ~np.isnan(own[row])
        oriented, n = found.level[row] + own[row, there], counts[row, there]
        values = metric_value(oriented, n, each[row].kind)
        judgement = judge_series(values, n, rules=each[row])
        if judgement.degraded[-1]:
            verdicts[row] = judgement.verdict
    return verdicts


def _inside(y: Floats, min_machines: int) -> Flags:
    """Machines with enough windows that enough of them share."""
    here = ~np.isnan(y)
    inside = np.ones(len(y), bool)
    while True:
        shared = here[inside].sum(axis=0) >= min_machines
        still = inside & ((here & shared).sum(axis=1) >= FEWEST_SHARED)
        if still.sum() == inside.sum():
            return inside
        inside = still


def _polished(y: Floats) -> tuple[Floats, Floats]:
    """Levels and fleet part by alternating medians, the median of the fleet part being 0."""
    fleet = np.zeros(y.shape[1])
    for _ in range(_PASSES):
        level = _row_medians(y - fleet)
        last, fleet = fleet, _row_medians((y - level[:, None]).T)
        fleet -= _row_medians(fleet[None, :])[0]
        moved = np.abs(np.nan_to_num(fleet - last)).max()
        if moved <= _SETTLED * np.nanmedian(np.abs(fleet)):
            break
    return _row_medians(y - fleet), fleet


def _row_medians(block: Floats) -> Floats:
    n = (~np.isnan(block)).sum(axis=1)[:, None]
    ordered = np.sort(np.ascontiguousarray(block), axis=1)
    return np.asarray(row_quantile(ordered, n, 0.5)[:, 0])


def _without(ordered: Floats, rank: Ints, place: Ints) -> Floats:
    """Value at a place of each ordered row once the value of a rank is taken out."""
    at = np.minimum(place + (rank <= place), ordered.shape[1] - 1)
    return np.take_along_axis(ordered, at, axis=1)


def _spread(values: Floats, inside: Flags) -> Floats:
    if inside.all():
        return values
    every = np.full((len(inside), *values.shape[1:]), np.nan)
    every[inside] = values
    return every


def _fleet_verdict(found: Split, rules: Rules) -> Verdict:
    """Verdict on the fleet part; its own level, and so a relative effect, means nothing."""
    if rules.kind is MetricKind.TARGET_ZERO:
        typical = float(np.nanmedian(found.level))
        plain = replace(rules, limit=None, clear_limit=None)
        values = found.fleet + typical
    else:
        plain = Rules(
            kind=MetricKind.HIGHER,
            min_effect=0.0,
            threshold=rules.threshold,
            clear_threshold=rules.clear_threshold,
            min_evaluations=rules.min_evaluations,
            window=rules.window,
        )
        values = found.fleet
    return judge_series(values, np.zeros(len(values)), rules=plain).verdict


def _rose(found: Split, at: int) -> bool:
    return bool(np.nanmean(found.fleet[at:]) > np.nanmean(found.fleet[:at]))


def _t(y: Floats, at: int) -> Floats:
    """One-sided t of a fall at window `at`, per machine, on values clipped at 3 MAD/.6745."""
    parts = [_clipped(y[:, :at]), _clipped(y[:, at:])]
    sizes = [(~np.isnan(part)).sum(axis=1) for part in parts]
    enough = (sizes[0] >= FEWEST_BEFORE) & (sizes[1] >= 1)
    safe = [np.maximum(size, 1) for size in sizes]
    means = [np.nansum(part, axis=1) / n for part, n in zip(parts, safe, strict=True)]
    squares = sum(
        np.nansum((part - mean[:, None]) ** 2, axis=1)
        for part, mean in zip(parts, means, strict=True)
    )
    variance = squares / np.maximum(sizes[0] + sizes[1] - 2, 1) * (1 / safe[0] + 1 / safe[1])
    drop = means[0] - means[1]
    flat = np.where(drop > 0, np.inf, np.where(drop < 0, -np.inf, 0.0))
    t = np.divide(drop, np.sqrt(variance), out=flat, where=variance > 0)
    return np.where(enough, t, np.nan)


def _clipped(part: Floats) -> Floats:
    centre = _row_medians(part)[:, None]
    reach = 3.0 * _row_medians(np.abs(part - centre))[:, None] / 0.6745
    reach = np.where(reach > 0, reach, np.inf)
    return np.asarray(np.clip(part, centre - reach, centre + reach))


def _median_effect(
    y: Floats, sample_counts: ArrayLike | None, at: int, told: Flags, kind: MetricKind
) -> float:
    """Median over the machines of the relative effect at a window."""
    if not told.any():
        return 0.0
    counts = np.zeros(y.shape) if sample_counts is None else np.asarray(sample_counts, float)
    typical = np.median(counts[told], axis=1)
    before, after = (
        metric_value(_row_medians(part[told]), typical, kind) for part in (y[:, :at], y[:, at:])
    )
    pairs = zip(before.tolist(), after.tolist(), strict=True)
    return float(np.median([effect(base, current, kind) for base, current in pairs]))


def _fleet_fall(
    verdict: Verdict, *, effect_size: float, direction: int, t: Floats, members: Ints
) -> FleetFall:
    condition = verdict.conditions[0]
    low, at, high = verdict.change_low, verdict.change_index, verdict.change_high
    assert low is not None and at is not None and high is not None  # noqa: PT018, S101
    return FleetFall(
        rule=condition.rule,
        split=at,
        change_low=low,
        change_high=high,
        statistic=condition.statistic,
        threshold=condition.threshold,
        p_value=verdict.p_value,
        confirmed_p=condition.confirmed_p,
        effect=effect_size,
        direction=direction,
        t=t,
        members=members,
    )


def _worth_folding(own: Floats, counts: Floats, rules: Sequence[Rules]) -> Flags:
    """Leave out the machines whose own part cannot be degraded: folding takes milliseconds each."""
    with np.errstate(invalid="ignore"):
        found = scan(own, counts)
        centre = _row_medians(own)[:, None]
        scale = _row_medians(np.abs(own - centre))[:, None] / 0.6745
        far = np.abs(own - centre) > _FAR_OUT * scale
        both = np.array([one.kind is MetricKind.TARGET_ZERO for one in rules])
        worst = np.where(both, np.fmax(found.fall.z, found.rise.z), found.fall.z)
        return np.asarray((worst > _WORTH_FOLDING) | far.any(axis=1))
