"""What is kept of a feature instead of its rows, as frozen values that pack into few bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.cells import Cells, FeatureKind
from modelperf.stats.exact_sums import ExactSum
from modelperf.stats.packing import Packer, Unpacker

LARGEST_SIZE = 20_000  # bytes of a packed reference or profile, at most
MOST_BINS = 32
_VERSION = 1
_NOTHING = ExactSum(0, 0)


def _expect_version(taken: Unpacker) -> None:
    if taken.number() != _VERSION:
        raise ValueError(f"not a profile of version {_VERSION}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """One window of one feature, counted in the cells of its reference.

    Attributes
    ----------
    reference_digest : bytes
        Of the cells it was counted in; profiles of other cells neither merge nor compare.
    n : int
        Values that are there, infinite ones included; the sum of `counts` and `other`.
    missing : int
        Values that are not: NaN, None, NaT.
    counts : ndarray of int64
        Values in each cell, or of each known category. Infinite values are in the outermost cells.
    below, above : int
        Values beyond -2**500 and 2**500, infinite ones among them; they are in no sum or extreme.
    minimum, maximum : float or None
        Of the finite values; None without any, and for categories.
    total : ExactSum
        Sum of the finite values.
    squares : ExactSum
        Sum of the squared distances of the finite values from the cells' `centre`.
    new : dict of str to int
        Categories the reference does not name, at most 100 of them: those with the smallest
        digests, so that merging keeps their counts exact.
    other : int
        All values of categories that the reference does not name.
    """

    reference_digest: bytes
    n: int
    missing: int
    counts: NDArray[np.int64]
    below: int = 0
    above: int = 0
    minimum: float | None = None
    maximum: float | None = None
    total: ExactSum = _NOTHING
    squares: ExactSum = _NOTHING
    new: Mapping[str, int] = field(default_factory=dict)
    other: int = 0

    @property
    def rows(self) -> int:
        """Values that are there or missing."""
        return self.n + self.missing

    @property
    def finite(self) -> int:
        """Values that are in the sums."""
        return self.n - self.below - self.above

    @property
    def mean(self) -> float | None:
        """Mean of the finite values."""
        return float(self.total.exact / self.finite) if self.finite else None

    def to_bytes(self) -> bytes:
        """Pack, in the same bytes on every machine, at most 20,000 of them."""
        packer = Packer()
        packer.number(_VERSION)
        packer.blob(self.reference_digest)
        for number in (self.n, self.missing, self.below, self.above, self.other):
            packer.number(number)
        packer.counts(self.counts)
        packer.real(self.minimum)
        packer.real(self.maximum)
        for part in (self.total, self.squares):
            packer.number(part.units)
            packer.number(part.exponent)
        packer.number(len(self.new))
        for name, count in self.new.items():
            packer.text(name)
            packer.number(count)
        return packer.done()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Profile:
        """Unpack; ValueError where the bytes are none of `to_bytes`."""
        taken = Unpacker(packed)
        _expect_version(taken)
        digest = taken.blob()
        n, missing, below, above, other = (taken.number() for _ in range(5))
        return cls(
            reference_digest=digest,
            n=n,
            missing=missing,
            below=below,
            above=above,
            other=other,
            counts=taken.counts(),
            minimum=taken.real(),
            maximum=taken.real(),
            total=ExactSum(taken.number(), taken.number()),
            squares=ExactSum(taken.number(), taken.number()),
            new={taken.text(): taken.number() for _ in range(taken.number())},
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Profile) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What a feature is compared with: cells, and the reference's own profile in them.

    Attributes
    ----------
    cells : Cells
        How values are counted; numeric: 2,048 cells, categorical: the 200 most frequent labels.
    profile : Profile
        The reference's own values; without any before `filled`, where the cells come from a
        `sketches.Sketch`.
    """

    cells: Cells
    profile: Profile

    def __post_init__(self) -> None:
        if self.profile.reference_digest != self.cells.digest:
            raise ValueError("the profile was counted in the cells of another reference")

    @property
    def kind(self) -> FeatureKind:
        """Numeric or categorical."""
        return self.cells.kind

    @property
    def digest(self) -> bytes:
        """What profiles in these cells carry; `filled` does not change it."""
        return self.cells.digest

    @property
    def n(self) -> int:
        """Values that are there."""
        return self.profile.n

    @property
    def missing(self) -> int:
        """Values that are missing."""
        return self.profile.missing

    @cached_property
    def deviation(self) -> float | None:
        """Standard deviation of the finite values; None with fewer than two."""
        own, size = self.profile, self.profile.finite
        if size < 2:
            return None
        off = own.total.exact / size - Fraction(self.cells.centre)
        variance = (own.squares.exact - size * off * off) / (size - 1)
        return math.sqrt(max(variance, Fraction(0)))

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """First cells of at most 32 bins of nearly equal probability; none without values."""
        reached = np.cumsum(self.profile.counts)
        if not self.n:
            return np.zeros(0, dtype=np.int64)
        share = self.n / MOST_BINS * np.arange(1, MOST_BINS)
        after = np.searchsorted(reached, share)
        before = np.maximum(after - 1, 0)
        nearer = share - reached[before] < reached[after] - share
        starts = np.unique(np.concatenate([[0], np.where(nearer, before, after) + 1]))
        starts = starts[starts < reached.size]
        filled = np.add.reduceat(self.profile.counts, starts) > 0
        kept = starts[filled]
        kept[0] = 0
        return kept

    @classmethod
    def empty(cls, cells: Cells) -> Reference:
        """Return cells without any values in them."""
        counts = np.zeros(cells.size, dtype=np.int64)
        return cls(
            cells=cells,
            profile=Profile(
                reference_digest=cells.digest,
                n=0,
                missing=0,
                counts=counts,
                total=ExactSum(0, cells.exponent),
                squares=ExactSum(0, cells.square_exponent),
            ),
        )

    def filled(self, profile: Profile) -> Reference:
        """Return these cells with another profile in them as the reference's own."""
        return replace(self, profile=profile)

    def to_bytes(self) -> bytes:
        """Pack, in the same bytes on every machine, at most 20,000 of them."""
        packer = Packer()
        packer.number(_VERSION)
        packer.blob(self.cells.to_bytes())
        return packer.done() + self.profile.to_bytes()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Reference:
        """Unpack; ValueError where the bytes are none of `to_bytes`."""
        taken = Unpacker(packed)
        _expect_version(taken)
        cells = Cells.unpack(Unpacker(taken.blob()))
        return cls(cells=cells, profile=Profile.from_bytes(bytes(taken.rest)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())
