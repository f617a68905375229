"""The demo's figures as Markdown tables, in the data's own dates; docs/demo.md shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.demo.load import shift_of
from modelperf.demo.meters import CHANGED_ON, METERS, MODEL_TYPE, WORKS, Meter
from modelperf.demo.readings import midnight, read
from modelperf.models import ABTest, DriftState, Machine, ModelPerformanceMetric, TrainingRun
from modelperf.services import ab_tests
from modelperf.services.trend import policy_of
from modelperf.stats.fold import judge
from modelperf.trainers.energy_baseline import DEFAULTS, predict_held_out

METRIC = "nmbe"
CLOSE = 21  # days from the known change within which a date counts as right


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


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures() -> str:
    """Return every figure of the loaded demo."""
    parts = (
        ("Trained", training_table()),
        ("Bias by what it is divided by", bias_table()),
        ("Judged", verdict_table()),
        ("The known change", change_table()),
        ("Every degradation found", episode_table()),
        ("Version 2 against version 1", test_table()),
    )
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts)


def training_table() -> str:
    """Return what each training found; R² and the rest are of held-out weeks."""
    rows = []
    for meter, run in _runs():
        shape, held_out = run.model.artefact or {}, run.validation_metrics
        shift = shift_of(run.machine)
        ends = (run.training_data_start - shift, run.training_data_end - shift)
        rows.append(
            [
                meter.key,
                str(run.model_version),
                " to ".join(f"{end.astimezone(meter.zone):%Y-%m-%d}" for end in ends),
                f"{run.training_samples:,}",
                _point(shape.get("heating_point_c")),
                _point(shape.get("cooling_point_c")),
                str(shape.get("profile", "")).replace("_", " "),
                f"{run.training_metrics['r_squared']:.3f}",
                *(f"{held_out[name]:.3f}" for name in ("r_squared", "rmse", "mae")),
                *(f"{held_out[name]:.0f}" for name in ("mape", "cv_rmse")),
                f"{held_out['nmbe']:+.1f}",
            ]
        )
    head = "meter, version, trained on (end excluded), readings, heating below, cooling above"
    head += ", amounts by hour, R² in sample, R², RMSE, MAE, MAPE %, CV(RMSE) %, nmbe %"
    return table(_heads(head), rows)


def bias_table() -> str:
    """Return how the daily bias behaves on held-out days of the first year, both ways to divide."""
    rows = []
    for meter in METERS:
        measured, predicted = _held_out_days(meter)
        error, used = predicted - measured, measured > 0
        by_measured, by_predicted = error[used] / measured[used], error / predicted
        rows.append(
            [
                meter.key,
                str(np.count_nonzero(~used)),
                *(f"{100 * share.mean():+.1f}" for share in (by_measured, by_predicted)),
                *(f"{_skewness(share):+.1f}" for share in (by_measured, by_predicted)),
            ]
        )
    head = "meter, days without use, mean % by measured, by predicted"
    head += ", skewness by measured, by predicted"
    return table(_heads(head), rows)


def _held_out_days(meter: Meter) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return measured and predicted totals of the days of the first year, predicted unseen."""
    first, end = (midnight(day, meter) for day in meter.first_training)
    year = read(machine=Machine(), key=meter.key, start=first, end=end)
    predicted = predict_held_out(year, settings=DEFAULTS)
    # The hour of the day falls back where a new one begins.
    day = np.cumsum(np.diff(year.features["hour_of_day"], prepend=0) < -12)
    return np.bincount(day, weights=year.target), np.bincount(day, weights=predicted)


def _skewness(values: NDArray[np.float64]) -> float:
    return float(np.mean(((values - values.mean()) / values.std()) ** 3))


def verdict_table() -> str:
    """Return how many days each version was judged on, and the verdict as loaded."""
    rows = []
    for meter, run in _runs():
        state = DriftState.objects.get(model_id=run.model_id)
        values = np.array([row.metrics.get(METRIC, np.nan) for row in _rows(run)], float)
        rows.append(
            [
                meter.key,
                str(run.model_version),
                str(len(values)),
                f"{np.nanmean(values):+.1f}",
                f"{np.nanstd(values):.0f}",
                str(np.count_nonzero(np.isnan(values))),
                state.status.replace("_", " "),
                f"{state.verdict['statistic']:.2f}",
            ]
        )
    head = "meter, version, days, mean nmbe %, its daily spread, days without, verdict as loaded, Z"
    return table(_heads(head), rows)


