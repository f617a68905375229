"""The `energy_baseline` trainer: hourly usage on outdoor temperature, by least squares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modelperf.trainers import sources
from modelperf.trainers.base import (
    TrainedModel,
    Trainer,
    TrainingError,
    TrainingRequest,
    Watch,
    register,
)
from modelperf.trainers.degree_day_search import Grid, choose, held_out_predictions
from modelperf.trainers.degree_days import (
    Floats,
    Observed,
    Profile,
    Shape,
    by_term,
    fit,
    predict,
)
from modelperf.trainers.regression_metrics import regression_metrics
from modelperf.trainers.sources import Asked, Readings

DEFAULTS: dict[str, Any] = {
    "heating_points_c": [2, 22],  # balance points tried, a degree apart, both ends included
    "cooling_points_c": [10, 28],
    "folds": 5,  # parts of the cross-validation
    "block_days": 7,  # they are dealt in blocks of days: neighbouring hours are alike
}
FEATURES = ("temperature_c", "hour_of_day")


@register("energy_baseline")
class EnergyBaseline(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A degree-day baseline; everything about it is chosen on held-out blocks of days."""

    def check(self) -> None:
        """Refuse hyperparameters there are not."""
        _settings(self.hyperparameters)

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        """Read the series' data and fit a baseline to it."""
        settings = _settings(request.hyperparameters)
        if request.source is None:
            raise TrainingError("energy_baseline needs the policy's training_source.")
        asked = Asked(
            machine=request.machine,
            model_type=request.model_type,
            start=request.data_start,
            end=request.data_end,
        )
        watch.progress(None, "Reads the data.")
        readings = sources.read(request.source, asked)
        watch.progress(None, f"Fits {len(readings):,} readings.")
        return train_on(readings, settings=settings)


def train_on(readings: Readings, *, settings: Mapping[str, Any]) -> TrainedModel:
    """Fit a baseline to readings with the features `temperature_c` and `hour_of_day`."""
    observed, grid = _observe(readings, settings), _grid(settings)
    shape = choose(observed, grid)
    amounts = by_term(shape, fit(observed, shape))
    fitted = predict(shape, amounts, observed.temperature, observed.hour)
    return TrainedModel(
        artefact=_artefact(shape, amounts),
        feature_names=_features_used(shape),
        hyperparameters=dict(settings),
        training_metrics=regression_metrics(observed.usage, fitted),
        validation_metrics=regression_metrics(observed.usage, held_out_predictions(observed, grid)),
        training_samples=len(observed.usage),
    )


def predict_held_out(readings: Readings, *, settings: Mapping[str, Any]) -> Floats:
    """Predict every block of days by a baseline chosen and fitted without it and its fold."""
    return held_out_predictions(_observe(readings, settings), _grid(settings))


def predict_usage(
    artefact: Mapping[str, Any], *, temperature_c: ArrayLike, hour_of_day: ArrayLike
) -> Floats:
    """Predict usage from a stored artefact."""
    shape = Shape(
        heating_point=artefact["heating_point_c"],
        cooling_point=artefact["cooling_point_c"],
        profile=Profile(artefact["profile"]),
    )
    amounts = {term: np.asarray(values, float) for term, values in artefact["amounts"].items()}
    return predict(shape, amounts, np.asarray(temperature_c, float), np.asarray(hour_of_day, int))


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(given.keys() - DEFAULTS.keys())
    if unknown:
        raise TrainingError(
            f"energy_baseline has no hyperparameter {unknown[0]!r}. It has {', '.join(DEFAULTS)}."
        )
    settings = {**DEFAULTS, **given}
    for name in ("folds", "block_days"):
        if type(settings[name]) is not int or not 1 <= settings[name] <= 366:
            raise TrainingError(f"{name} is a whole number from 1 to 366.")
    if settings["folds"] < 3:
        raise TrainingError("folds is at least 3.")
    for name in ("heating_points_c", "cooling_points_c"):
        if not _is_range(settings[name]):
            raise TrainingError(f"{name} is a list of two whole degrees, the lower one first.")
    return settings


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(end) is int and -60 <= end <= 60 for end in value)
        and value[0] <= value[1]
    )


def _grid(settings: Mapping[str, Any]) -> Grid:
    heating, cooling = settings["heating_points_c"], settings["cooling_points_c"]
    return Grid(heating=_points(heating), cooling=_points(cooling))


def _points(ends: list[int]) -> tuple[float, ...]:
    return tuple(float(point) for point in range(ends[0], ends[1] + 1))


def _observe(readings: Readings, settings: Mapping[str, Any]) -> Observed:
    folds, block_days = settings["folds"], settings["block_days"]
    missing = [name for name in FEATURES if name not in readings.features]
    if missing:
        raise TrainingError(f"energy_baseline needs the feature {missing[0]} in the readings.")
    temperature = np.asarray(readings.features["temperature_c"], float)
    known = np.isfinite(readings.target) & np.isfinite(temperature)
    if not known.any():
        raise TrainingError("No reading has both a usage and a temperature.")
    days = (readings.starts - readings.starts[known][0]) // np.timedelta64(1, "D")
    block = days.astype(int)[known] // block_days
    # Twice round: within one round every fold would be a single stretch of one season.
    if block[-1] + 1 < 2 * folds:
        raise TrainingError(
            f"energy_baseline needs readings of at least {2 * folds * block_days} days"
            f" ({2 * folds} blocks of {block_days} days to validate on); these cover"
            f" {int(days[known][-1]) + 1}."
        )
    observed = Observed(
        usage=readings.target[known],
        temperature=temperature[known],
        hour=np.asarray(readings.features["hour_of_day"], int)[known],
        fold=block % folds,
    )
    if len(np.unique(observed.fold)) < folds:
        raise TrainingError("A fold of the cross-validation is empty: the readings have long gaps.")
    return observed


def _artefact(shape: Shape, amounts: Mapping[str, Floats]) -> dict[str, Any]:
    return {
        "kind": "energy_baseline",
        "heating_point_c": shape.heating_point,
        "cooling_point_c": shape.cooling_point,
        "profile": shape.profile.value,
        "amounts": {term: values.tolist() for term, values in amounts.items()},
    }


def _features_used(shape: Shape) -> tuple[str, ...]:
    temperature = shape.heating_point is not None or shape.cooling_point is not None
    hour = shape.profile is not Profile.FLAT
    return tuple(name for name, used in zip(FEATURES, (temperature, hour), strict=True) if used)
