"""What the observations of an A/B test say: their fold and its looks, kept beside the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np

from modelperf.models import ABLook, ABRowState, ABTest
from modelperf.services.database import execute
from modelperf.stats.evidence import Evidence
from modelperf.stats.row_fold import Form, Look, RowFold, RowRules, begin
from modelperf.stats.row_losses import evidence, look_at_end, observe
from modelperf.stats.row_sums import Floats

_CHUNK: Final = 100_000
_READ: Final = """
    SELECT max(id), string_agg(
        float8send(coalesce(loss_a, 'NaN')) || float8send(coalesce(loss_b, 'NaN'))
            || float8send(extract(epoch FROM observed_at)::float8),
        '' ORDER BY id
    )
    FROM (
        SELECT id, loss_a, loss_b, observed_at FROM model_ab_observations
        WHERE test_id = %b AND id > %b ORDER BY id LIMIT %b
    ) AS chunk
"""
_SEEN: Final = tuple(Look.__dataclass_fields__)
_FORMS: Final[dict[str, Form]] = {"pairs": "pairs", "arms": "arms"}

Seen = list[tuple[Look, datetime]]


class Rows(NamedTuple):
    """Losses in order, NaN for the arm a row did not go to, and when each was observed."""

    loss_a: Floats
    loss_b: Floats
    at: Floats  # seconds since 1970


def rules_of(test: ABTest) -> RowRules:
    """Return what the rows of a test are judged by."""
    return RowRules(confidence_level=test.confidence_level, margin=test.margin)


def begun(test: ABTest, form: str) -> ABRowState:
    """Return the state of a test before its first observation."""
    return ABRowState(test=test, form=form, fold=begin(_FORMS[form]).document())


def follow(test: ABTest, state: ABRowState, rows: Rows) -> None:
    """Fold rows that were just stored into the state, and store it with its new looks."""
    if not rows.at.size:
        return
    fold, seen = _folded(test, RowFold.of_document(state.fold), rows)
    _store(state, fold, rows.at[-1])
    ABLook.objects.bulk_create([_stored(test, look, at) for look, at in seen])


def replay(test: ABTest, state: ABRowState) -> None:
    """Fold all rows anew, in the order in which they were first observed."""
    fold, seen, last = begin(_FORMS[state.form]), [], 0.0
    for rows in _stored_rows(test):
        fold, more = _folded(test, fold, rows)
        seen += more
        last = rows.at[-1]
    _store(state, fold, last)
    ABLook.objects.filter(test=test).delete()
    ABLook.objects.bulk_create([_stored(test, look, at) for look, at in seen])


def weigh(test: ABTest, state: ABRowState, *, ended_at: datetime | None) -> tuple[Evidence, Seen]:
    """Return what the looks so far say; at the end of a test with a look at all of its rows."""
    fold, rules = RowFold.of_document(state.fold), rules_of(test)
    seen = [(_look(row), row.looked_at) for row in ABLook.objects.filter(test=test)]
    if ended_at is not None:
        fold, more = look_at_end(fold, rules=rules, counts=ended_at >= test.counts_from)
        seen += [(look, ended_at) for look in more]
    return evidence(fold, [look for look, _ in seen], rules=rules), seen


def standing(test: ABTest, state: ABRowState) -> Evidence:
    """Return where the rows stand, without the looks on the way."""
    return evidence(RowFold.of_document(state.fold), [], rules=rules_of(test))


def _folded(test: ABTest, fold: RowFold, rows: Rows) -> tuple[RowFold, Seen]:
    """Fold rows, of which those before the test's minimum duration decide nothing."""
    seen: Seen = []
    early = int(np.searchsorted(rows.at, test.counts_from.timestamp()))
    for part, counts in ((slice(0, early), False), (slice(early, None), True)):
        before, at = fold.rows, rows.at[part]
        fold, looks = observe(
            fold, rows.loss_a[part], rows.loss_b[part], rules=rules_of(test), counts=counts
        )
        seen += [(look, _moment(at[look.rows - before - 1])) for look in looks]
    return fold, seen


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _stored_rows(test: ABTest) -> Iterator[Rows]:
    """Read the rows of a test in order, each chunk packed into one value by PostgreSQL."""
    last = 0
    while True:
        last, packed = next(execute(_READ, [test.pk, last, _CHUNK], binary=True))
        if packed is None:
            return
        yield Rows(*np.frombuffer(packed, dtype=">f8").reshape(-1, 3).T.astype(np.float64))


def _store(state: ABRowState, fold: RowFold, at: float) -> None:
    state.fold = fold.document()
    state.rows_a = fold.a.n
    state.rows_b = fold.n if fold.form == "pairs" else fold.b.n
    state.changed_at = _moment(at)
    state.save()


def _stored(test: ABTest, look: Look, at: datetime) -> ABLook:
    return ABLook(test=test, looked_at=at, **asdict(look))


def _look(row: ABLook) -> Look:
    seen: dict[str, Any] = {name: getattr(row, name) for name in _SEEN}
    return Look(**seen)
