"""Day-ahead forecasts of the meters, trained on real readings and evaluated week by week."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modelperf.demo.meters import METERS, Meter
from modelperf.demo.readings import Day, midnight, whole_days
from modelperf.models import Machine, ModelVersion
from modelperf.services import registry
from modelperf.services.metrics import Evaluation
from modelperf.trainers.day_ahead import (
    COLUMN_168H_BEFORE,
    FEATURES,
    Floats,
    Hours,
    forecast,
    inputs,
    train_on,
)
from modelperf.trainers.regression_metrics import regression_metrics

MODEL_TYPE = "forecast_dayahead"
WEEK = timedelta(weeks=1)
# What least squares minimises. A week without an evaluation is one too many to go unnoticed.
POLICY = {
    "primary_metric": "rmse",
    "expected_cadence_seconds": int(WEEK.total_seconds()),
}
METRICS = ("r_squared", "rmse", "mae", "mape")


@dataclass(frozen=True, slots=True)
class Forecasts:
    """The whole days of a meter, hour by hour, with what a forecast of each hour is made from."""

    hours: Hours
    inputs: Floats
    day: NDArray[np.datetime64]  # local, of each hour

    def within(self, first: date, end: date) -> NDArray[np.bool_]:
        """Tell which hours are of local days from `first` up to `end`, exclusive."""
        return (self.day >= np.datetime64(first)) & (self.day < np.datetime64(end))


@lru_cache(maxsize=len(METERS))
def of_meter(meter: Meter) -> Forecasts:
    """Return what the forecasts of a meter are made from."""
    days = list(whole_days(meter))
    n_hours = [len(day.usage) for day in days]
    hours = Hours(
        starts=np.concatenate([_hours_of(day) for day in days]),
        made_at=np.repeat(np.array([_stamp(day.start) for day in days]), n_hours),
        usage=np.concatenate([day.usage for day in days]),
        temperature_c=np.concatenate([day.temperature_c for day in days]),
        hour_of_day=np.concatenate([day.hour_of_day for day in days]),
        weekday=np.repeat([day.day.weekday() for day in days], n_hours),
    )
    of_day = np.repeat(np.array([day.day for day in days], dtype="datetime64[D]"), n_hours)
    return Forecasts(hours, inputs(hours), of_day)


def trainings(meter: Meter) -> tuple[tuple[date, date], ...]:
    """Return the days that each version is trained on: a real home's second year is a second."""
    first, second = meter.first_training, meter.second_training
    return (first,) if meter.is_simulated else (first, second)


def train(machine: Machine, meter: Meter, *, shift: timedelta, by: str) -> list[ModelVersion]:
    """Train and register the versions of a meter's forecast; the first one serves."""
    made_from = of_meter(meter)
    models: list[ModelVersion] = []
    for first, end in trainings(meter):
        trained_on = made_from.within(first, end)
        artefact = train_on(made_from.hours, trained_on)
        model, _ = registry.register_model(
            machine=machine,
            model_type=MODEL_TYPE,
            is_active=not models,
            trained_at=midnight(end, meter) + shift,
            artefact=artefact,
            feature_names=FEATURES,
            metadata={
                "trained_on": [first.isoformat(), end.isoformat()],
                "in_sample": _metrics(made_from, artefact, trained_on),
            },
            by=by,
        )
        models.append(model)
    return models


def evaluations(meter: Meter, model: ModelVersion, *, shift: timedelta) -> Iterator[Evaluation]:
    """Judge a version on each week after its training, by the forecasts it makes for its hours.

    An hour is not forecast where readings before it are missing.
    """
    made_from, artefact = of_meter(meter), model.artefact or {}
    for first in weeks(meter, after=date.fromisoformat(model.metadata["trained_on"][1])):
        where = made_from.within(first, first + WEEK)
        known = where & np.isfinite(made_from.inputs).all(axis=1)
        yield Evaluation(
            model_id=model.id,
            model_type=MODEL_TYPE,
            machine_id=model.machine_id,
            evaluation_start=midnight(first, meter) + shift,
            evaluation_end=midnight(first + WEEK, meter) + shift,
            metrics=_metrics(made_from, artefact, known),
            sample_count=int(known.sum()),
            metadata={"data_day": first.isoformat()},
        )


def weeks(meter: Meter, *, after: date) -> list[date]:
    """Return the first days of the weeks from `after` on that end with the last day of the data.

    Weeks with a day that is not whole, or with one of the works, are left out.
    """
    there = {day.day for day in whole_days(meter) if not meter.is_left_out(day.day)}
    last = max(there) + timedelta(days=1)
    firsts = (last - WEEK * back for back in range((last - after) // WEEK, 0, -1))
    return [first for first in firsts if all(first + timedelta(days=n) in there for n in range(7))]


def rmse_of_the_week_before(meter: Meter, firsts: list[date]) -> float:
    """Return the mean RMSE of weeks where every hour is forecast to be as a week before."""
    made_from = of_meter(meter)
    error = made_from.hours.usage - made_from.inputs[:, COLUMN_168H_BEFORE]
    weeks = (error[made_from.within(first, first + WEEK)] for first in firsts)
    return float(np.mean([np.sqrt(np.nanmean(week**2)) for week in weeks]))


def _metrics(
    made_from: Forecasts, artefact: dict[str, object], where: NDArray[np.bool_]
) -> dict[str, float]:
    forecasts = forecast(artefact, made_from.inputs)
    known = where & np.isfinite(forecasts)
    found = regression_metrics(made_from.hours.usage[known], forecasts[known])
    return {name: found[name] for name in METRICS if name in found}


def _hours_of(day: Day) -> NDArray[np.datetime64]:
    hours = np.arange(len(day.usage)) * np.timedelta64(1, "h")
    starts: NDArray[np.datetime64] = _stamp(day.start) + hours
    return starts


def _stamp(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s")
