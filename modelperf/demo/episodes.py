"""What the demo's versions were judged to be, day by day: read back from what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from modelperf.demo.load import DemoError
from modelperf.demo.meters import MODEL_TYPE
from modelperf.models import ModelPerformanceMetric, TrainingRun
from modelperf.services.policies import policy_of
from modelperf.stats.fold import judge

METRIC = "nmbe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A stretch of days on which a version was judged degraded."""

    found: date
    n_evaluations: int
    score: float
    changed: date
    low: date
    high: date
    ended: date | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One day of a version as it is stored; a day without the metric has NaN."""

    day: date
    value: float
    count: int
    score: float | None
    detected: bool


def episodes(run: TrainingRun) -> list[Episode]:
    """Return the stretches on which a version was judged degraded, from its stored verdicts."""
    rows = recorded(run)
    rules = policy_of(machine_id=run.machine_id, model_type=MODEL_TYPE).rules(METRIC)
    if rules is None:
        return []
    values, counts = [row.value for row in rows], [row.count for row in rows]
    found = []
    for start, stop in _stretches([row.detected for row in rows]):
        # The verdict of that day again, for its date: rows keep only the statistic.
        verdict = judge(values[: start + 1], counts[: start + 1], rules=rules).verdict
        if verdict.change_index is None or not verdict.is_degraded:
            raise DemoError(
                f"The verdicts of {run.machine.name} were made by other rules: load the demo anew."
            )
        found.append(
            Episode(
                found=rows[start].day,
                n_evaluations=start + 1,
                score=rows[start].score or 0.0,
                changed=rows[verdict.change_index].day,
                low=rows[_or(verdict.change_low, verdict.change_index)].day,
                high=rows[_or(verdict.change_high, verdict.change_index)].day,
                ended=rows[stop].day if stop < len(rows) else None,
            )
        )
    return found


def _or(position: int | None, otherwise: int) -> int:
    return otherwise if position is None else position


def _stretches(flags: ArrayLike) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(flags, bool), [False]])))
    yield from ((int(a), int(b)) for a, b in list(pairwise(edges))[::2])


def recorded(run: TrainingRun) -> list[Recorded]:
    """Return the days of the version that a run trained, in order."""
    rows = ModelPerformanceMetric.objects.filter(model_id=run.model_id)
    return [
        Recorded(
            day=date.fromisoformat(row.metadata["data_day"]),
            value=row.metrics.get(METRIC, np.nan),
            count=row.sample_count,
            score=row.drift_score,
            detected=row.drift_detected,
        )
        for row in rows.order_by("evaluation_end", "evaluation_start")
    ]
