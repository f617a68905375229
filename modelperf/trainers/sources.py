"""Where the readings of a training come from: a source names a reader and what to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from django.utils.module_loading import import_string
from numpy.typing import NDArray

from modelperf.trainers.base import TrainedMachine, TrainingError

# Readers by name, found when they are first needed: a reader may live in any room.
READERS = {"demo": "modelperf.demo.readings.read"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Readings in order of time: what a model predicts, and what it may predict it from.

    Parameters
    ----------
    starts : ndarray of datetime64[s], shape (readings,)
        Start of each interval, UTC.
    target : ndarray of float64, shape (readings,)
        The measured value.
    features : mapping of str to ndarray, each of shape (readings,)
        The inputs by name.
    """

    starts: NDArray[np.datetime64]
    target: NDArray[np.float64]
    features: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.target)


class Reader(Protocol):
    """Reads what a source holds of a machine in a window; `key` is the source's part after ':'."""

    def __call__(
        self, *, machine: TrainedMachine, key: str, start: datetime, end: datetime
    ) -> Readings:
        """Return the readings in [start, end)."""
        ...


def read(source: str, *, machine: TrainedMachine, start: datetime, end: datetime) -> Readings:
    """Return the readings of a source, such as `demo:uk-gas`, in [start, end)."""
    name, _, key = source.partition(":")
    if name not in READERS or not key:
        known = ", ".join(f"{reader}:.." for reader in sorted(READERS))
        raise TrainingError(f"There is no data source {source!r}. Known sources: {known}.")
    reader: Reader = import_string(READERS[name])
    readings = reader(machine=machine, key=key, start=start, end=end)
    if not len(readings):
        raise TrainingError(
            f"The source {source} holds no readings from {start:%Y-%m-%d} to {end:%Y-%m-%d}."
        )
    return readings
