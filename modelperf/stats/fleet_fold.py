"""The verdicts on a whole fleet: many series folded side by side, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from modelperf.stats.fold import Judgement, Series, judge_together

__all__ = ["Series", "judge_fleet", "judgements"]

_CHUNK = 256  # series; beyond it nothing is gained, and memory grows


def judge_fleet(series: Iterable[Series], *, workers: int = 1) -> list[Judgement]:
    """Judge many series at every evaluation not judged before.

    Parameters
    ----------
    series : iterable of Series
        Taken in chunks: a generator needs not hold them all at once.
    workers : int
        Threads that work side by side.

    Returns
    -------
    list of Judgement
        In the order of `series`; bit by bit what `fold.judge` says of each alone.

    Raises
    ------
    ValueError
        Where `fold.judge` does, and if `workers` is less than 1.
    """
    return list(judgements(series, workers=workers))


def judgements(series: Iterable[Series], *, workers: int = 1) -> Iterator[Judgement]:
    """Yield what `judge_fleet` returns, one by one; never more than a few chunks are held.

    Parameters
    ----------
    series, workers
        As for `judge_fleet`.

    Yields
    ------
    Judgement
    """
    if workers < 1:
        raise ValueError("workers is at least 1")
    with ThreadPoolExecutor(workers) as pool:
        for chunk in _side_by_side(pool, _chunks(series), workers):
            yield from chunk


def _side_by_side(
    pool: ThreadPoolExecutor, chunks: Iterator[list[Series]], workers: int
) -> Iterator[list[Judgement]]:
    """Judge the next chunks while the first is waited for; alone, in the caller's own thread."""
    if workers == 1:
        yield from map(judge_together, chunks)
        return
    running: deque[Future[list[Judgement]]] = deque()
    for chunk in chunks:
        running.append(pool.submit(judge_together, chunk))
        if len(running) > workers:
            yield running.popleft().result()
    for last in running:
        yield last.result()


def _chunks(series: Iterable[Series]) -> Iterator[list[Series]]:
    rest = iter(series)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
