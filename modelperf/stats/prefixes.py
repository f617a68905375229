"""The statistics of prefixes, of as many series at once as there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from modelperf.stats.change_point import REACH, Side, best_splits
from modelperf.stats.collapse import BASE, Depth, depth
from modelperf.stats.fleet import FEWEST_AFTER, FEWEST_BEFORE, tail_p_value
from modelperf.stats.orientation import levels, orient
from modelperf.stats.results import MetricKind
from modelperf.stats.tails import two_sided
from modelperf.stats.track import Span, Track
from modelperf.stats.warm_start import FEWEST, FEWEST_EACH_SIDE, Prior, warm_fall
from modelperf.stats.weights import fitted_weights

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

RECOVERY_REACH = 2.5  # at 2 a recovery of 2 sigma is told after 7 evaluations instead of 6
_CELLS = 1 << 15  # a piece of this many values and what is made of it stay in the cache
_LEAD = BASE + 1


@dataclass(frozen=True, slots=True)
class Block:
    """Statistics of the prefixes that end at track indices ``first`` .. ``last - 1``.

    ``z`` is NaN where too few evaluations are there. ``rise`` is None in a block of several where
    only falls open an incident; the verdict wants that of the newest prefix alone.
    """

    first: int
    last: int
    fall: Side
    rise: Side | None
    z: Floats
    p: Floats
    depth: Depth
    depth_before: Depth


def fewest_evaluations(track: Track) -> int:
    """Return with how many retained evaluations a fall can be told."""
    return track.rules.min_evaluations if track.noise is None else FEWEST


def blocks(spans: Sequence[Span]) -> list[Block]:
    """Judge the prefixes of every span."""
    found: list[Block | None] = [None] * len(spans)
    for members in _groups(spans):
        some = [spans[at] for at in members]
        for at, block in zip(members, _blocks(some), strict=True):
            found[at] = block
    return [block for block in found if block is not None]


def recoveries(spans: Sequence[Span], directions: Sequence[int]) -> list[Side]:
    """Return, for every span, its prefixes' best recovery from a fall in a direction."""
    found: list[Side | None] = [None] * len(spans)
    for members in _groups(spans, directions):
        prefixes = Prefixes([spans[at] for at in members])
        sign = -directions[members[0]]
        (side,) = prefixes.sides((sign,), fewest=(4, 4), reach=RECOVERY_REACH)
        for at, rows in zip(members, prefixes.rows, strict=True):
            found[at] = _side_part(side, rows)
    return [side for side in found if side is not None]


def rises(spans: Sequence[Span]) -> list[Side]:
    """Return the best rise of every span's prefixes."""
    found: list[Side | None] = [None] * len(spans)
    for members in _groups(spans):
        prefixes = Prefixes([spans[at] for at in members])
        (side,) = prefixes.sides((-1,), where=prefixes.is_enough())
        for at, rows in zip(members, prefixes.rows, strict=True):
            found[at] = _side_part(side, rows)
    return [side for side in found if side is not None]


def levels_around(spans: Sequence[Span], splits: Sequence[int]) -> list[tuple[float, float]]:
    """Return the levels before and after a split of the one prefix of every span."""
    found = [(0.0, 0.0)] * len(spans)
    for members in _groups(spans):
        prefixes = Prefixes([spans[at] for at in members])
        split = np.array([splits[at] for at in members])
        pairs = np.concatenate(
            [prefixes.levels_around(piece, split[piece]) for piece in prefixes.pieces()], axis=1
        )
        for at, pair in zip(members, pairs.T.tolist(), strict=True):
            found[at] = (pair[0], pair[1])
    return found


def _groups(spans: Sequence[Span], directions: Sequence[int] | None = None) -> list[list[int]]:
    """Indices of spans that can be computed together."""
    groups: dict[Any, list[int]] = {}
    for at, span in enumerate(spans):
        track = span.track
        direction = None if directions is None else directions[at]
        is_one = span.last == span.first + 1
        alike = (track.rules.kind, track.oriented is None, track.is_even)
        key = (span.width, *alike, direction, is_one)
        groups.setdefault(key, []).append(at)
    return list(groups.values())


