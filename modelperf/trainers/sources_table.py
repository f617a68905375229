"""Tables of readings: which of their columns mean what, and how they become readings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from modelperf.trainers.base import TrainingError
from modelperf.trainers.sources import Asked, Readings, Source

Columns = Mapping[str, Sequence[Any]]


class TableSource(Source, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A source that answers a table; its columns are named here.

    `time` is the start of each interval; one without an offset is of `timezone`, by which the
    hour of the day is told too. A table without a `temperature` has none to predict from.
    """

    time: str = "time"
    value: str = "value"
    temperature: str = "temperature"
    timezone: str = "UTC"

    def check(self) -> None:
        """Refuse a time zone that does not exist."""
        self.zone()

    def zone(self) -> ZoneInfo:
        """Return the time zone."""
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            msg = f"The training source: there is no time zone {self.timezone!r}."
            raise TrainingError(msg) from None

    def read(self, asked: Asked) -> Readings:
        """Return the readings in the table, in order of time."""
        return self._readings(self.table(asked), asked)

    @abstractmethod
    def table(self, asked: Asked) -> Columns:
        """Return the table's columns."""

    def _readings(self, table: Columns, asked: Asked) -> Readings:
        zone = self.zone()
        moments = [_moment(value, zone) for value in self._column(table, self.time)]
        stamps = np.array([round(moment.timestamp()) for moment in moments], dtype=np.int64)
        order = np.argsort(stamps, kind="stable")
        low, high = np.searchsorted(
            stamps[order], [_seconds(asked.start), _seconds(asked.end)], side="left"
        )
        chosen = order[low:high]
        self._refuse_twice(stamps[chosen])
        hours = [moments[place].astimezone(zone).hour for place in chosen]
        features: dict[str, NDArray[Any]] = {"hour_of_day": np.array(hours, dtype=np.int64)}
        if self.temperature in table:
            features["temperature_c"] = _numbers(table[self.temperature], self.temperature)[chosen]
        return Readings(
            starts=stamps[chosen].astype("datetime64[s]"),
            target=_numbers(self._column(table, self.value), self.value)[chosen],
            features=features,
        )

    def _column(self, table: Columns, name: str) -> Sequence[Any]:
        if name not in table:
            there = ", ".join(table) or "none"
            raise TrainingError(
                f"The training source has no column {name!r}. Its columns are: {there}."
            )
        return table[name]

    def _refuse_twice(self, stamps: NDArray[np.int64]) -> None:
        again = np.flatnonzero(stamps[1:] == stamps[:-1])
        if again.size:
            moment = datetime.fromtimestamp(int(stamps[again[0]]), tz=UTC)
            raise TrainingError(f"The training source has two readings at {moment:%FT%TZ}.")


def columns(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Return rows as columns by name."""
    turned = list(zip(*rows, strict=True))
    return dict(zip(names, turned or [()] * len(names), strict=True))


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


def _moment(value: Any, zone: ZoneInfo) -> datetime:
    """Return a time given as such, as ISO text or in seconds since 1970."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, tz=UTC)
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
    except (AttributeError, ValueError, OverflowError, OSError):
        raise TrainingError(f"The training source has the time {value!r}.") from None
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment


def _numbers(values: Sequence[Any], name: str) -> NDArray[np.float64]:
    """Return numbers; what is empty is missing."""
    try:
        return np.array(
            [float("nan") if value in (None, "") else float(value) for value in values], dtype=float
        )
    except (TypeError, ValueError) as error:
        raise TrainingError(f"The training source's column {name!r}: {error}.") from None
