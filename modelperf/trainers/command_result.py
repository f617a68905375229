"""What a command answers: one JSON file, read as strictly as the API reads a body."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from modelperf.trainers.base import TrainedModel, TrainingError

MOST_BYTES: Final = 16 * 1024 * 1024
DEEPEST: Final = 64
# What `services/metrics_rows.py` lets a metric be called.
_METRIC_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:%/@ -]{0,99}")


class Result(Struct, forbid_unknown_fields=True):
    """What the file holds."""

    artefact: dict[str, Any]
    feature_names: list[Annotated[str, Meta(min_length=1, max_length=200)]]
    training_metrics: dict[str, Any]
    validation_metrics: dict[str, Any]
    training_samples: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None
    hyperparameters: dict[str, Any] | None = None
    reference_profiles: list[dict[str, Any]] = []


def read(path: Path, *, hyperparameters: Mapping[str, Any], log: str) -> TrainedModel:
    """Return what a result file says was trained.

    Raises
    ------
    TrainingError
        There is none, or it is wrong; the sentence says what.
    """
    value = _decoded(_content(path))
    _refuse_unstorable(value)
    try:
        result = msgspec.convert(value, Result)
    except msgspec.ValidationError as error:
        raise TrainingError(f"The result: {error}.") from None
    given = result.hyperparameters
    return TrainedModel(
        artefact=result.artefact,
        feature_names=tuple(result.feature_names),
        hyperparameters=dict(hyperparameters) if given is None else given,
        training_metrics=_metrics("training_metrics", result.training_metrics),
        validation_metrics=_metrics("validation_metrics", result.validation_metrics),
        training_samples=result.training_samples,
        reference_profiles=tuple(result.reference_profiles),
        log=log,
    )


def _content(path: Path) -> bytes:
    """Return what the file holds; what is no plain file, a link included, is not opened."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise TrainingError("The result is no file.")
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise TrainingError("The command ended well and wrote no result.") from None
    except OSError as error:
        raise TrainingError(f"The result cannot be read: {error.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise TrainingError(f"The result is larger than {MOST_BYTES:,} bytes.")
    return content


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content.decode(), object_pairs_hook=_members)
    except UnicodeDecodeError:
        raise TrainingError("The result is not UTF-8.") from None
    except RecursionError:
        raise TrainingError(_TOO_DEEP) from None
    except ValueError as error:
        raise TrainingError(f"The result is not JSON: {error}.") from None


_TOO_DEEP: Final = f"The result is nested deeper than {DEEPEST} levels."


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TrainingError(f"The result gives {twice!r} twice.")
    return members


def _refuse_unstorable(value: Any) -> None:
    """Refuse what neither JSON nor PostgreSQL can hold, saying where it is."""
    for path, one in _leaves(value, ()):
        if isinstance(one, float) and not math.isfinite(one):
            raise TrainingError(f"The result's {_said(path)} is not a finite number.")
        if isinstance(one, str) and not _is_storable(one):
            raise TrainingError(f"The result's {_said(path)} has a character that is no text.")


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(path) > DEEPEST:
        raise TrainingError(_TOO_DEEP)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield path, name
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(place)))
    else:
        yield path, value


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _metrics(field: str, given: Mapping[str, Any]) -> dict[str, float]:
    for name, value in given.items():
        if not _METRIC_NAME.fullmatch(name):
            raise TrainingError(
                f"The result's {field} has a metric {name[:100]!r}: a name is a letter, then up to"
                " 99 plain characters."
            )
        if type(value) not in {int, float} or abs(value) > _LARGEST:
            raise TrainingError(f"The result's {_said((field, name))} is not a finite number.")
    return {name: float(value) for name, value in given.items()}


_LARGEST: Final = 1.7e308  # the range of doubles; a whole number in JSON may lie beyond


def _said(path: tuple[str, ...]) -> str:
    return ".".join(path)[:200] or "value"
