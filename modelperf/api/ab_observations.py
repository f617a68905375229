"""Bodies of observations: a good batch is read in one go, another row by row for its errors."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from modelperf.api import parameters
from modelperf.services.ab_tests_observations import LARGEST_BATCH, Observation
from modelperf.services.errors import FieldError, InvalidError

_MOST_ERRORS: Final = 100


def observations_of(body: Any) -> list[Observation]:
    """Return the observations of a body; raise InvalidError naming rows and parameters."""
    if not isinstance(body, list) or not 1 <= len(body) <= LARGEST_BATCH:
        msg = f"A JSON array of 1 to {LARGEST_BATCH} observations is expected."
        raise parameters.invalid([FieldError(("body",), msg, "type_error")])
    try:
        return msgspec.convert(body, list[Observation])
    except ValueError:
        return _read_each(body)


def _read_each(rows: list[Any]) -> list[Observation]:
    errors: list[FieldError] = []
    read: list[Observation] = []
    for number, row in enumerate(rows):
        try:
            read.append(parameters.read(Observation, body=row, row=(number,)))
        except InvalidError as error:
            errors += error.errors
        if len(errors) >= _MOST_ERRORS:
            break
    if errors:
        raise parameters.invalid(errors[:_MOST_ERRORS])
    return read
