"""Where the readings of a training come from: a document names a kind of source and its settings.

The kinds that come with modelperf are `query`, `files` and `url`; any room may register more.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from modelperf.trainers.base import TrainedMachine, TrainingError

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


class Source(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one kind of source."""

    kind: ClassVar[str]

    def check(self) -> None:
        """Refuse settings that can never work, with a TrainingError that says what to set."""

    def read(self, asked: Asked) -> Readings:
        """Return the readings that are asked for."""
        raise NotImplementedError


Kind = TypeVar("Kind", bound=type[Source])
_kinds: dict[str, type[Source]] = {}


def register(name: str) -> Callable[[Kind], Kind]:
    """Make a kind of source known under a name."""

    def add(kind: Kind) -> Kind:
        kind.kind = name
        _kinds[name] = kind
        return kind

    return add


def find(document: Mapping[str, Any]) -> Source:
    """Return the source that a document describes, checked.

    Raises
    ------
    TrainingError
        The document describes none; the text says what to write.
    """
    settings = dict(document)
    kind = _kinds.get(str(settings.pop("kind", "")))
    if kind is None:
        known = ", ".join(f'"{name}"' for name in sorted(_kinds))
        raise TrainingError(f"The kind of a training source is one of {known}.")
    try:
        source = msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        raise TrainingError(f"The training source: {error}.") from None
    source.check()
    return source


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
