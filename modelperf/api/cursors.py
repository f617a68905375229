"""Pages by key: `next` continues after the last row, whatever was added meanwhile.

A cursor is the last row's sort values, so a forged one is a request like any other: its values
are read with the types of their columns, and every filter still applies.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec
from django.db.models import Q, QuerySet
from msgspec import Struct
from rest_framework.request import Request

from modelperf.api.filters import Filtered, filtered
from modelperf.api.parameters import in_utc, invalid
from modelperf.services.errors import FieldError, InvalidError

Row = TypeVar("Row")


class Page(Struct, Generic[Row]):
    """Rows, and the address of the rows after them, null at the end."""

    results: list[Row]
    next: str | None


class Paged(Filtered, Protocol):
    """The parameters of every list."""

    cursor: str | None
    limit: int


@dataclass(frozen=True)
class Order:
    """What a list is sorted by: columns, `-` before descending ones, and their types."""

    names: tuple[str, ...]
    types: tuple[Any, ...]

    @property
    def columns(self) -> list[str]:
        """The columns' names alone."""
        return [name.removeprefix("-") for name in self.names]

    def after(self, found: QuerySet[Any], cursor: str | None) -> QuerySet[Any]:
        """Return the sorted rows, those after the cursor where one is given."""
        found = found.order_by(*self.names)
        return found.filter(self._condition(self.values(cursor))) if cursor else found

    def cursor(self, row: dict[str, Any]) -> str:
        """Return the cursor that continues after the row."""
        values = [row[column] for column in self.columns]
        return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")

    def values(self, cursor: str) -> tuple[Any, ...]:
        """Return the sort values in a cursor; refuse one that is not of this list."""
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
            values = msgspec.json.decode(text, type=tuple[self.types])  # type: ignore[name-defined]
            return tuple(_storable(value) for value in values)
        except (ValueError, RecursionError):
            raise _forged() from None

    def _condition(self, values: tuple[Any, ...]) -> Q:
        beyond, equal = Q(), Q()
        for name, column, value in zip(self.names, self.columns, values, strict=True):
            comparison = "lt" if name.startswith("-") else "gt"
            beyond |= equal & Q(**{f"{column}__{comparison}": value})
            equal &= Q(**{column: value})
        return beyond


BY_ID: Final = Order(("-id",), (uuid.UUID,))


def _storable(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValueError
    if isinstance(value, int) and abs(value) >= 2**31:
        raise ValueError
    return in_utc(value) if isinstance(value, datetime) else value


def _forged() -> InvalidError:
    msg = "This is not a cursor of this list."
    return invalid([FieldError(("query", "cursor"), msg, "value_error")])


def page(
    request: Request, found: QuerySet[Any], kind: type[Struct], *, order: Order, given: Paged
) -> tuple[list[dict[str, Any]], str | None]:
    """Return a page of the rows asked for, and the address of the next: one statement."""
    fields = kind.__struct_fields__
    sorting = [column for column in order.columns if column not in fields]
    found = order.after(filtered(found, given), given.cursor).values(*fields, *sorting)
    rows = list(found[: given.limit + 1])
    link = None
    if len(rows) > given.limit:
        rows.pop()
        link = next_address(request, order.cursor(rows[-1]))
    for row in rows if sorting else ():
        for column in sorting:
            del row[column]
    return renamed(rows, kind), link


def renamed(rows: list[dict[str, Any]], kind: type[Struct]) -> list[dict[str, Any]]:
    """Return rows under the names of the answer, where those are not the columns'."""
    names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
    others = [(column, name) for column, name in names if column != name]
    for row in rows if others else ():
        for column, name in others:
            row[name] = row.pop(column)
    return rows


def next_address(request: Request, cursor: str) -> str:
    """Return the address of the page after the cursor."""
    return f"{request.path}?{urlencode(request.query_params.dict() | {'cursor': cursor})}"
