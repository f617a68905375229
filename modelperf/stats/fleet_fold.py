"""The verdicts on a whole fleet: every series folded, the statistics of many at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.fold import Judgement, judge
from modelperf.stats.results import FoldState, Rules

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One series to be judged; the arguments of `fold.judge`.

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


def judge_fleet(series: Iterable[Series], *, workers: int = 1) -> list[Judgement]:
    """Judge many series at every evaluation not judged before.

    Parameters
    ----------
    series : iterable of Series
        Taken in chunks, so that a generator needs not hold them all.
    workers : int
        How many work side by side.

    Returns
    -------
    list of Judgement
        In the order of `series`; bit by bit what `fold.judge` says of each alone.

    Raises
    ------
    ValueError
        Where `fold.judge` does, and if `workers` is less than 1.
    """
    if workers < 1:
        raise ValueError("workers is at least 1")
    return [
        judge(one.values, one.counts, rules=one.rules, state=one.state, offset=one.offset)
        for one in series
    ]
