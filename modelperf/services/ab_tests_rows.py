"""What the observations of an A/B test say: their fold and its looks, kept beside the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import numpy as np

from modelperf.models import ABLook, ABObservation, ABRowState, ABTest
from modelperf.stats.evidence import Evidence
from modelperf.stats.row_fold import Form, Look, RowFold, RowRules, begin
from modelperf.stats.row_losses import evidence, look_at_end, observe

_CHUNK: Final = 20_000
_SEEN: Final = tuple(Look.__dataclass_fields__)
_FORMS: Final[dict[str, Form]] = {"pairs": "pairs", "arms": "arms"}

Row = tuple[float | None, float | None, datetime]
Seen = list[tuple[Look, datetime]]


def rules_of(test: ABTest) -> RowRules:
    """Return what the rows of a test are judged by."""
    return RowRules(confidence_level=test.confidence_level, margin=test.margin)


def begun(test: ABTest, form: str) -> ABRowState:
    """Return the state of a test before its first observation."""
    return ABRowState(test=test, form=form, fold=begin(_FORMS[form]).document())


def follow(test: ABTest, state: ABRowState, rows: Sequence[Row]) -> None:
    """Fold rows that were just stored into the state, and store it with its new looks."""
    if not rows:
        return
    fold, seen = _folded(test, RowFold.of_document(state.fold), rows)
    _store(state, fold, rows[-1][2])
    ABLook.objects.bulk_create([_stored(test, look, at) for look, at in seen])


def replay(test: ABTest, state: ABRowState) -> None:
    """Fold all rows anew, in the order in which they were first observed."""
    fold, seen, last = begin(_FORMS[state.form]), [], state.changed_at
    for rows in _stored_rows(test):
        fold, more = _folded(test, fold, rows)
        seen += more
        last = rows[-1][2]
    _store(state, fold, last)
    ABLook.objects.filter(test=test).delete()
    ABLook.objects.bulk_create([_stored(test, look, at) for look, at in seen])


def weigh(test: ABTest, state: ABRowState, *, ended_at: datetime | None) -> tuple[Evidence, Seen]:
    """Return what the looks so far say; at the end of a test with a look at all of its rows."""
    fold, rules = RowFold.of_document(state.fold), rules_of(test)
    seen = [(_look(row), row.looked_at) for row in ABLook.objects.filter(test=test)]
    if ended_at is not None:
        fold, more = look_at_end(fold, rules=rules, counts=ended_at >= _counts_from(test))
        seen += [(look, ended_at) for look in more]
    return evidence(fold, [look for look, _ in seen], rules=rules), seen


def standing(test: ABTest, state: ABRowState) -> Evidence:
    """Return where the rows stand, without the looks on the way."""
    return evidence(RowFold.of_document(state.fold), [], rules=rules_of(test))


def _folded(test: ABTest, fold: RowFold, rows: Sequence[Row]) -> tuple[RowFold, Seen]:
    """Fold rows, of which those before the test's minimum duration decide nothing."""
    seen: Seen = []
    early = sum(at < _counts_from(test) for _, _, at in rows)
    for part, counts in ((rows[:early], False), (rows[early:], True)):
        before = fold.rows
        a, b = (np.array([row[arm] for row in part], dtype=np.float64) for arm in (0, 1))
        fold, looks = observe(fold, a, b, rules=rules_of(test), counts=counts)
        seen += [(look, part[look.rows - before - 1][2]) for look in looks]
    return fold, seen


def _counts_from(test: ABTest) -> datetime:
    return test.test_start + timedelta(seconds=test.min_duration_seconds)


def _stored_rows(test: ABTest) -> Iterator[list[Row]]:
    found = ABObservation.objects.filter(test=test).order_by("id")
    rows = found.values_list("loss_a", "loss_b", "observed_at").iterator(chunk_size=_CHUNK)
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk


def _store(state: ABRowState, fold: RowFold, at: datetime) -> None:
    state.fold = fold.document()
    state.rows_a = fold.a.n
    state.rows_b = fold.n if fold.form == "pairs" else fold.b.n
    state.changed_at = at
    state.save()


def _stored(test: ABTest, look: Look, at: datetime) -> ABLook:
    return ABLook(test=test, looked_at=at, **asdict(look))


def _look(row: ABLook) -> Look:
    seen: dict[str, Any] = {name: getattr(row, name) for name in _SEEN}
    return Look(**seen)
