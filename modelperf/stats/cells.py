"""The cells a feature's values are counted in: cuts of the line at quantiles, or categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.cell_lookup import CellLookup
from modelperf.stats.exact_sums import Floats, exponent_for
from modelperf.stats.labels import MOST_CATEGORIES, top
from modelperf.stats.packing import Packer, Unpacker, numbers, varints

MOST_CELLS = 2048
_SHORT_BITS = np.uint64(24)  # left off a cut between values, of whose digits 28 bits remain
_SHORTENED = np.uint64((1 << 24) - 1)
_MOST_SINGLE = 0.01  # share of values that occur once, up to which values have no neighbours
_HALVINGS = 8
_BEYOND = 24
_BISECTIONS = 40
_SIGN = np.uint64(1 << 63)


class FeatureKind(StrEnum):
    """Whether a feature's values have an order and distances, or only names."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """How the values of one feature are counted.

    Attributes
    ----------
    kind : FeatureKind
        Numeric or categorical.
    exact : bool
        Every value the cells were made from has a cell, or a category, of its own.
    cuts : ndarray of float64
        Numeric: the cuts between at most 2,048 cells, ascending, see `cut_points`.
    centre : float
        Numeric: the point, near the median, around which squares are summed.
    exponent, square_exponent : int
        Numeric: units of the sums, as powers of two.
    categories : tuple of str
        Categorical: labels, the most frequent first.
    """

    kind: FeatureKind
    exact: bool
    cuts: Floats
    centre: float = 0.0
    exponent: int = 0
    square_exponent: int = 0
    categories: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of cells, or of categories."""
        return len(self.categories) if self.kind is FeatureKind.CATEGORICAL else self.cuts.size + 1

    @cached_property
    def digest(self) -> bytes:
        """What a profile carries to name its cells."""
        return blake2b(self.to_bytes(), digest_size=16).digest()

    @cached_property
    def lookup(self) -> CellLookup:
        """Finds the cells of values."""
        return CellLookup(self.cuts)

    @cached_property
    def places(self) -> dict[str, int]:
        """Number of each category."""
        return {name: place for place, name in enumerate(self.categories)}

    def to_bytes(self) -> bytes:
        """Pack, in the same bytes on every machine."""
        packer = Packer()
        packer.number(self.kind is FeatureKind.NUMERIC)
        packer.number(self.exact)
        packer.real(self.centre)
        packer.number(self.exponent)
        packer.number(self.square_exponent)
        _pack_cuts(packer, self.cuts)
        packer.number(len(self.categories))
        for name in self.categories:
            packer.text(name)
        return packer.done()

    @classmethod
    def unpack(cls, taken: Unpacker) -> Cells:
        """Take off what `to_bytes` packed."""
        return cls(
            kind=FeatureKind.NUMERIC if taken.number() else FeatureKind.CATEGORICAL,
            exact=bool(taken.number()),
            centre=taken.real() or 0.0,
            exponent=taken.number(),
            square_exponent=taken.number(),
            cuts=_unpack_cuts(taken),
            categories=tuple(taken.text() for _ in range(taken.number())),
        )