def _blocks(spans: Sequence[Span]) -> Iterator[Block]:
    prefixes = Prefixes(spans)
    watched = spans[0].track.rules.kind is MetricKind.TARGET_ZERO
    both = watched or spans[0].last == spans[0].first + 1
    sides = prefixes.sides((1, -1) if both else (1,), where=prefixes.is_enough())
    if watched:
        sides = [Side(z=two_sided(side.z), split=side.split, phi=side.phi) for side in sides]
    z = np.maximum(sides[0].z, sides[1].z) if watched else sides[0].z
    p = tail_p_value(z, prefixes.n)
    if any(span.track.noise is not None for span in spans):
        _start_warm(prefixes, sides[0], p)
    depths = prefixes.depths()
    for index, (span, rows) in enumerate(zip(spans, prefixes.rows, strict=True)):
        now = slice(rows.start + index + 1, rows.stop + index + 1)
        yield Block(
            first=span.first,
            last=span.last,
            fall=_side_part(sides[0], rows),
            rise=_side_part(sides[1], rows) if both else None,
            z=z[rows],
            p=p[rows],
            depth=_depth_part(depths, now),
            depth_before=_depth_part(depths, slice(now.start - 1, now.stop - 1)),
        )


def _start_warm(prefixes: Prefixes, fall: Side, p: Floats) -> None:
    """Fill in the falls of short prefixes that the noise of the version before lets judge."""
    noises = [span.track.noise or (np.nan, np.nan) for span in prefixes.spans]
    variance, phi = np.array(noises, float)[prefixes.owner].T
    is_warm = ~np.isnan(variance) & (prefixes.n >= FEWEST) & ~prefixes.is_enough()
    for rows in prefixes.pieces(is_warm):
        found = warm_fall(*prefixes.windows(rows), Prior(variance=variance[rows], phi=phi[rows]))
        fall.z[rows], fall.split[rows], fall.phi[rows] = found.z, found.split, found.phi
        # Ten have one split alone: its tail is below that of the two of eleven.
        length = np.maximum(prefixes.n[rows], FEWEST + 1)
        p[rows] = tail_p_value(found.z, length, fewest=(FEWEST_EACH_SIDE, FEWEST_EACH_SIDE))


