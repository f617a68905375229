"""Columns as they are profiled: numbers with NaN for missing ones, or categories with None.

Nothing here needs Django: workers of a cluster import it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.float64]
Categories: TypeAlias = NDArray[np.object_]


# What stands for a missing number; a missing category is an empty field only, for NA is a name.
MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none"})


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A column of CSV, of which a reference says whether it holds numbers."""

    values: Categories

    def numbers(self, name: str) -> Numbers:
        """Return it as numbers, NaN where it says that one is missing."""
        self._refuse_python_numbers(name)
        try:
            return self.values.astype(np.float64)  # the quick way, where nothing is missing
        except ValueError:
            pass
        try:
            read = (float(text) if text.lower() not in MISSING else np.nan for text in self.values)
            return np.fromiter(read, np.float64, len(self.values))
        except ValueError as error:
            raise DataError(f"{name} does not hold numbers everywhere: {error}.") from None

    def _refuse_python_numbers(self, name: str) -> None:
        """Refuse what Python takes for numbers and nobody else does, such as 1_000."""
        together = "".join(self.values)
        if "_" in together or not together.isascii():
            odd = next(text for text in self.values if "_" in text or not text.isascii())
            raise DataError(f"{name} does not hold numbers everywhere: {odd[:80]!r}.")

    def categories(self) -> Categories:
        """Return it as categories, None where the field is empty."""
        found = self.values.copy()
        found[found == ""] = None
        return found


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each value of a column occurs, where somebody else has counted."""

    of: Mapping[float | str, int]
    missing: int = 0

    def categories(self) -> Mapping[str, int]:
        """Return the counts of the values as categories."""
        found: dict[str, int] = {}
        for value, count in self.of.items():
            label = value if isinstance(value, str) else _text(float(value))
            found[label or ""] = found.get(label or "", 0) + count
        return found


Column: TypeAlias = Numbers | Categories | Text


class DataError(ValueError):
    """Data that cannot be profiled; the text is a sentence for whoever sent it."""


def texts(values: Iterable[str | None]) -> Categories:
    """Return text as an array of objects."""
    held = list(values)
    found = np.empty(len(held), dtype=object)
    found[:] = held
    return found


def of_json(name: str, values: Sequence[Any]) -> Column:
    """Return a JSON array as a column: numbers, text or truth values, each with nulls."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {int, float}:
        return _numbers(name, values)
    if kinds == {str}:
        return texts(values)
    if kinds == {bool}:
        return texts(None if value is None else str(value).lower() for value in values)
    raise DataError(f"{name} holds either numbers, or text, or true and false; and null.")


def _numbers(name: str, values: Sequence[Any]) -> Numbers:
    try:
        return np.array(values, dtype=np.float64)  # null becomes NaN
    except OverflowError:
        raise DataError(f"{name} holds a number that is too large.") from None


def natural(name: str, column: Column) -> Numbers | Categories:
    """Return a column as what it is; text of CSV as numbers where all of it is."""
    if not isinstance(column, Text):
        return column
    try:
        return column.numbers(name)
    except DataError:
        return column.categories()


def fitted(name: str, column: Column, *, is_categorical: bool) -> Numbers | Categories:
    """Return a column as its reference has it."""
    if is_categorical:
        return as_categories(column)
    if isinstance(column, Text):
        return column.numbers(name)
    if column.dtype == object:
        if any(value is not None for value in column):
            raise DataError(f"{name} holds numbers in its reference, and text here.")
        return np.full(len(column), np.nan)
    return column


def as_categories(column: Column) -> Categories:
    """Return a column as categories: whole numbers as text without a point."""
    if isinstance(column, Text):
        return column.categories()
    if column.dtype == object:
        return cast("Categories", column)
    different, places = np.unique(column, return_inverse=True)
    return texts(map(_text, different.tolist()))[places]


def _text(number: float) -> str | None:
    if np.isnan(number):
        return None
    return str(int(number)) if number.is_integer() else repr(number)
