"""The demo's figures as Markdown tables, in the data's own dates; docs/demo.md shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any

import numpy as np
from django.db.models import QuerySet
from numpy.typing import NDArray

from modelperf.demo import forecasts
from modelperf.demo.episodes import episodes, recorded
from modelperf.demo.load import shift_of
from modelperf.demo.meters import CHANGED_ON, COMPARED, METERS, WORKS, Meter
from modelperf.demo.readings import midnight, read
from modelperf.models import (
    ABTest,
    DriftState,
    Machine,
    ModelPerformanceMetric,
    ModelVersion,
    TrainingRun,
)
from modelperf.services import ab_tests
from modelperf.trainers.energy_baseline import DEFAULTS, predict_held_out

FOUND = "found"
_NOT_YET = ["-", "-", "-", "-", "held back"]
CLOSE = 21  # days from the known change within which a date counts as right


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
        ("Day-ahead forecasts", forecast_table()),
    )
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts)


def training_table() -> str:
    """Return what each training found; R² and the rest are of held-out weeks."""
    rows = []
    for meter, run in _runs():
        shape, held_out = _artefact(run), run.validation_metrics
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
    totals = (np.bincount(day, weights=values) for values in (year.target, predicted))
    measured, expected = (np.asarray(total, float) for total in totals)
    return measured, expected


def _skewness(values: NDArray[np.float64]) -> float:
    return float(np.mean(((values - values.mean()) / values.std()) ** 3))


def verdict_table() -> str:
    """Return how many days each version was judged on, and the verdict as loaded."""
    rows = []
    for meter, run in _runs():
        state = DriftState.objects.get(model_id=run.model_id)
        values = np.array([row.value for row in recorded(run)])
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
            values = recorded(run)
            before = [row.value for row in values if row.day < WORKS[0]]
            after = [row.value for row in values if row.day >= WORKS[0]]
            scores = [row.score for row in values if row.score is not None]
            rows.append(
                [
                    meter.key,
                    str(len(before)),
                    *(f"{np.nanmean(part):+.1f}" if part else "-" for part in (before, after)),
                    *(_outcome(run) if after else _NOT_YET),
                    f"{max(scores):.2f}",
                ]
            )
    head = "meter, days before, mean nmbe % before, after, found on, days after, dated, off by"
    head += ", outcome, largest Z"
    return table(_heads(head), rows)


def hits() -> dict[str, int | None]:
    """Return for each simulated meter the days after which the known change was found, or None."""
    outcomes = {
        meter.key: _outcome(run)
        for meter, run in _runs()
        if meter.is_simulated and run.model_version == 1
    }
    return {key: int(told[1]) if told[-1] == FOUND else None for key, told in outcomes.items()}


def _outcome(run: TrainingRun) -> list[str]:
    found = episodes(run)
    if not found:
        return ["-", "-", "-", "-", "missed"]
    first = found[0]
    off = (first.changed - CHANGED_ON).days
    after = sum(CHANGED_ON < row.day <= first.found for row in recorded(run))
    right = abs(off) <= CLOSE and first.found > CHANGED_ON
    outcome = FOUND if right else "missed: dated wrongly"
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
    for meter in COMPARED:
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


def forecast_table() -> str:
    """Return how well the forecasts did, in and out of sample, and their verdicts as loaded."""
    rows = []
    for meter in METERS:
        models = ModelVersion.objects.of_series(
            machine_id=meter.machine_id, model_type=forecasts.MODEL_TYPE
        ).select_related("drift_state")
        for model in models.order_by("model_version"):
            weeks = ModelPerformanceMetric.objects.filter(model_id=model.pk)
            fields = ("rmse", "mae", "r_squared", "sample_count")
            found = np.array(list(weeks.values_list(*fields)), float)
            verdict = model.drift_state.verdict
            rows.append(
                [
                    meter.key,
                    str(model.model_version),
                    " to ".join(model.metadata["trained_on"]),
                    f"{(model.artefact or {})['samples']:,}",
                    f"{model.metadata['in_sample']['r_squared']:.3f}",
                    f"{model.metadata['in_sample']['rmse']:.3f}",
                    str(len(found)),
                    f"{found[:, 3].sum():,.0f}",
                    *(f"{mean:.3f}" for mean in np.nanmean(found[:, :3], axis=0)),
                    f"{forecasts.rmse_of_the_week_before(meter, _first_days(weeks)):.3f}",
                    model.drift_state.status.replace("_", " "),
                    f"{verdict['statistic']:.2f}",
                ]
            )
    head = "meter, version, trained on (end excluded), hours, R² in sample, RMSE in sample"
    head += ", weeks, hours forecast, mean RMSE of a week, MAE, R², RMSE if as a week before"
    head += ", verdict as loaded, Z"
    return table(_heads(head), rows)


def _first_days(weeks: QuerySet[ModelPerformanceMetric]) -> list[date]:
    return [date.fromisoformat(row.metadata["data_day"]) for row in weeks]


def _runs() -> Iterator[tuple[Meter, TrainingRun]]:
    for meter in METERS:
        runs = TrainingRun.objects.filter(machine_id=meter.machine_id, triggered_by="demo")
        for run in runs.order_by("model_version").select_related("model", "machine"):
            yield meter, run


def _artefact(run: TrainingRun) -> dict[str, Any]:
    return (run.model.artefact if run.model else None) or {}


def _point(degrees: float | None) -> str:
    return "-" if degrees is None else f"{degrees:.0f} °C"


def _heads(text: str) -> list[str]:
    return text.split(", ")
