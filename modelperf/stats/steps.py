"""The steps of one series' fold: what each evaluation does to the state left by the one before."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.change_point import Side
from modelperf.stats.incidents import (
    change_incident,
    collapse_incident,
    continued,
    first_suspicion,
    recovered_from,
    worst_since,
)
from modelperf.stats.prefixes import Block
from modelperf.stats.results import FoldState, Incident, Rule
from modelperf.stats.track import Span, Track

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Wanted:
    """Statistics that a fold waits for.

    Of recoveries from a fall in ``direction``, where that is given, else a block.
    """

    span: Span
    direction: int | None = None
    block: Block = field(init=False)
    recoveries: Side = field(init=False)


_T = TypeVar("_T")
Waiting = Generator[Wanted, None, _T]


class Steps:
    """The steps over the evaluations of one track that were not judged before.

    `run` yields what statistics it wants and expects them to be filled in when it goes on, so that
    those of many series can be computed together.
    """

    def __init__(self, track: Track, state: FoldState, n_seen: int) -> None:
        self.track = track
        self.rules = track.rules
        self.old_n_seen, self.n_seen = state.n_seen, n_seen
        self.incident, self.last_p = state.incident, state.last_p
        self.dropped = list(state.dropped)
        self.first_state = state.at_first()
        self.statistics = np.full(n_seen - state.n_seen, np.nan)
        self.degraded = np.zeros(n_seen - state.n_seen, bool)
        self.block: Block | None = None
        self._recoveries: tuple[Span, Side] | None = None
        self._filled = 0

    def run(self) -> Waiting[None]:
        """Step through every new evaluation; a missing one leaves things as they are."""
        end = self.track.index_of(self.old_n_seen)
        while end < len(self.track):
            block = yield from self._block_at(end)
            stop = yield from self._first_that_matters(block, end)
            if stop > end:
                self._pass_over(block, end, stop)
            if stop < block.last:
                stop = yield from self._step(stop)
                stop += 1
            end = stop
        self._fill_degraded(self.n_seen - self.old_n_seen)
        if len(self.track):
            yield from self._block_at(len(self.track) - 1)

    def _first_that_matters(self, block: Block, end: int) -> Waiting[int]:
        """Return the first index from `end` on that may open or close an incident."""
        if self.incident is None:
            return first_suspicion(block, end, self.rules)
        if self.incident.rule is Rule.COLLAPSE:
            return end
        span, side = yield from self._recoveries_at(self.incident, end)
        limit = min(block.last, span.last)
        is_over = side.z[end - span.first : limit - span.first] > self.rules.clear_threshold
        at = int(is_over.argmax())
        return end + at if is_over[at] else limit

    def _pass_over(self, block: Block, first: int, last: int) -> None:
        """Take the evaluations at indices first .. last - 1, which open and close nothing."""
        rows = slice(first - block.first, last - block.first)
        z, p = block.z[rows], block.p[rows]
        self.statistics[self.track.positions[first:last] - self.old_n_seen] = z
        if self.incident is not None:
            self.incident = replace(
                self.incident,
                n_since=self.incident.n_since + len(z),
                statistic=float(z[-1]),
                peak=max(self.incident.peak, float(np.fmax.reduce(z))),
                confirmed_p=self._smallest_pair(p),
                worst=worst_since(self.incident, self.track, slice(first, last)),
            )
        self.last_p = None if np.isnan(p[-1]) else float(p[-1])

    def _smallest_pair(self, p: Floats) -> float:
        """Return the smallest p so far that held at two prefixes, `p` being the next ones."""
        line = np.append(1.0 if self.last_p is None else self.last_p, np.nan_to_num(p, nan=1.0))
        smallest = float(np.maximum(line[1:], line[:-1]).min())
        confirmed = None if self.incident is None else self.incident.confirmed_p
        return smallest if confirmed is None else min(confirmed, smallest)

    def _step(self, end: int) -> Waiting[int]:
        """Judge the prefix ending at index `end`; return that index, smaller after a recovery."""
        block = yield from self._block_at(end)
        self._fill_degraded(int(self.track.positions[end]) - self.old_n_seen)
        since = None
        if self.incident is not None:
            self.incident = continued(self.incident, self.track, block, end)
            since = yield from self._recovered(self.incident, end)
            if since is not None:
                end = self._close(self.incident, since, end)
                block = yield from self._block_at(end)
        if self.incident is None:
            self.incident = collapse_incident(
                self.track, block, end, self.rules
            ) or change_incident(self.track, block, end, self.rules)
        self._confirm(block, end)
        return end

    def _confirm(self, block: Block, end: int) -> None:
        at = end - block.first
        self.statistics[int(self.track.positions[end]) - self.old_n_seen] = block.z[at]
        if self.incident is not None and self.incident.rule is Rule.CHANGE_POINT:
            pair = self._smallest_pair(block.p[at : at + 1])
            self.incident = replace(self.incident, confirmed_p=pair)
        self.last_p = None if np.isnan(block.p[at]) else float(block.p[at])

    def _fill_degraded(self, at: int) -> None:
        """Spread the state so far over the evaluations before `at`, the missing ones too."""
        self.degraded[self._filled : at] = self.incident is not None
        self._filled = at

    def _close(self, incident: Incident, since: int, end: int) -> int:
        """Drop the incident and what has gone out of reach; return the new index of `end`."""
        position = int(self.track.positions[end])
        self.track.drop(0, self._reach_from(end))
        self.track.drop(incident.change, since)
        self.dropped.append((incident.change, since))
        self.incident = self.last_p = self.block = self._recoveries = None
        return self.track.index_of(position)

    def _recovered(self, incident: Incident, end: int) -> Waiting[int | None]:
        """Position from which the series is back, None while it is not."""
        span, side = yield from self._recoveries_at(incident, end)
        at = end - span.first
        best = None if not side.z[at] > self.rules.clear_threshold else int(side.split[at])
        return recovered_from(self.track, incident, end, best)

    def _recoveries_at(self, incident: Incident, end: int) -> Waiting[tuple[Span, Side]]:
        if self._recoveries is None or not _covers(self._recoveries[0], end):
            span = self.track.span(end, start=self.track.index_of(incident.change))
            wanted = Wanted(span, incident.direction)
            yield wanted
            self._recoveries = (span, wanted.recoveries)
        return self._recoveries

    def _block_at(self, end: int) -> Waiting[Block]:
        if self.block is None or not self.block.first <= end < self.block.last:
            wanted = Wanted(self.track.span(end))
            yield wanted
            self.block = wanted.block
        return self.block

    def _reach_from(self, end: int) -> int:
        """One window back; during an incident as far as at its opening, but two at most."""
        if self.incident is None:
            return self.track.reach_from(end)
        return max(self.incident.reach_from, self.track.reach_from(end, windows=2))

    def end_state(self, needs_from: int) -> FoldState:
        """Return the state after the last step, reaching back to `needs_from` at least."""
        if len(self.track):
            needs_from = min(needs_from, self._reach_from(len(self.track) - 1))
        return replace(
            self.first_state,
            n_seen=self.n_seen,
            needs_from=needs_from,
            last_p=self.last_p,
            dropped=tuple(span for span in self.dropped if span[1] > needs_from),
            incident=self.incident,
        )


def _covers(span: Span, end: int) -> bool:
    return span.first <= end < span.last
