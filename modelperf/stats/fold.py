"""The verdict on one series: a fold over its evaluations in order.

Every step looks at the evaluations up to itself and at the state left by the step before, so a
history that arrives late, at once or one by one ends in the same state.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.limits import fold_limit, windows_looked_at
from modelperf.stats.prefixes import blocks, recoveries
from modelperf.stats.results import Crossing, FoldState, Rules, Verdict
from modelperf.stats.steps import Steps, Wanted
from modelperf.stats.track import Track, noise_before
from modelperf.stats.verdicts import Judged, verdicts_on

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One series to be judged; the arguments of `judge`.

    Parameters
    ----------
    values, counts : ndarray, shape (evaluations,)
        The metric in its own unit and the rows behind each value, in order.
    rules : Rules
        The rules.
    state : FoldState, optional
        Where to go on.
    offset : int
        Absolute position of the first value.
    """

    values: Floats
    counts: Floats
    rules: Rules
    state: FoldState | None = None
    offset: int = 0


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
    return judge_together([Series(values, counts, rules, state, offset)])[0]


def judge_together(series: Sequence[Series]) -> list[Judgement]:
    """Judge some series at once, each as `judge` does.

    Each fold goes on until it waits for statistics of its prefixes; those that all of them wait
    for are computed in one pass, and so on until every fold is at its end.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        folds = [_Fold(one) for one in series]
        waiting = _advanced([fold.steps.run() for fold in folds])
        while waiting:
            _answer([wanted for _, wanted in waiting])
            waiting = _advanced([run for run, _ in waiting])
        ends = [fold.end() for fold in folds]
        verdicts = verdicts_on(ends)
    answers = zip(folds, ends, verdicts, strict=True)
    return [fold.judgement(end, verdict) for fold, end, verdict in answers]


Run = Generator[Wanted, None, None]


def _advanced(runs: list[Run]) -> list[tuple[Run, Wanted]]:
    """Let each go on to what it waits for next; leave out those that are at their end."""
    return [(run, wanted) for run in runs if (wanted := next(run, None)) is not None]


def _answer(wanted: list[Wanted]) -> None:
    """Compute what the folds wait for."""
    prefixes = [one for one in wanted if one.direction is None]
    for one, block in zip(prefixes, blocks([one.span for one in prefixes]), strict=True):
        one.block = block
    backs = [(one, one.direction) for one in wanted if one.direction is not None]
    sides = recoveries([one.span for one, _ in backs], [direction for _, direction in backs])
    for (one, _), side in zip(backs, sides, strict=True):
        one.recoveries = side


class _Fold:
    """One series between its check and its judgement."""

    def __init__(self, series: Series) -> None:
        state = FoldState() if series.state is None else series.state
        values, counts, offset = series.values, series.counts, series.offset
        _check(values, counts, state, offset)
        there = np.flatnonzero(np.isfinite(values))
        noise = noise_before(state, series.rules)
        track = Track(values[there], counts[there], there + offset, series.rules, noise)
        n_seen = offset + len(values)
        crossings = fold_limit(track.values, track.positions, state, series.rules)
        self.crossing = crossings[-1] if crossings else state.crossing
        self.crossed = _carried(crossings, track.positions, state, n_seen)
        recent = track.positions[-windows_looked_at(series.rules) :]
        self.needs_from = int(recent[0]) if len(recent) else n_seen
        _retain(track, state)
        self.steps = Steps(track, state, n_seen)

    def end(self) -> Judged:
        """Return the series at its newest evaluation, all steps being done."""
        state = self.steps.end_state(self.needs_from)
        if self.crossing is not None:
            state = replace(state, crossing=self.crossing)
        return Judged(self.steps.track, state, self.steps.block)

    def judgement(self, end: Judged, verdict: Verdict) -> Judgement:
        """Put the answer together."""
        return Judgement(
            verdict=verdict,
            state=end.state,
            statistics=self.steps.statistics,
            degraded=self.steps.degraded,
            crossed=self.crossed,
        )


def _carried(
    crossings: list[Crossing | None], positions: NDArray[np.intp], state: FoldState, n_seen: int
) -> NDArray[np.bool_]:
    """Spread the limit's states over all new evaluations: a missing one changes nothing."""
    if state.crossing is None and not any(crossings):
        return np.zeros(n_seen - state.n_seen, bool)
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


def _retain(track: Track, state: FoldState) -> None:
    """Leave out what the state has put aside: all out of reach, and the closed incidents."""
    track.drop(0, state.needs_from)
    for low, high in state.dropped:
        track.drop(low, high)
