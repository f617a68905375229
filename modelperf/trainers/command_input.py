"""What a command is given: one JSON file, and the readings as CSV where a source is known."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from modelperf.trainers import sources
from modelperf.trainers.base import PreviousVersion, TrainingRequest, Watch
from modelperf.trainers.sources import Asked, Readings


class GivenMachine(Struct):
    """The machine of the series."""

    id: uuid.UUID
    name: str
    metadata: dict[str, Any]


class GivenVersion(Struct):
    """The newest version of the series."""

    id: uuid.UUID
    model_version: int
    artefact: dict[str, Any] | None


class Given(Struct):
    """What the file holds; `readings` is the path of the CSV file."""

    run_id: uuid.UUID
    attempt: int
    machine: GivenMachine
    model_type: str
    data_start: datetime
    data_end: datetime
    hyperparameters: Mapping[str, Any]
    previous: GivenVersion | None
    source: Mapping[str, Any] | None
    readings: str | None


def write(request: TrainingRequest, folder: Path, watch: Watch) -> Path:
    """Write the files into a folder and return the path of the JSON file."""
    machine = request.machine
    given = Given(
        run_id=request.run_id,
        attempt=request.attempt,
        machine=GivenMachine(machine.id, machine.name, machine.metadata),
        model_type=request.model_type,
        data_start=request.data_start.astimezone(UTC),
        data_end=request.data_end.astimezone(UTC),
        hyperparameters=request.hyperparameters,
        previous=_given(request.previous),
        source=request.source,
        readings=_readings(request, folder, watch),
    )
    path = folder / "input.json"
    path.write_bytes(msgspec.json.encode(given))
    return path


def _given(version: PreviousVersion | None) -> GivenVersion | None:
    if version is None:
        return None
    return GivenVersion(version.id, version.model_version, version.artefact)


def _readings(request: TrainingRequest, folder: Path, watch: Watch) -> str | None:
    if request.source is None:
        return None
    asked = Asked(
        machine=request.machine,
        model_type=request.model_type,
        start=request.data_start,
        end=request.data_end,
    )
    watch.progress(None, "Reads the data.")
    path = folder / "readings.csv"
    _write_csv(sources.read(request.source, asked), path)
    return str(path)


def _write_csv(readings: Readings, path: Path) -> None:
    """Write readings with a header; what is missing is empty."""
    starts = [f"{start}Z" for start in np.datetime_as_string(readings.starts, unit="s")]
    columns = [starts, _texts(readings.target), *map(_texts, readings.features.values())]
    with path.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(("start", "target", *readings.features))
        lines.writerows(zip(*columns, strict=True))


def _texts(values: NDArray[Any]) -> list[Any]:
    return ["" if value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN
