"""The data file: readings by meter, cut into whole local days, moved to the time shown."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.demo.meters import BY_KEY, Meter
from modelperf.trainers.base import TrainedMachine, TrainingError
from modelperf.trainers.sources import Asked, Readings, Source, register

DATA_FILE = Path(__file__).parent / "data" / "meters_hourly.csv.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReadings:
    """All readings of a meter, in the data's own time."""

    starts: NDArray[np.datetime64]  # UTC, to the second
    usage: NDArray[np.float64]
    temperature_c: NDArray[np.float64]
    hour_of_day: NDArray[np.int_]  # local


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One local day with a reading for each of its 23, 24 or 25 hours; times are the data's."""

    day: date
    start: datetime
    end: datetime
    usage: NDArray[np.float64]
    temperature_c: NDArray[np.float64]
    hour_of_day: NDArray[np.int_]


def midnight(day: date, meter: Meter) -> datetime:
    """Return the start of a local day, in UTC and in the data's time."""
    return datetime.combine(day, time(), tzinfo=meter.zone).astimezone(UTC)


def whole_days(meter: Meter) -> Iterator[Day]:
    """Yield the meter's complete local days in order."""
    readings = of_meter(meter.key)
    first = _local(readings.starts[0], meter).date()
    last = _local(readings.starts[-1], meter).date()
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        start, end = midnight(day, meter), midnight(day + timedelta(days=1), meter)
        low, high = np.searchsorted(readings.starts, [_stamp(start), _stamp(end)])
        if high - low == (end - start) // timedelta(hours=1):
            yield Day(
                day=day,
                start=start,
                end=end,
                usage=readings.usage[low:high],
                temperature_c=readings.temperature_c[low:high],
                hour_of_day=readings.hour_of_day[low:high],
            )


@register("demo")
class DemoSource(Source, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The demo's data file: the machine's own meter, or the one that is named."""

    meter: str | None = None

    def check(self) -> None:
        """Refuse a meter that the demo does not have."""
        if self.meter is not None:
            _refuse_unknown(self.meter)

    def read(self, asked: Asked) -> Readings:
        """Return the meter's readings in [start, end) of the time that the demo shows."""
        key = self.meter or asked.machine.metadata.get("demo", {}).get("meter")
        return read(machine=asked.machine, key=key, start=asked.start, end=asked.end)


def _refuse_unknown(key: Any) -> None:
    if key not in BY_KEY:
        raise TrainingError(f"The demo has no meter {key!r}. It has {', '.join(BY_KEY)}.")


def read(*, machine: TrainedMachine, key: Any, start: datetime, end: datetime) -> Readings:
    """Return a meter's readings in [start, end) of the time that the demo shows."""
    _refuse_unknown(key)
    shift = timedelta(weeks=machine.metadata.get("demo", {}).get("shift_weeks", 0))
    readings = of_meter(key)
    window = np.array([_stamp(start - shift), _stamp(end - shift)])
    low, high = np.searchsorted(readings.starts, window)
    features: dict[str, NDArray[Any]] = {
        "temperature_c": readings.temperature_c[low:high],
        "hour_of_day": readings.hour_of_day[low:high],
    }
    return Readings(
        starts=readings.starts[low:high] + np.timedelta64(shift),
        target=readings.usage[low:high],
        features=features,
    )


def of_meter(key: str) -> MeterReadings:
    """Return all readings of a meter."""
    return _file()[key]


@lru_cache(maxsize=1)
def _file() -> dict[str, MeterReadings]:
    with gzip.open(DATA_FILE, "rt", encoding="utf-8", newline="") as lines:
        rows: dict[str, list[tuple[str, str, str]]] = {}
        for meter, timestamp, usage, temperature, _unit in list(csv.reader(lines))[1:]:
            rows.setdefault(meter, []).append((timestamp, usage, temperature))
    return {key: _columns(rows[key], BY_KEY[key]) for key in BY_KEY}


def _columns(rows: list[tuple[str, str, str]], meter: Meter) -> MeterReadings:
    stamps, usage, temperature = zip(*sorted(rows), strict=True)
    starts = np.array([stamp.removesuffix("Z") for stamp in stamps], dtype="datetime64[s]")
    return MeterReadings(
        starts=starts,
        usage=np.array(usage, dtype=float),
        temperature_c=np.array(temperature, dtype=float),
        hour_of_day=np.array([_local(stamp, meter).hour for stamp in starts]),
    )


def _local(stamp: np.datetime64, meter: Meter) -> datetime:
    return datetime.fromtimestamp(int(stamp.astype(int)), tz=meter.zone)


def _stamp(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s")
