"""The day-ahead forecast: what it is made from, that it fits, and that it never looks ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelperf.trainers.base import TrainingError
from modelperf.trainers.day_ahead import COLUMN_168H_BEFORE, Hours, forecast, inputs, train_on

N_DAYS = 60
START = np.datetime64("2024-01-01T00:00:00", "s")  # a Monday


def hours(n_days: int = N_DAYS, seed: int = 1) -> Hours:
    """Return days of 24 hours whose usage follows the clock, the week, the weather and itself."""
    rng = np.random.default_rng(seed)
    starts = START + np.arange(24 * n_days) * np.timedelta64(1, "h")
    hour, day = np.arange(24 * n_days) % 24, np.arange(24 * n_days) // 24
    temperature = 12 + 8 * np.sin(np.arange(24 * n_days) / 40) + rng.normal(0, 2, 24 * n_days)
    usage = 5 + np.sin(hour / 4) + 2.0 * (day % 7 >= 5) + 0.3 * np.maximum(0, 15.5 - temperature)
    return Hours(
        starts=starts,
        made_at=START + day * np.timedelta64(24, "h"),
        usage=usage + rng.normal(0, 0.1, usage.size),
        temperature_c=temperature,
        hour_of_day=hour,
        weekday=day % 7,
    )


def everything(given: Hours) -> np.ndarray:
    return np.ones(len(given), bool)


def test_inputs_are_what_was_used_before() -> None:
    given = hours(10)
    row, place = inputs(given)[24 * 8 + 5], 24 * 8 + 5
    assert row[:24].tolist() == [float(hour == 5) for hour in range(24)]
    assert row[24:30].tolist() == [0, 1, 0, 0, 0, 0]  # a Tuesday
    assert row[32] == given.usage[place - 48]
    assert row[COLUMN_168H_BEFORE] == given.usage[place - 168]
    assert row[34] == pytest.approx(given.usage[24 * 7 : 24 * 8].mean())
    warm = inputs(replace(given, temperature_c=np.full(len(given), 20.0)))[place]
    cold = inputs(replace(given, temperature_c=np.full(len(given), 10.0)))[place]
    assert (warm[30], warm[31], cold[30], cold[31]) == (0, 2, 5.5, 0)


def test_inputs_are_missing_where_a_reading_before_is() -> None:
    given = hours(12)
    kept = np.arange(len(given)) != 24 * 8 + 5
    gap = Hours(**{name: getattr(given, name)[kept] for name in given.__slots__})
    missing = {str(start)[:13] for start in gap.starts[~np.isfinite(inputs(gap)).all(axis=1)]} - {
        str(start)[:13] for start in given.starts[: 24 * 7]
    }
    day_after = {f"2024-01-10T{hour:02}" for hour in range(24)}
    assert missing == day_after | {"2024-01-11T05"}


def test_inputs_never_look_ahead_not_even_on_a_day_of_25_hours() -> None:
    given = hours(12)
    long_day = given.made_at.copy()
    long_day[24 * 9] = given.made_at[24 * 9 - 1]
    given = replace(given, made_at=long_day)
    rows = inputs(given)
    for place in (24 * 9, 24 * 10 + 23):
        later = given.starts >= given.made_at[place]
        other = replace(given, usage=np.where(later, 99.0, given.usage))
        assert inputs(other)[place].tolist() == rows[place].tolist()


def test_a_forecast_fits_what_it_is_made_for() -> None:
    given, unseen = hours(seed=1), hours(seed=2)
    artefact = train_on(given, everything(given))
    rows = inputs(unseen)
    forecasts = forecast(artefact, rows)
    known = np.isfinite(forecasts)
    assert known.sum() == 24 * (N_DAYS - 7)
    error = forecasts[known] - unseen.usage[known]
    assert np.sqrt(np.mean(error**2)) < 0.15  # the noise alone is .1
    assert artefact["samples"] == known.sum()


def test_a_forecast_is_least_squares_on_the_hours_asked_for() -> None:
    given = hours()
    where = given.starts < START + np.timedelta64(40, "D")
    rows = inputs(given)
    known = where & np.isfinite(rows).all(axis=1)
    weights = np.linalg.solve(rows[known].T @ rows[known], rows[known].T @ given.usage[known])
    assert train_on(given, where)["weights"] == pytest.approx(weights.tolist(), abs=1e-6)


def test_a_forecast_is_never_negative() -> None:
    given = hours()
    artefact = train_on(replace(given, usage=given.usage - 6), everything(given))
    assert np.nanmin(forecast(artefact, inputs(given))) == 0


def test_a_forecast_of_too_little_is_refused() -> None:
    given = hours(20)
    with pytest.raises(TrainingError, match="needs 350 hours"):
        train_on(given, everything(given))
