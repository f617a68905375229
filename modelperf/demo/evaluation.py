"""A version of a meter's baseline judged on a local day: predict the hours, compare, record."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache

from modelperf.demo.meters import METERS, Meter
from modelperf.demo.readings import Day, whole_days
from modelperf.models import ModelVersion
from modelperf.services.metrics import Evaluation
from modelperf.trainers.energy_baseline import predict_usage
from modelperf.trainers.regression_metrics import regression_metrics


@lru_cache(maxsize=len(METERS))
def evaluated_days(meter: Meter) -> tuple[Day, ...]:
    """Return the meter's days after its first training, without those of the works."""
    return tuple(
        day
        for day in whole_days(meter)
        if day.day >= meter.first_training[1] and not meter.is_left_out(day.day)
    )


def shown_days(meter: Meter) -> tuple[Day, ...]:
    """Return the days whose evaluations are loaded; the others are held back for the replay."""
    return tuple(day for day in evaluated_days(meter) if not _is_held_back(meter, day))


def held_back_days(meter: Meter) -> tuple[Day, ...]:
    """Return the days that the replay records."""
    return tuple(day for day in evaluated_days(meter) if _is_held_back(meter, day))


def _is_held_back(meter: Meter, day: Day) -> bool:
    return meter.held_back_from is not None and day.day >= meter.held_back_from


def evaluate(model: ModelVersion, day: Day, *, shift: timedelta) -> Evaluation:
    """Judge a version on a day that is moved to the time shown."""
    predicted = predict_usage(
        model.artefact or {}, temperature_c=day.temperature_c, hour_of_day=day.hour_of_day
    )
    return Evaluation(
        model_id=model.id,
        model_type=model.model_type,
        machine_id=model.machine_id,
        evaluation_start=day.start + shift,
        evaluation_end=day.end + shift,
        metrics=regression_metrics(day.usage, predicted),
        sample_count=len(day.usage),
        metadata={"data_day": day.day.isoformat()},
    )


def versions_of(meter: Meter) -> list[tuple[ModelVersion, datetime]]:
    """Return the trained versions of a meter's baseline, each with the end of its training data."""
    models = ModelVersion.objects.filter(
        machine_id=meter.machine_id, training_runs__training_status="completed"
    ).order_by("model_version")
    ends = models.values_list("pk", "training_runs__training_data_end")
    by_id = dict(ends)
    return [(model, by_id[model.pk]) for model in models]
