"""A fall at one split of one series: how large, and whether it only took back a gain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.change_point import scan
from modelperf.stats.fleet import FEWEST_AFTER, FEWEST_BEFORE
from modelperf.stats.orientation import effect, level, robust_mean, winsorised
from modelperf.stats.results import MetricKind, Rules
from modelperf.stats.track import Row
from modelperf.stats.weights import fitted_weights

Floats = NDArray[np.float64]

IMPROVED_BEFORE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change in a row: where, from which level to which, and what became of it.

    ``split`` counts evaluations before the change; ``before`` is the oriented level of the base,
    ``baseline`` and ``current`` are on the metric's own scale; ``is_loss_of_gain`` tells that the
    fall only took back an earlier improvement.
    """

    split: int
    before: float
    baseline: float
    current: float
    effect: float
    is_loss_of_gain: bool = False


def directions(kind: MetricKind) -> tuple[int, ...]:
    """Return the directions in which a metric gets worse: falls, and rises where zero is the aim.

    1 where a lower oriented value is worse, -1 where a higher one is.
    """
    return (1, -1) if kind is MetricKind.TARGET_ZERO else (1,)


def change_at(row: Row, split: int, kind: MetricKind, *, base: int | None = None) -> Change:
    """Describe the change at a split, without judging it.

    Parameters
    ----------
    row : Row
        The window.
    split : int
        Evaluations before the change.
    kind : MetricKind
        How levels and effect are measured.
    base : int, optional
        How many of those before the change make the level before it; all by default.

    Returns
    -------
    Change
    """
    weight, base = row_weights(row), split if base is None else base
    baseline = level(row.values[:base], weight[:base], kind)
    current = level(row.values[split:], weight[split:], kind)
    return Change(
        split=split,
        before=robust_mean(row.oriented[:base], weight[:base]),
        baseline=baseline,
        current=current,
        effect=effect(baseline, current, kind),
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
        One of `directions`.
    rules : Rules
        The smallest effect that matters.

    Returns
    -------
    Change or None
        None where the fall is smaller than ``min_effect``. Up, then back: where the evaluations
        before the fall had themselves risen, the base is what lies before that rise
        (`base_before_gains`), and the fall is a loss of a gain unless it goes below that base by
        ``min_effect`` and by twice the standard error of the difference.
    """
    plain = change_at(row, split, rules.kind)
    if not matters(plain.effect, rules):
        return None
    base = base_before_gains(row, split, direction)
    if base == split:
        return plain
    change = change_at(row, split, rules.kind, base=base)
    first, last = row.oriented[:base], row.oriented[split:]
    fall = direction * (change.before - robust_mean(last, row_weights(row)[split:]))
    is_below = matters(change.effect, rules) and fall > 2 * _standard_error(first, last, phi)
    return change if is_below else replace(plain, is_loss_of_gain=True)


def matters(size: float, rules: Rules) -> bool:
    """Tell whether an effect is for the worse, and at least the smallest that matters."""
    return size > 0 and size >= rules.min_effect


def base_before_gains(row: Row, split: int, direction: int) -> int:
    """Return how many evaluations lie before every rise that preceded a fall at `split`.

    A rise is one whose statistic exceeds 3 in the evaluations up to the fall (and again in those
    before that rise); `split` itself where there is none.
    """
    base = split
    while base >= FEWEST_BEFORE + FEWEST_AFTER:
        before = scan(direction * row.oriented[None, :base], row.counts[None, :base])
        if not before.rise.z[0] > IMPROVED_BEFORE:
            break
        base = int(before.rise.split[0])
    return base


def row_weights(row: Row) -> Floats:
    """Return the weights of a row's evaluations, shape (evaluations,), of mean 1."""
    return np.asarray(fitted_weights(row.oriented[None, :], row.counts[None, :])[0])


def _standard_error(first: Floats, last: Floats, phi: float) -> float:
    """Of the difference of two means, with autocorrelation phi."""
    parts = [winsorised(part) for part in (first, last)]
    squares = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    variance = squares / (len(first) + len(last) - 2)
    inflation = (1 / len(first) + 1 / len(last)) * (1 + phi) / (1 - phi)
    return float(np.sqrt(variance * inflation))
