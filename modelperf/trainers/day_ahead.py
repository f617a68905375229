"""A day-ahead forecast of hourly usage, by least squares on what is known when the day begins.

The temperature of the day itself is one of the inputs: in use, that is the weather forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.trainers.base import TrainingError

Floats = NDArray[np.float64]

HEATING_BELOW_C, COOLING_ABOVE_C = 15.5, 18.0
LAGS_HOURS = (48, 168)  # a day of 25 hours never reaches into itself
COLUMN_168H_BEFORE = 24 + 6 + 2 + 1  # of the inputs
FEATURES = (
    "usage_48h_before",
    "usage_168h_before",
    "usage_of_the_day_before",
    "temperature_c",
    "hour_of_day",
    "weekday",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Hours of a series with a reading each, in order of time, arrays of one length.

    `made_at` is when the forecast of an hour is made: the start of its local day.
    """

    starts: NDArray[np.datetime64]  # UTC, to the second
    made_at: NDArray[np.datetime64]
    usage: Floats
    temperature_c: Floats
    hour_of_day: NDArray[np.int_]  # local, as is the weekday, 0 a Monday
    weekday: NDArray[np.int_]

    def __len__(self) -> int:
        return len(self.usage)


def inputs(hours: Hours) -> Floats:
    """Return a row of inputs an hour; NaN where a reading that it needs is missing."""
    one_of_24 = (hours.hour_of_day[:, None] == np.arange(24)).astype(float)
    # Without the last day: the hours have a level of their own already.
    one_of_6 = (hours.weekday[:, None] == np.arange(6)).astype(float)
    degrees = (
        np.maximum(0, HEATING_BELOW_C - hours.temperature_c),
        np.maximum(0, hours.temperature_c - COOLING_ABOVE_C),
    )
    before = (*(_lagged(hours, lag) for lag in LAGS_HOURS), _of_the_day_before(hours))
    return np.column_stack([one_of_24, one_of_6, *degrees, *before])


def train_on(hours: Hours, where: NDArray[np.bool_]) -> dict[str, Any]:
    """Fit a forecast to some of the hours; the others only give them what came before."""
    rows, usage = inputs(hours)[where], hours.usage[where]
    known = np.isfinite(rows).all(axis=1) & np.isfinite(usage)
    if known.sum() < 10 * rows.shape[1]:
        raise TrainingError(
            f"A day-ahead forecast needs {10 * rows.shape[1]} hours with readings two days and a"
            f" week before them; there are {known.sum()}."
        )
    weights = np.linalg.lstsq(rows[known], usage[known])[0]
    return {"kind": "day_ahead", "weights": weights.tolist(), "samples": int(known.sum())}


def forecast(artefact: Mapping[str, Any], rows: Floats) -> Floats:
    """Forecast usage, which is never negative, from inputs; NaN where one is missing."""
    forecasts: Floats = np.maximum(rows @ np.asarray(artefact["weights"], float), 0.0)
    return forecasts


def _lagged(hours: Hours, lag: int) -> Floats:
    asked = hours.starts - np.timedelta64(lag, "h")
    place = np.minimum(np.searchsorted(hours.starts, asked), len(hours) - 1)
    return np.where(hours.starts[place] == asked, hours.usage[place], np.nan)


def _of_the_day_before(hours: Hours) -> Floats:
    """Return the mean usage of the 24 hours before each forecast was made."""
    total = np.concatenate([[0.0], np.cumsum(hours.usage)])
    first, end = (
        np.searchsorted(hours.starts, hours.made_at - np.timedelta64(age, "h")) for age in (24, 0)
    )
    return np.where(end - first == 24, (total[end] - total[first]) / 24, np.nan)
