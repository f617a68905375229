"""At most 32 bars of two samples, for people and for the sizes that are taken of bars."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.cells import FeatureKind
from modelperf.stats.feature_verdicts import Histogram
from modelperf.stats.profile_types import MOST_BINS, Profile, Reference

Counts = NDArray[np.int64]


def bars(reference: Reference, current: Profile) -> tuple[Counts, Counts]:
    """Return the counts of both samples in the same bars.

    Numbers: every value where they are at most 32, else the reference's bins, where there is room
    with bars for values that it does not have.
    Categories: the most frequent, then all others.
    """
    pair = reference.profile, current
    if reference.kind is FeatureKind.CATEGORICAL:
        first, second = (_named(profile, len(_names(reference, current))) for profile in pair)
        return first, second
    starts = _starts(reference, current)
    first, second = (np.add.reduceat(profile.counts, starts) for profile in pair)
    return first, second


def histogram(reference: Reference, current: Profile) -> Histogram:
    """Return the shares of both samples in the same bars; none for a sample without values."""
    if not reference.n:
        return Histogram()
    counts = bars(reference, current)
    own, now = (tuple((part / max(part.sum(), 1)).tolist()) for part in counts)
    if not current.n:
        now = ()
    if reference.kind is FeatureKind.CATEGORICAL:
        return Histogram(categories=_names(reference, current), reference=own, current=now)
    return Histogram(edges=_edges(reference, current), reference=own, current=now)


def _names(reference: Reference, current: Profile) -> tuple[str | None, ...]:
    """Return the label of each bar, None for all others together."""
    names = reference.cells.categories
    if len(names) <= MOST_BINS and not reference.profile.other + current.other:
        return names
    return (*names[: MOST_BINS - 1], None)


def _named(profile: Profile, size: int) -> Counts:
    counts = np.append(profile.counts, profile.other)
    if size == profile.counts.size and not profile.other:
        return counts[:-1]
    return np.append(counts[: size - 1], counts[size - 1 :].sum())


def _starts(reference: Reference, current: Profile) -> Counts:
    """Return the first cell of each bar, of which none is empty in both."""
    own, now, starts = reference.profile.counts, current.counts, reference.bins
    if not reference.cells.exact:
        return starts
    filled = np.flatnonzero(own + now)
    if filled.size <= MOST_BINS:
        starts = filled
    else:
        new = np.flatnonzero((own == 0) & (now > 0))
        largest = new[np.argsort(-now[new], kind="stable")][: (MOST_BINS - starts.size) // 2]
        starts = np.unique(np.concatenate([starts, largest, largest + 1]))
        starts = starts[starts < own.size]
        starts = starts[np.add.reduceat(own + now, starts) > 0]
    starts[0] = 0
    return starts


def _edges(reference: Reference, current: Profile) -> tuple[float, ...]:
    extremes: list[Any] = [
        end
        for profile in (reference.profile, current)
        for end in (profile.minimum, profile.maximum)
        if end is not None
    ]
    if not extremes:
        return ()
    cuts = reference.cells.cuts[_starts(reference, current)[1:] - 1]
    edges = np.concatenate([[min(extremes)], cuts, [max(extremes)]])
    return tuple(np.maximum.accumulate(edges).tolist())
