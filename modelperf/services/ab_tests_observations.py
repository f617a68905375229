"""Observing row losses: stored once a unit, in order, and weighed as they come."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from django.db import transaction
from django.utils import timezone
from msgspec import Meta, Struct

from modelperf.models import ABRowState, ABTest
from modelperf.models.ab_observations import UNIT_LENGTH
from modelperf.services import ab_tests_rows
from modelperf.services.ab_tests_status import status_now
from modelperf.services.database import execute, repeated
from modelperf.services.errors import ConflictError, FieldError, InvalidError
from modelperf.stats.row_sums import LARGEST_LOSS

LARGEST_BATCH: Final = 5000
Loss = Annotated[float, Meta(ge=-LARGEST_LOSS, le=LARGEST_LOSS)]


class Observation(Struct, forbid_unknown_fields=True):
    """The losses of both versions on one unit, or the loss of the one it went to."""

    unit: Annotated[str, Meta(min_length=1, max_length=UNIT_LENGTH)]
    loss_a: Loss | None = None
    loss_b: Loss | None = None
    arm: Literal["model_a", "model_b"] | None = None
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What became of a batch, and where the test stands now."""

    test_id: uuid.UUID
    created: int
    unchanged: int
    revised: int
    rows_a: int
    rows_b: int
    outcome: str
    needed: int | None


class Losses(NamedTuple):
    """A unit with its losses; that of the arm it did not go to is None."""

    unit: str
    loss_a: float | None
    loss_b: float | None


def observe(*, test: ABTest, observations: Sequence[Observation], by: str) -> Observed:
    """Store the losses of units, all or nothing, and look at the test with them.

    The same unit again changes nothing; with other losses it is a revision, which keeps the old
    ones and weighs all rows anew in their first order.

    Raises
    ------
    InvalidError
        Rows of neither form or of both, or a unit with two values in one batch.
    ConflictError
        The test is over, has rows of the other form, or has seen a unit in the other arm.
    """
    form, rows = _rows(observations)
    return repeated(lambda: _observe(test, form, rows, by))


def _observe(test: ABTest, form: str, rows: dict[str, Losses], by: str) -> Observed:
    with transaction.atomic():
        locked = ABTest.objects.select_for_update().get(pk=test.pk)
        state = _state(locked, form)
        now = timezone.now()
        new = _insert(locked, rows, now)
        known = {unit: row for unit, row in rows.items() if unit not in new}
        revised = _revise(locked, known, by, now)
        if revised:
            ab_tests_rows.replay(locked, state)
        else:
            ab_tests_rows.follow(locked, state, _columns(rows, new, now))
    evidence = ab_tests_rows.standing(locked, state)
    return Observed(
        test_id=locked.pk,
        created=len(new),
        unchanged=len(known) - revised,
        revised=revised,
        rows_a=state.rows_a,
        rows_b=state.rows_b,
        outcome=evidence.outcome.value,
        needed=evidence.needed,
    )


def _columns(rows: dict[str, Losses], new: set[str], now: datetime) -> ab_tests_rows.Rows:
    added = [(row.loss_a, row.loss_b) for unit, row in rows.items() if unit in new]
    losses = np.array(added, dtype=np.float64).reshape(-1, 2)
    return ab_tests_rows.Rows(losses[:, 0], losses[:, 1], np.full(len(added), now.timestamp()))


def _state(test: ABTest, form: str) -> ABRowState:
    status = status_now(test)
    if status != ABTest.Status.RUNNING:
        msg = f"The test is {status}: it takes no more observations."
        raise ConflictError(msg, test_status=status)
    state = ABRowState.objects.filter(test=test).first() or ab_tests_rows.begun(test, form)
    if state.form != form:
        raise ConflictError(
            f"This test has observations of {state.form}: the two forms do not mix.",
            form=state.form,
        )
    return state


