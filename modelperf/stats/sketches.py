"""The cells of data too large for memory: a first pass whose result no order or parts change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.cells import (
    MOST_CELLS,
    Cells,
    FeatureKind,
    categorical_cells,
    key_of_float,
    numeric_cells,
)
from modelperf.stats.exact_sums import LARGEST, Floats
from modelperf.stats.labels import count_labels, sample
from modelperf.stats.profile_types import LARGEST_SIZE, Reference
from modelperf.stats.profiles import column_of

MOST_KEYS = 1 << 16
_NOTHING = np.zeros(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sketch:
    """Counts of the leading bits of numbers, of as many bits as 65,536 counts allow.

    How many bits that are depends on the set of values alone: a part never needs fewer than the
    whole. Sketches of parts therefore add up to the same sketch in any order. Of more than 65,536
    labels those with the smallest digests are counted, by the same reasoning.

    Two passes make a reference::

        outline = merge_sketches([Sketch.of(part) for part in parts]).outline()
        reference = outline.filled(merge([profile_of(part, outline) for part in parts]))

    Attributes
    ----------
    kind : FeatureKind or None
        None as long as nothing but missing values was seen and no kind was asked for.
    shift : int
        Trailing bits left off the keys.
    keys, counts : ndarray
        Leading bits of the values in their order (`cells.key_of_float`), and how often they occur.
    low, high : ndarray of float64
        Smallest and largest value of each key.
    labels : dict of str to int
        Of categories.
    """

    kind: FeatureKind | None
    shift: int = 0
    keys: NDArray[np.uint64] = field(default_factory=lambda: _NOTHING.astype(np.uint64))
    counts: NDArray[np.int64] = field(default_factory=lambda: _NOTHING.astype(np.int64))
    low: Floats = field(default_factory=lambda: _NOTHING)
    high: Floats = field(default_factory=lambda: _NOTHING)
    labels: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: ArrayLike, kind: FeatureKind | None = None) -> Sketch:
        """Sketch one part of a column; arguments and errors as in `profiles.reference_of`."""
        column, found = column_of(values, kind)
        if found is FeatureKind.CATEGORICAL:
            tally, _ = count_labels(column.tolist())
            return cls(kind=found, labels=sample(tally, MOST_KEYS))
        known = kind or (None if np.isnan(column).all() else found)
        finite = np.sort(column[np.abs(column) < LARGEST] + 0.0)
        ones = np.ones(finite.size, dtype=np.int64)
        keys = key_of_float(finite)
        return _shortened(cls(kind=known, keys=keys, counts=ones, low=finite, high=finite))

    def outline(self) -> Reference:
        """Return a reference with cells of about equal counts, and no counts in them yet."""
        most = MOST_CELLS
        while True:
            cells = self._cells(most)
            each = (self.counts.sum() // most * 2).item().bit_length() // 7 + 1
            if len(cells.to_bytes()) + cells.size * each <= LARGEST_SIZE - 200:
                return Reference.empty(cells)
            most //= 2

    def _cells(self, most: int) -> Cells:
        if self.kind is FeatureKind.CATEGORICAL:
            return categorical_cells(self.labels)
        return numeric_cells(*_spread(self.counts, self.low, self.high), most)


def merge_sketches(sketches: Sequence[Sketch]) -> Sketch:
    """Add up sketches of parts of one column; their order and grouping make no difference.

    Raises
    ------
    ValueError
        Without sketches, or where some are of numbers and some of categories.
    """
    if not sketches:
        raise ValueError("nothing to merge")
    kinds = {part.kind for part in sketches} - {None}
    if len(kinds) > 1:
        raise ValueError("a column has either numbers or categories")
    whole = Sketch(kind=next(iter(kinds), None))
    if whole.kind is FeatureKind.CATEGORICAL:
        tally: Counter[str] = Counter()
        for part in sketches:
            tally.update(part.labels)
        return replace(whole, labels=sample(tally, MOST_KEYS))
    shift = max(part.shift for part in sketches)
    keys = np.concatenate([part.keys >> np.uint64(shift - part.shift) for part in sketches])
    order = np.argsort(keys, kind="stable")
    counts, low, high = (
        np.concatenate([getattr(part, name) for part in sketches])[order]
        for name in ("counts", "low", "high")
    )
    return _shortened(
        replace(whole, shift=shift, keys=keys[order], counts=counts, low=low, high=high)
    )


def _shortened(long: Sketch) -> Sketch:
    """Leave off as few more bits of ascending keys as make them few enough, and add up equals."""
    if not long.keys.size:
        return long
    changes = long.keys[1:] ^ long.keys[:-1]
    least, enough = -1, 64 - long.shift
    while enough - least > 1:
        middle = (least + enough) // 2
        few = middle < 64 and np.count_nonzero(changes >> np.uint64(middle)) < MOST_KEYS
        least, enough = (least, middle) if few else (middle, enough)
    keys = long.keys >> np.uint64(enough)
    starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
    return replace(
        long,
        shift=long.shift + enough,
        keys=keys[starts],
        counts=np.add.reduceat(long.counts, starts),
        low=np.minimum.reduceat(long.low, starts),
        high=np.maximum.reduceat(long.high, starts),
    )


def _spread(
    counts: NDArray[np.int64], low: Floats, high: Floats
) -> tuple[Floats, NDArray[np.int64]]:
    """Return distinct values and counts as they may have been: evenly between the extremes."""
    share = max(int(counts.sum()) // (4 * MOST_CELLS), 1)
    pieces = np.where(low < high, np.clip(counts // share, 2, counts), 1)
    key = np.repeat(np.arange(counts.size), pieces)
    piece = np.arange(key.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    part = piece / np.maximum(pieces - 1, 1)[key]
    values = low[key] * (1 - part) + high[key] * part
    spread = counts[key] // pieces[key] + (piece < counts[key] % pieces[key])
    distinct, place = np.unique(values, return_inverse=True)
    total = np.zeros(distinct.size, dtype=np.int64)
    np.add.at(total, place, spread)
    return distinct, total
