"""Where the readings of a training come from: a document names a kind of source and its settings.

The kinds that come with modelperf are `query`, `files` and `url`; any room may register more.
"""

from __future__ import annotations

import re
import uuid
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelperf.trainers.base import Kinds, Settings, TrainedMachine, TrainingError

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose readings are wanted, in [start, end)."""

    machine: TrainedMachine
    model_type: str
    start: datetime
    end: datetime

    @property
    def values(self) -> dict[str, uuid.UUID | str | datetime]:
        """What placeholders stand for."""
        return {
            "machine_id": self.machine.id,
            "machine_name": self.machine.name,
            "model_type": self.model_type,
            "start": self.start,
            "end": self.end,
        }


PLACEHOLDERS: Final = ("machine_id", "machine_name", "model_type", "start", "end")


class Source(Settings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one kind of source."""

    @abstractmethod
    def read(self, asked: Asked) -> Readings:
        """Return the readings that are asked for."""


_kinds: Final = Kinds[Source]("training source")
register = _kinds.register
find = _kinds.find


def read(document: Mapping[str, Any], asked: Asked) -> Readings:
    """Return the readings in [start, end) that a document's source holds."""
    readings = find(document).read(asked)
    if not len(readings):
        raise TrainingError(
            f"The training source ({document['kind']}) holds no readings of {asked.machine.name}"
            f" from {asked.start:%Y-%m-%d} to {asked.end:%Y-%m-%d}."
        )
    return readings


def refuse_unknown_placeholders(
    template: str, known: Collection[str] = PLACEHOLDERS, *, of: str = "training source"
) -> None:
    """Refuse a template with a placeholder that stands for nothing."""
    for name in _PLACEHOLDER.findall(template):
        if name not in known:
            there = ", ".join(f"{{{one}}}" for one in known)
            raise TrainingError(f"The {of} knows no {{{name}}}, only {there}.")


def filled(template: str, texts: Mapping[str, str]) -> str:
    """Return a template with its placeholders replaced, all at once."""
    return _PLACEHOLDER.sub(lambda found: texts[found[1]], template)
