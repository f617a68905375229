"""What a trainer is asked, what it answers, and the trainers that exist, by name."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


class TrainingError(Exception):
    """No model came of it; the text is a sentence that says why and what to set."""


class TrainedMachine(Protocol):
    """What a trainer may know of the machine."""

    @property
    def id(self) -> uuid.UUID:
        """Its id."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """What is said of it."""
        ...


class PreviousVersion(Protocol):
    """What a trainer may know of the version before."""

    @property
    def model_version(self) -> int:
        """Its number."""
        ...

    @property
    def artefact(self) -> dict[str, Any] | None:
        """What was trained."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """A series to be trained on its data from `data_start` up to `data_end`, exclusive."""

    machine: TrainedMachine
    model_type: str
    source: Mapping[str, Any]
    data_start: datetime
    data_end: datetime
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    previous: PreviousVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """What came of a training: the artefact predicts, the validation metrics are out of sample."""

    artefact: dict[str, Any]
    feature_names: tuple[str, ...]
    hyperparameters: dict[str, Any]
    training_metrics: dict[str, float]
    validation_metrics: dict[str, float]
    training_samples: int


Trainer = Callable[[TrainingRequest], TrainedModel]

_trainers: dict[str, Trainer] = {}


def register(name: str) -> Callable[[Trainer], Trainer]:
    """Make a trainer known under a name."""

    def add(trainer: Trainer) -> Trainer:
        _trainers[name] = trainer
        return trainer

    return add


def find(name: str) -> Trainer:
    """Return the trainer of this name."""
    try:
        return _trainers[name]
    except KeyError:
        known = ", ".join(sorted(_trainers))
        raise TrainingError(f"There is no trainer {name!r}. Known trainers: {known}.") from None
