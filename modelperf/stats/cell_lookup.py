"""Finding the cell of a value fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.exact_sums import CHUNK, Floats

Cells = NDArray[np.int64]

_BINS = 1 << 15
_STEP, _SEARCH = 3.0, 70.0  # nanoseconds of one comparison and of a binary search, about
_DEEPEST = 4
_GOOD = 1.2 * _STEP  # a better grid is not worth looking for
_ALONE = 0.1  # share of the values that a single value with a cell of its own may take
_NEAR = (0.02, 0.25)  # shares of the cuts about the centre of a growing grid
_TRIMMED = (0.0, 0.02, 0.1)  # shares of the cuts outside an even grid, at each end


@dataclass(frozen=True, slots=True)
class _Grid:
    """A map of values to bins that never falls, and what it leaves to do.

    Attributes
    ----------
    bins : callable
        Returns the bin of each value.
    first : ndarray, shape (bins,)
        Number of cuts in lower bins: these are at most any value of the bin.
    steps : int
        Comparisons with the next cut that end at the right cell, except in crowded bins.
    crowded : ndarray of bool, shape (bins,)
        Bins with more cuts than steps.
    cost : float
        Nanoseconds a value, about, by the likely frequencies.
    """

    bins: Callable[[Floats], NDArray[Any]]
    first: Cells
    steps: int
    crowded: NDArray[np.bool_]
    cost: float


class CellLookup:
    """Finds cells as ``searchsorted(cuts, values, side="right")`` does, several times as fast.

    A grid tells for each of its bins how many cuts lie below it; comparisons with the next cuts do
    the rest, and a binary search where a bin has many. As the same map puts cuts and values into
    bins and never falls, rounding cannot put a value into a wrong cell.
    """

    def __init__(self, cuts: Floats) -> None:
        self.cuts = cuts
        self.next = np.append(cuts, np.inf)

    def cells(self, values: Floats) -> NDArray[Any]:
        """Return the cell of each finite value."""
        if values.size < CHUNK // 2 or self.cuts.size < 2:  # a grid would cost more than it saves
            return np.searchsorted(self.cuts, values, side="right")
        grid = self._grid
        bins = grid.bins(values)
        cells = grid.first.take(bins)
        for _ in range(grid.steps):
            cells += values >= self.next.take(cells)
        if grid.cost > grid.steps * _STEP:
            crowded = np.flatnonzero(grid.crowded.take(bins))
            cells[crowded] = np.searchsorted(self.cuts, values[crowded], side="right")
        return cells

    @cached_property
    def _grid(self) -> _Grid:
        maps = [_even(*np.quantile(self.cuts, [share, 1 - share]).tolist()) for share in _TRIMMED]
        for centre in (0.0, float(np.median(self.cuts))):
            distances = np.abs(self.cuts - centre)
            near, far = np.quantile(distances, _NEAR), float(distances.max())
            maps += [_growing(centre, width, far) for width in near.tolist() if width > 0]
        best = self._measured(maps[0])
        for bins in maps[1:]:
            if best.cost <= _GOOD:
                break
            best = min(best, self._measured(bins), key=lambda grid: grid.cost)
        return best

    @cached_property
    def _frequency(self) -> Floats:
        """How often a value falls near each cut: a value with a cell of its own is frequent."""
        alone = np.nextafter(self.cuts, np.inf) == self.next[1:]
        weight = np.where(alone, 1 + self.cuts.size * _ALONE, 1.0)
        return np.asarray(weight / weight.sum())

    def _measured(self, bins: Callable[[Floats], NDArray[Any]]) -> _Grid:
        places = bins(self.cuts)
        inside = np.bincount(places, minlength=_BINS)
        beside = inside[places]
        costs = [
            steps * _STEP + float(self._frequency[beside > steps].sum()) * _SEARCH
            for steps in range(1, _DEEPEST + 1)
        ]
        steps = int(np.argmin(costs)) + 1
        return _Grid(
            bins=bins,
            first=np.cumsum(inside) - inside,
            steps=steps,
            crowded=inside > steps,
            cost=costs[steps - 1],
        )


def _even(low: float, high: float) -> Callable[[Floats], NDArray[Any]]:
    """Return the map to bins of equal width."""
    scale = (_BINS - 1) / max(high - low, 1e-290)

    def bins(values: Floats) -> NDArray[Any]:
        place = np.maximum(values, low)
        np.minimum(place, high, out=place)
        place -= low
        place *= scale
        return place.astype(np.int64)

    return bins


def _growing(centre: float, width: float, reach: float) -> Callable[[Floats], NDArray[Any]]:
    """Return the map to bins that grow with the distance from `centre`, from about `width` on.

    The bits of a positive float, read as an integer, are about its logarithm.
    """
    start, end = np.array([width, reach + width]).view(np.int64).tolist()
    half = _BINS // 2
    shift = (max(end - start, 1) // half).bit_length()

    def bins(values: Floats) -> NDArray[Any]:
        distance = values - centre
        distance += 0.0  # a zero without sign
        sign = distance.view(np.int64) >> 63
        np.abs(distance, out=distance)
        distance += width
        place = distance.view(np.int64)
        place -= start
        place >>= shift
        np.minimum(place, half - 1, out=place)
        place ^= sign  # -1 - place on the left
        place += half
        return place

    return bins
