"""What a trainer is asked, what it answers, and the kinds of trainers that exist, by name."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct


class TrainingError(Exception):
    """No model came of it; the text is a sentence that says why and what to set.

    `log` is what the trainer had put out until then.
    """

    def __init__(self, detail: str, *, log: str = "") -> None:
        super().__init__(detail)
        self.log = log


class UnavailableError(TrainingError):
    """Nobody could be asked just now: the run waits and is tried again."""


class NoLongerWantedError(TrainingError):
    """The run was cancelled, or is another worker's by now; what came of it is thrown away."""


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
    def id(self) -> uuid.UUID:
        """Its id."""
        ...

    @property
    def model_version(self) -> int:
        """Its number."""
        ...

    @property
    def artefact(self) -> dict[str, Any] | None:
        """What was trained."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Where somebody else who trains reports back, and the token that lets him."""

    url: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """A series to be trained on its data from `data_start` up to `data_end`, exclusive.

    `attempt` counts from 1; a run whose worker died is tried again under the same `run_id`.
    """

    run_id: uuid.UUID
    attempt: int = 1
    machine: TrainedMachine
    model_type: str
    source: Mapping[str, Any] | None
    data_start: datetime
    data_end: datetime
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    previous: PreviousVersion | None = None
    callback: Callback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """What came of a training: the artefact predicts, the validation metrics are out of sample.

    `reference_profiles` are the distributions of features that the model was trained on, as
    `POST profiles/record` takes them; `log` is what the trainer put out.
    """

    artefact: dict[str, Any]
    feature_names: tuple[str, ...]
    hyperparameters: dict[str, Any]
    training_metrics: dict[str, float]
    validation_metrics: dict[str, float]
    training_samples: int | None
    reference_profiles: tuple[dict[str, Any], ...] = ()
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """Somebody else trains, and reports back before the time is over."""

    timeout_seconds: float


class Watch(Protocol):
    """What a trainer tells while it is at work, and whether it shall go on."""

    def progress(self, percent: float | None, message: str) -> None:
        """Tell how far it is, from 0 to 100 where that is known, and what it does."""
        ...

    def is_wanted(self) -> bool:
        """Whether the run is still wanted; a trainer that sees it is not stops and raises."""
        ...


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one kind of something, as a policy holds them."""

    kind: ClassVar[str]

    def check(self) -> None:
        """Refuse settings that can never work, with a TrainingError that says what to set."""


Base = TypeVar("Base", bound=Settings)
Kind = TypeVar("Kind", bound=type[Settings])


class Kinds(Generic[Base]):
    """The kinds there are of something, by name."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._kinds: dict[str, type[Base]] = {}

    def register(self, name: str) -> Callable[[Kind], Kind]:
        """Make a kind known under a name."""

        def add(kind: Kind) -> Kind:
            kind.kind = name
            self._kinds[name] = kind  # type: ignore[assignment]  # a subclass of the base
            return kind

        return add

    def find(self, document: Mapping[str, Any]) -> Base:
        """Return what a document describes, checked.

        Raises
        ------
        TrainingError
            The document describes none; the text says what to write.
        """
        settings = dict(document)
        kind = self._kinds.get(str(settings.pop("kind", "")))
        if kind is None:
            known = ", ".join(f'"{name}"' for name in sorted(self._kinds))
            raise TrainingError(f"The kind of a {self._what} is one of {known}.")
        try:
            found = msgspec.convert(settings, kind)
        except msgspec.ValidationError as error:
            raise TrainingError(f"The {self._what}: {error}.") from None
        found.check()
        return found


class Trainer(Settings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One kind of trainer with its settings, as a policy holds them."""

    hyperparameters: dict[str, Any] = msgspec.field(default_factory=dict)

    @abstractmethod
    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel | HandedOver:
        """Train, or have it done."""


_kinds: Final = Kinds[Trainer]("trainer")
register = _kinds.register
find = _kinds.find

EXTERNAL: Final = "external"


@register(EXTERNAL)
class External(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whoever takes a pending run by himself, and reports by the API that it started and ended."""

    timeout_seconds: float = 7 * 86400.0

    def check(self) -> None:
        """Refuse a wait that never ends, or has before it began."""
        if not 60 <= self.timeout_seconds <= 366 * 86400:
            raise TrainingError("The trainer's timeout_seconds lie between 60 and a year.")

    def train(self, request: TrainingRequest, watch: Watch) -> HandedOver:
        """Leave it to them."""
        watch.progress(None, "Waits for somebody to take it.")
        return HandedOver(timeout_seconds=self.timeout_seconds)
