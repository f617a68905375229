"""The verdict on one series: a fold over its evaluations in order.

Every step looks at the evaluations up to itself and at the state left by the step before, so a
history that arrives late, at once or one by one ends in the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.change_point import Side
from modelperf.stats.incidents import (
    change_incident,
    collapse_incident,
    continued,
    recovered_from,
)
from modelperf.stats.limits import fold_limit
from modelperf.stats.results import Crossing, FoldState, Incident, Rule, Rules, Verdict
from modelperf.stats.track import BLOCK, Block, Track
from modelperf.stats.verdicts import verdict_on

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What `judge` answers.

    Parameters
    ----------
    verdict : Verdict
        At the newest prefix.
    state : FoldState
        To go on from.
    statistics : ndarray of float64, shape (new evaluations,)
        ``Z`` of each newly judged prefix; NaN where too few evaluations are retained or the
        evaluation is missing.
    degraded : ndarray of bool, same shape
        Whether an incident is open after each.
    crossed : ndarray of bool, same shape
        Whether the absolute limit is crossed after each.
    """

    verdict: Verdict
    state: FoldState
    statistics: Floats
    degraded: NDArray[np.bool_]
    crossed: NDArray[np.bool_]


def judge(
    values: ArrayLike,
    sample_counts: ArrayLike,
    *,
    rules: Rules,
    state: FoldState | None = None,
    offset: int = 0,
) -> Judgement:
    """Judge a series at every evaluation not judged before.

    Parameters
    ----------
    values : array_like, shape (evaluations,)
        The metric in its own unit, in order of (evaluation_end, evaluation_start); positions
        ``offset``, ``offset + 1``, .. of one model version's history. NaN or infinite values are
        missing: they are skipped.
    sample_counts : array_like, same shape
        Rows behind each value; 0 where not reported.
    rules : Rules
        The rules; a state is only good under the rules it was made with.
    state : FoldState, optional
        Where to go on; without it the whole history is judged. Evaluations before
        ``state.n_seen`` are context, later ones are folded one by one.
    offset : int
        Absolute position of the first value.

    Returns
    -------
    Judgement
        The same, bit by bit, for a history given at once or in parts.

    Raises
    ------
    ValueError
        If the arrays differ in shape, do not reach back to ``state.needs_from``, or end before
        ``state.n_seen``.

    Notes
    -----
    A prefix without an open incident opens one on a collapse or on a change point with an effect.
    The incident stays until the series has recovered; then its evaluations are dropped and the
    prefix is judged once more without them. Evaluations that had left the window when the incident
    opened do not come back for those dropped. The limit is folded beside it.
    """
    values, counts = np.asarray(values, float), np.asarray(sample_counts, float)
    state = FoldState() if state is None else state
    _check(values, counts, state, offset)
    with np.errstate(over="ignore", invalid="ignore"):
        return _judged(values, counts, rules, state, offset)


def _judged(
    values: Floats, counts: Floats, rules: Rules, state: FoldState, offset: int
) -> Judgement:
    there = np.flatnonzero(np.isfinite(values))
    track = Track(values[there], counts[there], there + offset, rules)
    crossings = fold_limit(track.values, track.positions, state, rules)
    crossed = _carried(crossings, track.positions, state, offset + len(values))
    recent = track.positions[-rules.limit_windows :]
    fold = _Fold(_retain(track, state), state, offset + len(values))
    fold.run()
    crossing = crossings[-1] if crossings else state.crossing
    end_state = replace(fold.end_state(int(recent.min(initial=fold.n_seen))), crossing=crossing)
    return Judgement(
        verdict=verdict_on(fold.track, end_state, fold.newest_block(), rules),
        state=end_state,
        statistics=fold.statistics,
        degraded=fold.degraded,
        crossed=crossed,
    )


def _carried(
    crossings: list[Crossing | None], positions: NDArray[np.intp], state: FoldState, n_seen: int
) -> NDArray[np.bool_]:
    """Spread the limit's states over all new evaluations: a missing one changes nothing."""
    states = np.array([state.crossing is not None, *(one is not None for one in crossings)])
    new = positions[len(positions) - len(crossings) :]
    return states[np.searchsorted(new, np.arange(state.n_seen, n_seen), side="right")]


def _check(values: Floats, counts: Floats, state: FoldState, offset: int) -> None:
    if values.ndim != 1 or values.shape != counts.shape:
        raise ValueError("values and sample_counts are two sequences of one length")
    if offset > state.needs_from:
        raise ValueError(f"evaluations from position {state.needs_from} on are needed")
    if offset + len(values) < state.n_seen:
        raise ValueError(f"the {state.n_seen} evaluations already judged must be among the values")