def change_table() -> str:
    """Return what became of the known change, meter by meter."""
    rows = []
    for meter, run in _runs():
        if meter.is_simulated and run.model_version == 1:
            values = _values(run)
            before = [row.value for row in values if row.day < WORKS[0]]
            after = [row.value for row in values if row.day >= WORKS[0]]
            scores = [row.score for row in values if row.score is not None]
            rows.append(
                [
                    meter.key,
                    str(len(before)),
                    *(f"{np.nanmean(part):+.1f}" for part in (before, after)),
                    *_outcome(run),
                    f"{max(scores):.2f}",
                ]
            )
    head = "meter, days before, mean nmbe % before, after, found on, days after, dated, off by"
    head += ", outcome, largest Z"
    return table(_heads(head), rows)


def hits() -> dict[str, bool]:
    """Return for each simulated meter whether the known change was found and dated right."""
    return {
        meter.key: _outcome(run)[-1] == "found"
        for meter, run in _runs()
        if meter.is_simulated and run.model_version == 1
    }


def _outcome(run: TrainingRun) -> list[str]:
    found = episodes(run)
    if not found:
        return ["-", "-", "-", "-", "missed"]
    first = found[0]
    off = (first.changed - CHANGED_ON).days
    after = sum(CHANGED_ON < row.day <= first.found for row in _values(run))
    right = abs(off) <= CLOSE and first.found > CHANGED_ON
    outcome = "found" if right else "found late, dated wrongly"
    return [str(first.found), str(after), str(first.changed), f"{off:+d} days", outcome]


def episode_table() -> str:
    """Return every stretch on which a version was degraded."""
    rows = [
        [
            meter.key,
            str(run.model_version),
            str(episode.found),
            str(episode.n_evaluations),
            f"{episode.score:.2f}",
            f"{episode.changed} ({episode.low} to {episode.high})",
            str(episode.ended or "still on"),
        ]
        for meter, run in _runs()
        for episode in episodes(run)
    ]
    head = "meter, version, found on, at evaluation, Z, dated (range), recovered on"
    return table(_heads(head), rows)


def test_table() -> str:
    """Return where the A/B tests stand as loaded."""
    rows = []
    for meter in METERS:
        result = ab_tests.results(test=ABTest.objects.get(machine_id=meter.machine_id))
        low, high = result.interval
        rows.append(
            [
                meter.key,
                str(result.evidence["n"]),
                str(result.metric),
                f"{result.effect or 0:+.4f}",
                f"{low or 0:+.4f} to {high or 0:+.4f}",
                f"{result.confidence:.4f}",
                (result.winner or "undecided").replace("model_a", "1").replace("model_b", "2"),
            ]
        )
    head = "meter, common days, loss, version 1 − version 2, interval, confidence, winner"
    return table(_heads(head), rows)


def episodes(run: TrainingRun) -> list[Episode]:
    """Return the stretches on which a version was judged degraded, from its stored verdicts."""
    rows = _values(run)
    rules = policy_of(MODEL_TYPE).rules(METRIC)
    if rules is None:
        return []
    values, counts = [row.value for row in rows], [row.count for row in rows]
    found = []
    for start, stop in _stretches([row.detected for row in rows]):
        # The verdict of that day again, for its date: rows keep only the statistic.
        verdict = judge(values[: start + 1], counts[: start + 1], rules=rules).verdict
        found.append(
            Episode(
                found=rows[start].day,
                n_evaluations=start + 1,
                score=rows[start].score or 0.0,
                changed=rows[verdict.change_index or 0].day,
                low=rows[verdict.change_low or 0].day,
                high=rows[verdict.change_high or 0].day,
                ended=rows[stop].day if stop < len(rows) else None,
            )
        )
    return found


def _stretches(flags: ArrayLike) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(flags, bool), [False]])))
    yield from ((int(a), int(b)) for a, b in list(pairwise(edges))[::2])


@dataclass(frozen=True, slots=True)
class _Value:
    day: date
    value: float
    count: int
    score: float | None
    detected: bool


def _values(run: TrainingRun) -> list[_Value]:
    return [
        _Value(
            day=date.fromisoformat(row.metadata["data_day"]),
            value=row.metrics.get(METRIC, np.nan),
            count=row.sample_count,
            score=row.drift_score,
            detected=row.drift_detected,
        )
        for row in _rows(run)
    ]


def _rows(run: TrainingRun) -> list[ModelPerformanceMetric]:
    rows = ModelPerformanceMetric.objects.filter(model_id=run.model_id)
    return list(rows.order_by("evaluation_end", "evaluation_start"))


def _runs() -> Iterator[tuple[Meter, TrainingRun]]:
    for meter in METERS:
        runs = TrainingRun.objects.filter(machine_id=meter.machine_id, triggered_by="demo")
        for run in runs.order_by("model_version").select_related("model", "machine"):
            yield meter, run


def _point(degrees: float | None) -> str:
    return "-" if degrees is None else f"{degrees:.0f} °C"


def _heads(text: str) -> list[str]:
    return text.split(", ")
