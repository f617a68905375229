"""Reads a call's parameters into its struct, from the query string, from the JSON body, or both.

Every error is found and told with its place. Values of a query string are text, so numbers and
truth values are read from text there; in JSON they must be what they say.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
from django.http import QueryDict
from msgspec import Meta, Struct, structs

from modelperf.models.registry import MODEL_TYPE_LENGTH, MODEL_TYPE_PATTERN
from modelperf.services.errors import FieldError, InvalidError

Given = TypeVar("Given", bound=Struct)
Place = tuple[str | int, ...]

# The kinds of value that parameters have in common.
ModelType = Annotated[str, Meta(pattern=MODEL_TYPE_PATTERN, max_length=MODEL_TYPE_LENGTH)]
Time = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset.")]
Instant = Annotated[datetime, Meta(tz=True)]  # what is answered, always in UTC
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Notes = Annotated[str, Meta(max_length=10_000)]
Limit = Annotated[int, Meta(ge=1, le=1000, description="Rows of a page.")]
Cursor = Annotated[str, Meta(max_length=1000, description="From the `next` of the page before.")]

# PostgreSQL and sums with durations both stay clear of their ends.
_YEARS: Final = range(1900, 2200)
# The plus sign of an offset that was not percent-encoded arrives as a blank.
_BARE_OFFSET: Final = re.compile(r" (?=\d\d:\d\d$)")
# msgspec names the place within the value; the error has the parameter's name instead.
_PATH_IN_VALUE: Final = re.compile(r" - at `[^`]*`$")
_NUMBERS: Final = (msgspec.inspect.IntType, msgspec.inspect.FloatType, msgspec.inspect.BoolType)


class _Parameter(NamedTuple):
    type: Any
    is_number: bool
    is_required: bool
    choices: tuple[str, ...]


def read(
    kind: type[Given], *, query: Mapping[str, str] | None = None, body: Any = None, row: Place = ()
) -> Given:
    """Return the struct; raise InvalidError naming each value that is wrong, missing or unknown.

    `row` is the place of the body in a larger one. Parameters that are missing are told to be so
    in the query string where no body was sent.
    """
    errors: list[FieldError] = []
    asked = _values(kind, query or {}, ("query",), errors)
    sent = _values(kind, _as_object(body, row), ("body", *row), errors)
    errors += _disagreements(asked, sent, ("body", *row))
    place = ("body", *row) if body is not None or query is None else ("query",)
    errors += _missing(kind, {*(query or {}), *(body or {})}, place)
    if errors:
        raise invalid(errors)
    return kind(**(sent | asked))


def once(query: QueryDict) -> dict[str, str]:
    """Return the parameters of a query string, none of which may be given twice."""
    twice = [name for name, values in query.lists() if len(values) > 1]
    if twice:
        msg = "The parameter is given twice."
        raise invalid([FieldError(("query", name), msg, "duplicate") for name in twice])
    return {name: str(value) for name, value in query.items()}


def in_path(name: str, text: str) -> Any:
    """Return a parameter that is part of the path: a uuid, or the model type it is called."""
    try:
        return msgspec.convert(text, ModelType if name == "model_type" else uuid.UUID)
    except msgspec.ValidationError as error:
        raise invalid([FieldError(("path", name), f"{error}.", "value_error")]) from None


def invalid(errors: list[FieldError]) -> InvalidError:
    """Return one error whose sentence is the first of several."""
    first = errors[0]
    place = ".".join(map(str, first.loc))
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidError(f"{place}: {first.msg}{more}", errors)


@lru_cache
def parameters(kind: type[Struct]) -> dict[str, _Parameter]:
    """Return a struct's parameters by name."""
    return {
        field.name: _Parameter(
            field.type, _is_number(field.type), field.required, _choices(field.type)
        )
        for field in structs.fields(kind)
    }


def _is_number(kind: Any) -> bool:
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    choices = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    return any(isinstance(choice, _NUMBERS) for choice in choices)


def _choices(kind: Any) -> tuple[str, ...]:
    """Return the values among which a parameter, or each of its items, is one; else nothing."""
    pending, found = [msgspec.inspect.type_info(kind)], list[str]()
    while pending:
        match pending.pop():
            case msgspec.inspect.Metadata(type=inner):
                pending.append(inner)
            case msgspec.inspect.ListType(item_type=inner):
                pending.append(inner)
            case msgspec.inspect.UnionType(types=several):
                pending += several
            case msgspec.inspect.LiteralType(values=values):
                found += map(str, values)
            case msgspec.inspect.EnumType(cls=cls):
                found += [str(one.value) for one in cls]
    return tuple(found)


def _one_of(error: ValueError, choices: tuple[str, ...]) -> str:
    is_told = choices and str(error).startswith("Invalid enum value")
    return f" Send one of {', '.join(choices)}." if is_told else ""


def _as_object(body: Any, row: Place) -> dict[str, Any]:
    if body is None or isinstance(body, dict):
        return body or {}
    raise invalid([FieldError(("body", *row), "A JSON object is expected.", "type_error")])


def _values(
    kind: type[Struct], given: Mapping[str, Any], place: Place, errors: list[FieldError]
) -> dict[str, Any]:
    known, values = parameters(kind), {}
    for name, raw in given.items():
        if name not in known:
            errors.append(FieldError((*place, name), "There is no such parameter.", "unknown"))
            continue
        try:
            values[name] = _converted(raw, known[name], is_text=place == ("query",))
        except ValueError as error:
            at_fault = _metric_at_fault(raw) if name == "metrics" else None
            msg = _PATH_IN_VALUE.sub("", str(error)) + "." + _one_of(error, known[name].choices)
            errors.append(FieldError((*place, at_fault or name), msg, "value_error"))
    return values


def _converted(raw: Any, parameter: _Parameter, *, is_text: bool) -> Any:
    if is_text:
        if "\0" in raw:
            raise ValueError("The text contains a NUL character")
        raw = _BARE_OFFSET.sub("+", raw)
    strict = not (is_text and parameter.is_number)
    value = msgspec.convert(raw, parameter.type, strict=strict)
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("The number is not finite")
    return in_utc(value) if isinstance(value, datetime) else value


def in_utc(time: datetime) -> datetime:
    """Return the same instant in UTC; refuse one without an offset or of another age."""
    if time.tzinfo is None:
        raise ValueError("The time needs an offset, for instance Z")
    if time.year not in _YEARS:
        raise ValueError(f"The year is not in {_YEARS.start} to {_YEARS.stop - 1}")
    return time.astimezone(UTC)


def _metric_at_fault(metrics: Any) -> str | None:
    members = metrics.items() if isinstance(metrics, dict) else ()
    return next((name for name, value in members if not is_metric_value(value)), None)


def is_metric_value(value: Any) -> bool:
    """Whether JSON gave a number that a double can hold."""
    try:
        return type(value) in (int, float) and isfinite(value)
    except OverflowError:
        return False


def _disagreements(asked: dict[str, Any], sent: dict[str, Any], place: Place) -> list[FieldError]:
    msg = "The query string and the body disagree."
    return [
        FieldError((*place, name), msg, "disagreement")
        for name, value in sent.items()
        if value is not None and name in asked and asked[name] != value
    ]


def _missing(kind: type[Struct], given: set[str], place: Place) -> list[FieldError]:
    return [
        FieldError((*place, name), "This is required.", "missing")
        for name, parameter in parameters(kind).items()
        if parameter.is_required and name not in given
    ]
