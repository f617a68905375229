"""The retained evaluations of one series, and the statistics of its prefixes in blocks.

A prefix is always computed at the same padded width, whatever block it comes in. Sums then round
alike, and a series judged at once or one evaluation at a time gives bitwise the same statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.change_point import Scan, Side, scan
from modelperf.stats.collapse import BASE, Depth, depth
from modelperf.stats.fleet import tail_p_value
from modelperf.stats.orientation import orient
from modelperf.stats.results import MetricKind, Rules
from modelperf.stats.tails import two_sided

Floats = NDArray[np.float64]

BLOCK = 64
RECOVERY_REACH = 2.5  # at 2 a recovery of 2 sigma is told after 7 evaluations instead of 6


@dataclass(frozen=True, slots=True)
class Row:
    """The window of one prefix: oriented and raw values, counts, and absolute positions."""

    oriented: Floats
    values: Floats
    counts: Floats
    positions: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Block:
    """Statistics of the prefixes that end at track indices ``first`` .. ``last - 1``."""

    first: int
    last: int
    scan: Scan
    z: Floats
    p: Floats
    depth: Depth
    depth_before: Depth


@dataclass(slots=True)
class Track:
    """Retained evaluations of one series in order: finite, not part of a closed incident."""

    values: Floats
    counts: Floats
    positions: NDArray[np.intp]
    rules: Rules

    def __len__(self) -> int:
        return len(self.values)

    def index_of(self, position: int) -> int:
        """Return the index of the first retained evaluation at or after a position."""
        return int(np.searchsorted(self.positions, position))

    def reach_from(self, end: int, windows: int = 1) -> int:
        """Return the position of the earliest evaluation that a step at index `end` looks at."""
        reach = windows * max(self.rules.window, BASE + 2)
        return int(self.positions[max(0, end + 1 - reach)])

    def drop(self, low: int, high: int) -> None:
        """Forget the evaluations at absolute positions low .. high - 1."""
        keep = (self.positions < low) | (self.positions >= high)
        self.values, self.counts = self.values[keep], self.counts[keep]
        self.positions = self.positions[keep]

    def row(self, end: int, first: int = 0) -> Row:
        """Return the window that ends with index `end`, from index `first` on at the earliest."""
        span = slice(max(first, end + 1 - self.rules.window), end + 1)
        values, counts = self.values[span], self.counts[span]
        oriented = orient(values, counts, self.rules.kind)
        return Row(oriented, values, counts, self.positions[span])

    def block(self, first: int, size: int) -> Block:
        """Judge the prefixes ending at `first` and up to `size` - 1 following indices."""
        last = self._block_end(first, size, start=0)
        found = scan(*self._gather(first, last, start=0))
        enough = found.n >= self.rules.min_evaluations
        z = found.fall.z
        if self.rules.kind is MetricKind.TARGET_ZERO:
            found = _both_watched(found)
            z = np.maximum(found.fall.z, found.rise.z)
        z = np.where(enough, z, np.nan)
        p = tail_p_value(z, found.n)
        before, now = self._depths(first, last)
        return Block(first, last, found, z, p, now, before)

    def recoveries(self, change: int, first: int, size: int, direction: int) -> tuple[int, Side]:
        """Return where the block ends, and the best rise after index `change` of its prefixes."""
        last = self._block_end(first, size, start=change)
        rows = self._gather(first, last, start=change)
        found = scan(*rows, fewest_before=4, fewest_after=4, reach=RECOVERY_REACH)
        return last, found.rise if direction > 0 else found.fall

    def _width(self, length: int) -> int:
        return min(self.rules.window, -(-length // BLOCK) * BLOCK)

    def _block_end(self, first: int, size: int, start: int) -> int:
        width = self._width(min(first + 1 - start, self.rules.window))
        fits = len(self) if width == self.rules.window else start + width
        return min(first + size, fits, len(self))

    def _gather(self, first: int, last: int, start: int) -> tuple[Floats, Floats]:
        """Windows of the prefixes as rows, oriented, padded with NaN on the right."""
        ends = np.arange(first, last)
        starts = np.maximum(start, ends + 1 - self.rules.window)
        width = self._width(int(ends[0] + 1 - starts[0]))
        at = starts[:, None] + np.arange(width)
        inside = at <= ends[:, None]
        at = np.where(inside, at, starts[:, None])
        values = np.where(inside, self.values[at], np.nan)
        counts = self.counts[at]
        return orient(values, counts, self.rules.kind), counts

    def _depths(self, first: int, last: int) -> tuple[Depth, Depth]:
        """Depth of each evaluation of the block, and of the one before each."""
        at = np.arange(first - 1, last)[:, None] + np.arange(-BASE, 1)
        inside = at >= 0
        at = np.maximum(at, 0)
        values, counts = np.where(inside, self.values[at], np.nan), self.counts[at]
        found = depth(orient(values, counts, self.rules.kind), counts)
        return _part(found, slice(0, -1)), _part(found, slice(1, None))


def _both_watched(found: Scan) -> Scan:
    fall = replace(found.fall, z=two_sided(found.fall.z))
    return replace(found, fall=fall, rise=replace(found.rise, z=two_sided(found.rise.z)))


def _part(found: Depth, rows: slice) -> Depth:
    return Depth(
        z=found.z[rows],
        before=found.before[rows],
        scale=found.scale[rows],
        alone_beyond=found.alone_beyond[rows],
    )