class Prefixes:
    """The prefixes of some spans of one kind as rows of one width."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans, self.width = spans, spans[0].width
        self.kind = spans[0].track.rules.kind
        self.is_oriented = spans[0].track.oriented is not None
        first, last = _numbers([(span.first, span.last) for span in spans])
        start, window = _numbers([(span.start, span.track.rules.window) for span in spans])
        size = last - first
        stops = np.cumsum(size).tolist()
        self.rows = [slice(a, b) for a, b in zip([0, *stops], stops, strict=False)]
        self.owner = np.repeat(np.arange(len(spans)), size)
        ends = _ranges(first, last)
        starts = np.maximum(start[self.owner], ends + 1 - window[self.owner])
        self.n = ends + 1 - starts
        lengths = np.array([len(span.track) + _LEAD for span in spans])
        base = np.cumsum(lengths) - lengths + _LEAD
        self.starts = base[self.owner] + starts
        self.depth_ends = _ranges(base + first - 1, base + last)
        tracks = [span.track for span in spans]
        self.values = self._in_line([_oriented(track) for track in tracks])
        self.counts = None
        if not spans[0].track.is_even:
            self.counts = self._in_line([track.counts for track in tracks])

    def is_enough(self) -> NDArray[np.bool_]:
        """Tell which rows have the evaluations that their rules ask for."""
        least = np.array([span.track.rules.min_evaluations for span in self.spans])
        return np.asarray(self.n >= least[self.owner])

    def _in_line(self, parts: Sequence[Floats]) -> Floats:
        """Lay the tracks one after the other, each behind a lead of padding."""
        lead = np.full(_LEAD, np.nan)
        spread = [array for part in parts for array in (lead, part)]
        return np.concatenate([*spread, np.full(self.width, np.nan)])

    def pieces(self, where: NDArray[np.bool_] | None = None) -> list[Ints]:
        """Return the rows in pieces small enough to be worked on in the cache."""
        rows = np.arange(len(self.n)) if where is None else np.flatnonzero(where)
        step = max(1, _CELLS // self.width)
        return [rows[at : at + step] for at in range(0, len(rows), step)]

    def sides(
        self,
        signs: tuple[int, ...],
        *,
        where: NDArray[np.bool_] | None = None,
        fewest: tuple[int, int] = (FEWEST_BEFORE, FEWEST_AFTER),
        reach: float = REACH,
    ) -> list[Side]:
        """Return each row's best split for each sign; NaN and 0 in rows that are left out."""
        z, phi = np.full((2, len(signs), len(self.n)), np.nan)
        split = np.zeros((len(signs), len(self.n)), np.intp)
        for rows in self.pieces(where):
            found = best_splits(*self.windows(rows), signs=signs, fewest=fewest, reach=reach)
            for at, side in enumerate(found):
                z[at, rows], split[at, rows], phi[at, rows] = side.z, side.split, side.phi
        parts = zip(z, split, phi, strict=True)
        return [Side(z=a, split=b, phi=c) for a, b, c in parts]

    def depths(self) -> Depth:
        """Return the depth of the evaluation before each span and of each of its ends."""
        step = max(1, _CELLS // _LEAD)
        found = []
        for at in range(0, len(self.depth_ends), step):
            firsts = self.depth_ends[at : at + step] - BASE
            y = sliding_window_view(self.values, _LEAD)[firsts]
            counts = self._trailing_counts(firsts)
            found.append(depth(y if self.is_oriented else orient(y, 0.0, self.kind), counts))
        return Depth(
            z=np.concatenate([part.z for part in found]),
            before=np.concatenate([part.before for part in found]),
            scale=np.concatenate([part.scale for part in found]),
            alone_beyond=np.concatenate([part.alone_beyond for part in found]),
        )

    def _trailing_counts(self, firsts: Ints) -> Floats | None:
        """Rows behind the values of each base; the first count stands for those before it."""
        if self.counts is None:
            return None
        counts = sliding_window_view(self.counts, _LEAD)[firsts]
        gone = np.isnan(counts)
        here = np.argmin(gone, axis=1)
        return np.where(gone, counts[np.arange(len(here)), here][:, None], counts)

    def windows(self, rows: Ints) -> tuple[Floats, Floats | None]:
        """Return the oriented values of rows and their counts, padded on the right."""
        y = self._padded(self.values, rows)
        counts = None if self.counts is None else self._padded(self.counts, rows)
        return (y if self.is_oriented else orient(y, 0.0, self.kind)), counts

    def _padded(self, line: Floats, rows: Ints) -> Floats:
        n = self.n[rows]
        y = np.ascontiguousarray(sliding_window_view(line, self.width)[self.starts[rows]])
        least = int(n.min(initial=self.width))
        np.copyto(y[:, least:], np.nan, where=np.arange(least, self.width) >= n[:, None])
        return y

    def levels_around(self, rows: Ints, split: Ints) -> Floats:
        """Levels on the metric's own scale before and after a split of each row."""
        raw = self._in_line([span.track.values for span in self.spans])
        values = self._padded(raw, rows)
        y, counts = self.windows(rows)
        weight = np.ones_like(y) if counts is None else fitted_weights(y, counts)
        is_before = np.arange(self.width) < split[:, None]
        before = levels(np.where(is_before, values, np.nan), weight, self.kind)
        return np.stack([before, levels(np.where(is_before, np.nan, values), weight, self.kind)])


def _oriented(track: Track) -> Floats:
    return track.values if track.oriented is None else track.oriented


def _numbers(pairs: list[tuple[int, int]]) -> Ints:
    return np.array(pairs, np.intp).T


def _ranges(firsts: Ints, lasts: Ints) -> Ints:
    """All numbers of the half-open ranges, one range after the other."""
    size = lasts - firsts
    return np.asarray(np.arange(size.sum()) + np.repeat(firsts - (np.cumsum(size) - size), size))


def _side_part(side: Side, rows: slice) -> Side:
    return Side(z=side.z[rows], split=side.split[rows], phi=side.phi[rows])


def _depth_part(found: Depth, rows: slice) -> Depth:
    return Depth(
        z=found.z[rows],
        before=found.before[rows],
        scale=found.scale[rows],
        alone_beyond=found.alone_beyond[rows],
    )
