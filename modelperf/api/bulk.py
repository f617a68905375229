"""Bodies of recordings: bare metrics beside the parameters, and batches of a thousand rows.

A good batch is converted in one go; only a batch with something wrong is read again row by row
for the places of its errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from modelperf.api import parameters
from modelperf.api.parameters import Place, in_utc
from modelperf.api.parsers import Lines
from modelperf.services.errors import FieldError, InvalidError
from modelperf.services.metrics import LARGEST_BATCH, Evaluation

# What an evaluation calls its own is never taken for a metric.
PARAMETERS: Final = frozenset(Evaluation.__struct_fields__)
_MOST_ERRORS: Final = 100


def gathered(body: Any, row: Place = ()) -> Any:
    """Move a body's bare `{name: number}` to where the others are, `metrics`; return the body."""
    bare = body.keys() - PARAMETERS if isinstance(body, dict) else ()
    under = (body.get("metrics") or {}) if bare else {}
    if not bare or not isinstance(under, dict):
        return body
    if twice := sorted(name for name in bare & under.keys() if body[name] != under[name]):
        msg = "The body gives this metric two values."
        raise parameters.invalid(
            [FieldError(("body", *row, n), msg, "disagreement") for n in twice]
        )
    body["metrics"] = under | {name: body.pop(name) for name in bare}
    return body


def evaluations_of(body: Any) -> list[Evaluation]:
    """Return the evaluations of a batch; raise InvalidError naming rows and parameters."""
    if not isinstance(body, list) or not 1 <= len(body) <= LARGEST_BATCH:
        msg = f"1 to {LARGEST_BATCH} evaluations are expected, in a JSON array or one a line."
        raise parameters.invalid([FieldError(("body",), msg, "type_error")])
    rows = [gathered(row, (number,)) for number, row in enumerate(body)]
    try:
        evaluations = msgspec.convert(rows, list[Evaluation])
        _check_times(evaluations)
    except ValueError:
        return _read_each(rows)
    return evaluations


@contextmanager
def lines_named(body: Any) -> Iterator[None]:
    """Tell the lines of errors where the evaluations came one a line."""
    try:
        yield
    except InvalidError as error:
        if not isinstance(body, Lines) or not error.errors:
            raise
        raise parameters.invalid([body.named(one) for one in error.errors]) from None


def _check_times(evaluations: list[Evaluation]) -> None:
    for evaluation in evaluations:
        in_utc(evaluation.evaluation_start)
        in_utc(evaluation.evaluation_end)
        if evaluation.evaluation_date is not None:
            in_utc(evaluation.evaluation_date)


def _read_each(rows: list[Any]) -> list[Evaluation]:
    evaluations: list[Evaluation] = []
    errors: list[FieldError] = []
    for number, row in enumerate(rows):
        try:
            evaluations.append(parameters.read(Evaluation, body=row, row=(number,)))
        except InvalidError as error:
            errors += error.errors
        if len(errors) >= _MOST_ERRORS:
            break
    if errors:
        raise parameters.invalid(errors[:_MOST_ERRORS])
    return evaluations