def numeric_cells(values: Floats, counts: NDArray[Any], most: int = MOST_CELLS) -> Cells:
    """Return cells for distinct, ascending, finite values, possibly none, that occur so often."""
    if not values.size:
        return Cells(kind=FeatureKind.NUMERIC, exact=True, cuts=values)
    middle = np.searchsorted(np.cumsum(counts), counts.sum() // 2, side="right")
    centre = float(values[middle])
    peak = float(np.abs(values).max())
    reach = float(np.abs(values - centre).max()) or peak
    return Cells(
        kind=FeatureKind.NUMERIC,
        exact=2 * values.size < most,
        cuts=cut_points(values, counts, most),
        centre=centre,
        exponent=exponent_for(peak),
        square_exponent=exponent_for(reach * reach),
    )


def categorical_cells(tally: Mapping[str, int]) -> Cells:
    """Return cells for the most frequent labels."""
    return Cells(
        kind=FeatureKind.CATEGORICAL,
        exact=len(tally) <= MOST_CATEGORIES,
        cuts=np.zeros(0),
        categories=top(tally),
    )


def cut_points(values: Floats, counts: NDArray[Any], most: int = MOST_CELLS) -> Floats:
    """Return the lower ends of all cells but the first, for distinct values and their counts.

    Parameters
    ----------
    values : ndarray of float64
        Distinct and ascending, finite.
    counts : ndarray of int
        How often each occurs, positive.
    most : int
        Largest number of cells.

    Returns
    -------
    ndarray of float64
        Ascending. Cell ``i`` holds the values from cut ``i - 1`` to just below cut ``i``. A value
        that takes two quantiles or more gets a cell of its own, ended by the next float; where
        half as many cells suffice, every value does. Unless nearly all values repeat, the cells
        that are left lie in the tails, beyond the extremes and in the widest gaps.
    """
    if 2 * values.size < most:
        cuts = np.unique(np.stack([values, np.nextafter(values, np.inf)]))
        once = np.count_nonzero(counts == 1)
        return cuts if once <= _MOST_SINGLE * counts.sum() else _refined(cuts, values, most)
    return _refined(_quantiles(values, counts, most * 15 // 16), values, most)


def _quantiles(values: Floats, counts: NDArray[Any], most: int) -> Floats:
    """Return the cuts at quantiles, of which the outermost are halved again and again."""
    reached = np.cumsum(counts)
    n = int(reached[-1])
    even = n * np.arange(1, most, dtype=object) // most
    tail = n // most // (2 ** np.arange(1, _HALVINGS + 1))
    ranks = np.unique(np.concatenate([tail, even, n - 1 - tail]).astype(np.int64))
    place, times = np.unique(np.searchsorted(reached, ranks, side="right"), return_counts=True)
    cuts, before = values[place], values[np.maximum(place - 1, 0)]
    short = _short(cuts)
    atoms = np.nextafter(cuts[times > 1], np.inf)
    return np.concatenate([np.where((times == 1) & (short > before), short, cuts), atoms])


def _refined(cuts: Floats, values: Floats, most: int) -> Floats:
    """Add cuts at the ends, at growing distances beyond them and, evenly, in the widest cells."""
    low, high = _short(values[:1])[0], _short(values[-1:], up=True)[0]
    steps = np.cumsum(2 ** (np.arange(_BEYOND) / 4)) * ((high - low) / 64)
    beyond = _short(np.concatenate([low - steps, high + steps]))
    cuts = np.unique(np.concatenate([cuts, [low, high], beyond]) + 0.0)[: most - 1]
    inside = cuts[(cuts >= low) & (cuts <= high)]
    widths, room = np.diff(inside), most - 1 - cuts.size
    wide = widths.max()
    narrow = wide / most
    if room < 1 or narrow < np.finfo(np.float64).tiny:
        return cuts
    for _ in range(_BISECTIONS):
        width = np.sqrt(narrow) * np.sqrt(wide)
        fits = np.sum(_pieces(widths, width) - 1) <= room
        narrow, wide = (narrow, width) if fits else (width, wide)
    pieces = _pieces(widths, wide)
    cell = np.repeat(np.arange(widths.size), pieces)
    part = np.arange(cell.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    split = _short(inside[cell] + widths[cell] * (part / pieces[cell]))[part > 0]
    return np.unique(np.concatenate([cuts, split]) + 0.0)


def _pieces(widths: Floats, width: float) -> NDArray[np.int64]:
    return np.maximum(np.ceil(widths / width), 1).astype(np.int64)


def _short(values: Floats, *, up: bool = False) -> Floats:
    """Return values with fewer digits, which take less room: not above the given, or above."""
    keys = key_of_float(values)
    return float_of_key((keys | _SHORTENED) + np.uint64(1) if up else keys & ~_SHORTENED)


def key_of_float(values: Floats) -> NDArray[np.uint64]:
    """Return unsigned numbers in the order of the values."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def float_of_key(keys: NDArray[np.uint64]) -> Floats:
    """Return the values of `key_of_float`."""
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float64)


def _pack_cuts(packer: Packer, cuts: Floats) -> None:
    """Pack the distances between the leading bits, and the trailing bits of those that have any.

    A cut that is the next float after another is only a mark.
    """
    keys = key_of_float(cuts)
    twins = np.diff(keys, prepend=np.uint64(0)) == 1
    keys = keys[~twins]
    trailing = (keys & _SHORTENED).astype("<u4")
    packer.number(cuts.size)
    packer.blob(np.packbits(twins).tobytes())
    packer.blob(np.packbits(trailing > 0).tobytes())
    packer.blob(varints(np.diff(keys >> _SHORT_BITS, prepend=np.uint64(0))))
    packer.blob(trailing[trailing > 0].view(np.uint8).reshape(-1, 4)[:, :3].tobytes())


def _unpack_cuts(taken: Unpacker) -> Floats:
    size = taken.number()
    twins = np.unpackbits(np.frombuffer(taken.blob(), np.uint8), count=size).astype(bool)
    longer = np.frombuffer(taken.blob(), np.uint8)
    leading = np.cumsum(numbers(taken.blob()), dtype=np.uint64)
    bytes_ = np.frombuffer(taken.blob(), np.uint8).reshape(-1, 3)
    trailing = np.zeros(leading.size, dtype=np.uint64)
    trailing[np.unpackbits(longer, count=leading.size).astype(bool)] = bytes_ @ [1, 256, 65536]
    keys = np.zeros(size, dtype=np.uint64)
    keys[~twins] = leading << _SHORT_BITS | trailing
    for place in np.flatnonzero(twins):
        keys[place] = keys[place - 1] + np.uint64(1)
    return float_of_key(keys)
