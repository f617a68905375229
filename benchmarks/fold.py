"""How long judging takes, without the database: ``python -m benchmarks.fold``."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.statistics_rows import Row, print_table
from modelperf.stats.change_point import scan
from modelperf.stats.fleet_fold import Series, judge_fleet
from modelperf.stats.fold import judge
from modelperf.stats.results import MetricKind, Rules

FLEET = 1000
EVALUATIONS = 200
REPEATS = 5


def fleet(*, counts_vary: bool = False) -> list[Series]:
    """Return unchanged losses, with the same rows behind each evaluation or not."""
    rng = np.random.default_rng(1)
    rules = Rules(kind=MetricKind.LOSS)
    counts = np.full(EVALUATIONS, 500.0)
    if counts_vary:
        counts = rng.integers(500, 2000, EVALUATIONS).astype(float)
    losses = np.exp(rng.normal(0, 0.1, (FLEET, EVALUATIONS)))
    return [Series(values, counts, rules) for values in losses]


def one_more(series: list[Series]) -> list[Series]:
    """Return the same series, all evaluations but the newest judged."""
    before = judge_fleet([Series(one.values[:-1], one.counts[:-1], one.rules) for one in series])
    return [
        Series(one.values, one.counts, one.rules, judged.state)
        for one, judged in zip(series, before, strict=True)
    ]


def milliseconds(work: Callable[[], object], each: int) -> float:
    """Return the median time of the work, over what it was done to."""
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return 1000 * median(times) / each


def alone(series: list[Series]) -> list[object]:
    """Judge each by itself, as a recorded evaluation is."""
    return [
        judge(one.values, one.counts, rules=one.rules, state=one.state, offset=one.offset)
        for one in series
    ]


def rows() -> list[Row]:
    """Measure what a fleet check and a recorded evaluation cost."""
    even, uneven = fleet(), fleet(counts_vary=True)
    newest = one_more(even)
    block = np.stack([one.values for one in even])
    some = slice(0, FLEET // 10)
    return [
        _row("1,000 x 200 scanned", 50.0, milliseconds(lambda: scan(block), 1), "ms"),
        _row("200 fresh, in a fleet", 2.0, milliseconds(lambda: judge_fleet(even), FLEET)),
        _row("  two workers", 1.5, milliseconds(lambda: judge_fleet(even, workers=2), FLEET)),
        _row("  counts vary", 4.0, milliseconds(lambda: judge_fleet(uneven), FLEET)),
        _row("  two workers", 3.0, milliseconds(lambda: judge_fleet(uneven, workers=2), FLEET)),
        _row("one more, in a fleet", 0.1, milliseconds(lambda: judge_fleet(newest), FLEET)),
        _row("  two workers", 0.1, milliseconds(lambda: judge_fleet(newest, workers=2), FLEET)),
        _row("200 fresh, alone", 6.0, milliseconds(lambda: alone(even[some]), FLEET // 10)),
        _row("one more, alone", 1.0, milliseconds(lambda: alone(newest[some]), FLEET // 10)),
    ]


def _row(name: str, target: float, measured: float, unit: str = "ms a series") -> Row:
    return Row(
        name=name,
        target=f"<= {target:g} {unit}",
        measured=f"{measured:.3f}",
        met=measured <= target,
    )


if __name__ == "__main__":
    print_table(f"Judging, median of {REPEATS}", rows())
