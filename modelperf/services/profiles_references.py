"""References that come with a trained version: documents as `POST profiles/record` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from modelperf.models import ModelVersion
from modelperf.services import profiles
from modelperf.services.errors import FieldError, InvalidError
from modelperf.services.profiles import Window
from modelperf.services.profiles_columns import Column, Counts, DataError, of_json
from modelperf.stats.profiles import Reference

FIELD = "reference_profiles"
Value = int | float | str | bool | None
Names = str | list[str]
Count = Annotated[int, Meta(ge=0, le=2**40)]
Time = Annotated[datetime, Meta(tz=True)]


class Counted(Struct, forbid_unknown_fields=True):
    """Values of a column, and how often each occurs."""

    values: Annotated[list[int | float | str | bool], Meta(max_length=2048)]
    counts: Annotated[list[Count], Meta(max_length=2048)]
    missing: Count = 0

    def read(self, name: str) -> Counts:
        """Return the counts of the column of this name."""
        if len(self.values) != len(self.counts):
            raise DataError(f"{name} has as many counts as values.")
        kinds = {str if isinstance(value, str) else type(value) for value in self.values}
        values = [str(one).lower() if isinstance(one, bool) else one for one in self.values]
        if len(set(values)) < len(values) or (str in kinds and len(kinds) > 1):
            raise DataError(f"{name} names a value twice, or both text and numbers.")
        return Counts(dict(zip(values, self.counts, strict=True)), self.missing)


class _Document(Struct, forbid_unknown_fields=True):
    columns: dict[str, list[Value]] = {}
    counts: dict[str, Counted] = {}
    predictions: Names = ""
    targets: Names = ""
    categorical: Names = ""
    window_start: Time | None = None
    window_end: Time | None = None
    role: Literal["reference"] = "reference"


@dataclass(frozen=True, slots=True)
class MadeReferences:
    """References that are made and not stored yet, with the window that they are of."""

    references: Mapping[str, Reference]
    roles: Mapping[str, str]
    window: Window


def made(documents: Sequence[Mapping[str, Any]], *, window: Window) -> list[MadeReferences]:
    """Make the references of a version that was trained on a window, unless they name their own.

    Raises
    ------
    InvalidError
        A document holds no columns that can be a reference, or two hold the same.
    """
    found = [_numbered(number, one, window) for number, one in enumerate(documents)]
    seen: set[str] = set()
    for number, one in enumerate(found):
        if twice := sorted(seen.intersection(one.references)):
            raise _wrong(number, f"{twice[0]} has a reference already.")
        seen.update(one.references)
    return found


def record(*, model: ModelVersion, made: Sequence[MadeReferences], by: str) -> None:
    """Store what was made as the references of a version."""
    for number, one in enumerate(made):
        try:
            profiles.record_references(
                model=model, references=one.references, roles=one.roles, window=one.window, by=by
            )
        except InvalidError as error:
            raise _wrong(number, error.detail) from error


def _numbered(number: int, document: Mapping[str, Any], window: Window) -> MadeReferences:
    try:
        return _made(msgspec.convert(document, _Document), window)
    except (msgspec.ValidationError, DataError) as error:
        raise _wrong(number, f"{str(error).rstrip('.')}.") from None
    except InvalidError as error:
        raise _wrong(number, error.detail) from error


def _made(given: _Document, window: Window) -> MadeReferences:
    predictions, targets = names_in(given.predictions), names_in(given.targets)
    if twice := sorted(set(predictions) & set(targets)):
        raise DataError(f"{twice[0]} is a prediction or a target, not both.")
    roles = dict.fromkeys(predictions, "prediction") | dict.fromkeys(targets, "target")
    references = profiles.references_of(
        columns=_columns(given), roles=roles, categorical=names_in(given.categorical)
    )
    return MadeReferences(references, roles, _window(given) or window)


def _columns(given: _Document) -> dict[str, Column | Counts]:
    if bool(given.columns) == bool(given.counts):
        raise DataError("Send either columns or counts.")
    if len({len(values) for values in given.columns.values()}) > 1:
        raise DataError("The columns of a window have the same length.")
    counted: dict[str, Column | Counts] = {n: one.read(n) for n, one in given.counts.items()}
    return counted or {name: of_json(name, values) for name, values in given.columns.items()}


def _window(given: _Document) -> Window | None:
    if (given.window_start is None) != (given.window_end is None):
        raise DataError("A window has a start and an end.")
    if given.window_start is None or given.window_end is None:
        return None
    return given.window_start, given.window_end


def names_in(given: Names) -> list[str]:
    """Return names, which text separates by commas."""
    if isinstance(given, str):
        return [name.strip() for name in given.split(",") if name.strip()]
    return given


def _wrong(number: int, msg: str) -> InvalidError:
    return InvalidError(f"{FIELD}: {msg}", [FieldError(("body", FIELD, number), msg)])
