"""The retained evaluations of one series, and the windows in which they are looked at.

A prefix is always computed at the same padded width, whatever block it comes in. Sums then round
alike, and a series judged at once or one evaluation at a time gives bitwise the same statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.collapse import BASE
from modelperf.stats.orientation import orient, orient_one_by_one
from modelperf.stats.results import FoldState, MetricKind, Rules

Floats = NDArray[np.float64]

BLOCK = 64


class Noise(NamedTuple):
    """Of the version before: variance on the oriented scale, and phi."""

    variance: float
    phi: float


def noise_before(state: FoldState, rules: Rules) -> Noise | None:
    """Return the noise by which a new version is judged early; never where both sides are worse."""
    if state.prior_variance is None or state.prior_phi is None:
        return None
    if rules.kind is MetricKind.TARGET_ZERO:
        return None
    return Noise(state.prior_variance, state.prior_phi)


@dataclass(frozen=True, slots=True)
class Row:
    """The window of one prefix: oriented and raw values, counts, and absolute positions."""

    oriented: Floats
    values: Floats
    counts: Floats
    positions: NDArray[np.intp]


@dataclass(slots=True)
class Track:
    """Retained evaluations of one series in order: finite, not part of a closed incident.

    ``oriented`` is None where the place of a value depends on the others of its window (a loss of
    zero), ``is_even`` tells that all counts are equal, ``noise`` is that of the version before.
    """

    values: Floats
    counts: Floats
    positions: NDArray[np.intp]
    rules: Rules
    noise: Noise | None = None
    oriented: Floats | None = field(init=False)
    is_even: bool = field(init=False)

    def __post_init__(self) -> None:
        self._look()

    def __len__(self) -> int:
        return len(self.values)

    def index_of(self, position: int) -> int:
        """Return the index of the first retained evaluation at or after a position."""
        return int(self.positions.searchsorted(position))

    def reach_from(self, end: int, windows: int = 1) -> int:
        """Return the position of the earliest evaluation that a step at index `end` looks at."""
        reach = windows * max(self.rules.window, BASE + 2)
        return int(self.positions[max(0, end + 1 - reach)])

    def drop(self, low: int, high: int) -> None:
        """Forget the evaluations at absolute positions low .. high - 1."""
        first, last = self.index_of(low), self.index_of(high)
        if first == last:
            return
        keep = np.r_[:first, last : len(self)]
        self.values, self.counts = self.values[keep], self.counts[keep]
        self.positions = self.positions[keep]
        self._look()

    def _look(self) -> None:
        self.oriented = orient_one_by_one(self.values, self.counts, self.rules.kind)
        self.is_even = bool((self.counts == self.counts[:1]).all())

    def row(self, end: int, first: int = 0) -> Row:
        """Return the window that ends with index `end`, from index `first` on at the earliest."""
        span = slice(max(first, end + 1 - self.rules.window), end + 1)
        values, counts = self.values[span], self.counts[span]
        oriented = (
            orient(values, counts, self.rules.kind)
            if self.oriented is None
            else self.oriented[span]
        )
        return Row(oriented, values, counts, self.positions[span])

    def span(self, first: int, start: int = 0) -> Span:
        """Return the prefixes of one block: of equal padded width, ending at `first` or later.

        They begin at index `start` at the earliest.
        """
        window = self.rules.window
        width = self._width(first + 1 - start)
        fits = len(self) if width == window else start + width
        return Span(self, first, min(first + BLOCK, fits, len(self)), start, width)

    def newest(self) -> Span:
        """Return the newest prefix alone."""
        end = len(self) - 1
        return Span(self, end, end + 1, 0, self._width(end + 1))

    def _width(self, length: int) -> int:
        return min(self.rules.window, -(-length // BLOCK) * BLOCK)


@dataclass(frozen=True, slots=True)
class Span:
    """Prefixes that end at the track's indices first .. last - 1, padded to a common width."""

    track: Track
    first: int
    last: int
    start: int
    width: int