def _rows(observations: Sequence[Observation]) -> tuple[str, dict[str, Losses]]:
    """Return the one form of all rows, and the rows by unit in their order."""
    forms = [_form(row) for row in observations]
    form = next((form for form in forms if form), "pairs")
    rows: dict[str, Losses] = {}
    errors: list[FieldError] = []
    for number, row in enumerate(observations):
        if forms[number] != form:
            msg = "Give unit, loss_a and loss_b, or unit, arm and loss, in all rows alike."
            errors.append(FieldError(("body", number), msg, "value_error"))
        losses = _losses(row)
        if rows.setdefault(row.unit, losses) != losses:
            msg = "The body gives this unit two values."
            errors.append(FieldError(("body", number, "unit"), msg, "disagreement"))
    if errors:
        first = ".".join(map(str, errors[0].loc))
        raise InvalidError(f"{first}: {errors[0].msg}", errors[:100])
    return form, rows


def _form(row: Observation) -> str | None:
    pair = (row.loss_a is not None, row.loss_b is not None)
    arm = (row.arm is not None, row.loss is not None)
    if all(pair) and not any(arm):
        return "pairs"
    return "arms" if all(arm) and not any(pair) else None


def _losses(row: Observation) -> Losses:
    if row.arm is None:
        return Losses(row.unit, row.loss_a, row.loss_b)
    is_a = row.arm == "model_a"
    return Losses(row.unit, row.loss if is_a else None, None if is_a else row.loss)


def _insert(test: ABTest, rows: dict[str, Losses], now: datetime) -> set[str]:
    """Store the units that are new, numbered in their order; return them."""
    units, losses_a, losses_b = (list(column) for column in zip(*rows.values(), strict=True))
    stored = execute(
        """
        INSERT INTO model_ab_observations
            (test_id, unit, loss_a, loss_b, revision, replaced, observed_at)
        SELECT %b, unit, loss_a, loss_b, 1, '[]', %b
        FROM unnest(%b::text[], %b::float8[], %b::float8[])
            WITH ORDINALITY AS given (unit, loss_a, loss_b, place)
        ORDER BY place
        ON CONFLICT (test_id, unit) DO NOTHING RETURNING unit
        """,
        [test.pk, now, units, losses_a, losses_b],
    )
    return {unit for (unit,) in stored}


def _revise(test: ABTest, rows: dict[str, Losses], by: str, now: datetime) -> int:
    """Correct the known units whose losses differ, keeping the old ones; return their number."""
    if not rows:
        return 0
    found = execute(
        """
        SELECT unit, loss_a, loss_b FROM model_ab_observations
        WHERE test_id = %b AND unit = ANY(%b::text[])
        """,
        [test.pk, list(rows)],
    )
    held = {unit: Losses(unit, a, b) for unit, a, b in found}
    _refuse_other_arm(rows, held)
    changed = [row for unit, row in rows.items() if held[unit] != row]
    if not changed:
        return 0
    units, losses_a, losses_b = (list(column) for column in zip(*changed, strict=True))
    execute(
        """
        UPDATE model_ab_observations o
        SET loss_a = given.loss_a, loss_b = given.loss_b, revision = o.revision + 1,
            replaced = o.replaced || jsonb_build_object(
                'loss_a', o.loss_a, 'loss_b', o.loss_b, 'at', %b::timestamptz, 'by', %b::text
            )
        FROM unnest(%b::text[], %b::float8[], %b::float8[]) AS given (unit, loss_a, loss_b)
        WHERE o.test_id = %b AND o.unit = given.unit
        """,
        [now, by, units, losses_a, losses_b, test.pk],
    )
    return len(changed)


def _refuse_other_arm(rows: dict[str, Losses], held: dict[str, Losses]) -> None:
    for unit, row in rows.items():
        if (held[unit].loss_a is None) != (row.loss_a is None):
            arm = "model_b" if held[unit].loss_a is None else "model_a"
            raise ConflictError(f"Unit “{unit}” was observed in arm {arm}.", unit=unit, arm=arm)