def _retain(track: Track, state: FoldState) -> Track:
    """Leave out what the state has put aside: all out of reach, and the closed incidents."""
    track.drop(0, state.needs_from)
    for low, high in state.dropped:
        track.drop(low, high)
    return track


class _Fold:
    """The loop over the prefixes of one track, block by block."""

    def __init__(self, track: Track, state: FoldState, n_seen: int) -> None:
        self.track = track
        self.rules = track.rules
        self.old_n_seen, self.n_seen = state.n_seen, n_seen
        self.incident, self.last_p = state.incident, state.last_p
        self.dropped = list(state.dropped)
        self.statistics = np.full(n_seen - state.n_seen, np.nan)
        self.degraded = np.zeros(n_seen - state.n_seen, bool)
        self.block: Block | None = None
        self.rises: tuple[int, int, Side] | None = None

    def run(self) -> None:
        """Step through every new evaluation; a missing one leaves things as they are."""
        end = self.track.index_of(self.old_n_seen)
        filled = 0
        while end < len(self.track):
            at = int(self.track.positions[end]) - self.old_n_seen
            self.degraded[filled:at] = self.incident is not None
            end = self._step(end)
            self.statistics[at] = self._block_at(end).z[end - self._block_at(end).first]
            self.degraded[at] = self.incident is not None
            filled, end = at + 1, end + 1
        self.degraded[filled:] = self.incident is not None

    def _step(self, end: int) -> int:
        """Judge the prefix ending at index `end`; return that index, smaller after a recovery."""
        block = self._block_at(end)
        if self.incident is not None:
            self.incident = continued(self.incident, self.track, block, end)
            since = self._recovered(self.incident, end)
            if since is None:
                self._confirm(block, end)
                return end
            end = self._close(self.incident, since, end)
            block = self._block_at(end)
        self.incident = collapse_incident(self.track, block, end, self.rules) or change_incident(
            self.track, block, end, self.rules
        )
        self._confirm(block, end)
        return end

    def _confirm(self, block: Block, end: int) -> None:
        p = float(block.p[end - block.first])
        newest = None if np.isnan(p) else p
        if self.incident is not None and self.incident.rule is Rule.CHANGE_POINT:
            self.incident = _confirmed(self.incident, self.last_p, newest)
        self.last_p = newest

    def _close(self, incident: Incident, since: int, end: int) -> int:
        """Drop the incident and what has gone out of reach; return the new index of `end`."""
        position = int(self.track.positions[end])
        self.track.drop(0, self._reach_from(end))
        self.track.drop(incident.change, since)
        self.dropped.append((incident.change, since))
        self.incident = self.last_p = self.block = self.rises = None
        return self.track.index_of(position)

    def _recovered(self, incident: Incident, end: int) -> int | None:
        """Position from which the series is back, None while it is not."""
        change = self.track.index_of(incident.change)
        if self.rises is None or not self.rises[0] <= end < self.rises[1]:
            size = min(BLOCK, max(1, len(self.track) - end))
            last, rise = self.track.recoveries(change, end, size, incident.direction)
            self.rises = (end, last, rise)
        at, rise = end - self.rises[0], self.rises[2]
        best = None if not rise.z[at] > self.rules.clear_threshold else int(rise.split[at])
        return recovered_from(self.track, incident, end, best)

    def _block_at(self, end: int) -> Block:
        if self.block is None or not self.block.first <= end < self.block.last:
            self.block = self.track.block(end, BLOCK)
        return self.block

    def _reach_from(self, end: int) -> int:
        """One window back; during an incident as far as at its opening, but two at most."""
        if self.incident is None:
            return self.track.reach_from(end)
        return max(self.incident.reach_from, self.track.reach_from(end, windows=2))

    def newest_block(self) -> Block | None:
        """Return the block that holds the newest retained evaluation, None without any."""
        return self._block_at(len(self.track) - 1) if len(self.track) else None

    def end_state(self, needs_from: int) -> FoldState:
        """Return the state after the last step, reaching back to `needs_from` at least."""
        if len(self.track):
            needs_from = min(needs_from, self._reach_from(len(self.track) - 1))
        return FoldState(
            n_seen=self.n_seen,
            needs_from=needs_from,
            last_p=self.last_p,
            dropped=tuple(span for span in self.dropped if span[1] > needs_from),
            incident=self.incident,
        )


def _confirmed(incident: Incident, last_p: float | None, p: float | None) -> Incident:
    """Take the larger p of the last two prefixes into the smallest so far."""
    pair = max(1.0 if last_p is None else last_p, 1.0 if p is None else p)
    smallest = pair if incident.confirmed_p is None else min(incident.confirmed_p, pair)
    return replace(incident, confirmed_p=smallest)
