"""Explaining stored verdicts: from what is stored, everything that led to them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import msgspec
import numpy as np

from modelperf.models import StoredVerdict
from modelperf.services import drift_store
from modelperf.services.database import execute
from modelperf.services.drift_documents import Dates, verdict_document
from modelperf.services.drift_history import History
from modelperf.services.drift_judgement import DAY
from modelperf.services.drift_recommendation import recommendation
from modelperf.stats.explanation import explain as explain_numbers
from modelperf.stats.explanation import rules_from_document
from modelperf.stats.results import FoldState

_WHY: Final = {
    "opened": "An alert was opened.",
    "kept": "Its alert goes on.",
    "cleared": "Its alert was cleared.",
    "above_cut_off": "No alert: p has not been at or below the fleet's cut-off at two evaluations"
    " in a row.",
    "in_fleet_alert": "No alert of its own: a fleet alert is about what the machines share.",
    "resolved_by_person": "No alert: a person resolved it, and nothing has changed since.",
}
_NO_CONDITION: Final = "No alert: nothing is wrong."
_NOT_SERVING: Final = "No alert: only the active version of a series alerts."


@dataclass(frozen=True, slots=True)
class Explained:
    """A verdict with its inputs and the numbers in between; a plain document.

    `is_complete` tells whether the inputs are still those it was computed from, `is_reproduced`
    whether computing it once more gives the stored verdict.
    """

    document: dict[str, Any]
    is_complete: bool
    is_reproduced: bool


def explain(*, verdict: StoredVerdict) -> Explained:
    """Return how a stored verdict came about."""
    history = _stored(verdict) if verdict.inputs else _read(verdict)
    is_complete = drift_store.digest(history) == verdict.digest
    n_expected = verdict.last_position - verdict.first_position + 1
    document = {
        "inputs": drift_store.inputs_document(history),
        "rules": verdict.rules,
        "fold": verdict.fold,
        "first_position": verdict.first_position,
        "last_position": verdict.last_position,
        "why": _why(verdict),
        "sentence": recommendation(verdict.verdict),
        "numbers": None,
    }
    if len(history) != n_expected:
        return Explained(document, is_complete=False, is_reproduced=False)
    found = explain_numbers(
        history.values.tolist(),
        history.counts.tolist(),
        rules=rules_from_document(verdict.rules),
        fold=FoldState.from_document(verdict.fold),
        first_position=verdict.first_position,
        times_days=(history.ends / DAY).tolist(),
    )
    again = verdict_document(found.verdict, verdict.metric, Dates(history, verdict.verdict))
    _leave_out_what_was_not_kept(again, verdict.verdict)
    document["numbers"] = {
        "is_used": found.is_used.tolist(),
        "oriented": _plain(found.oriented),
        "weight": _plain(found.weight),
        "winsorised": _plain(found.winsorised),
        "is_clipped": found.is_clipped.tolist(),
        "statistic": _plain(found.statistic),
    }
    is_reproduced = msgspec.json.encode(again, order="sorted") == msgspec.json.encode(
        verdict.verdict, order="sorted"
    )
    return Explained(document, is_complete, is_reproduced=is_complete and is_reproduced)


def _leave_out_what_was_not_kept(again: dict[str, Any], stored: dict[str, Any]) -> None:
    """Leave out of conditions what verdicts did not say yet when one was stored."""
    for found, kept in zip(again["conditions"], stored["conditions"], strict=False):
        for name in found.keys() - kept.keys():
            del found[name]


def _why(verdict: StoredVerdict) -> list[str]:
    """Return, for each condition, why there is an alert or none."""
    decisions = verdict.alert.get("decisions", [])
    if decisions:
        return [_WHY.get(entry["decision"], entry["decision"]) for entry in decisions]
    return [_NOT_SERVING if verdict.verdict["conditions"] else _NO_CONDITION]


def _plain(values: Any) -> list[float | None]:
    return [value if isfinite(value) else None for value in values.tolist()]


def _stored(verdict: StoredVerdict) -> History:
    """Return the inputs that are kept with the verdict."""
    inputs = verdict.inputs or {}
    ids = b"".join(uuid.UUID(one).bytes for one in inputs["ids"])
    values = [np.nan if value is None else value for value in inputs["values"]]
    return History(
        np.array(values, float),
        np.array(inputs["sample_counts"], float),
        np.array(inputs["starts"], float),
        np.array(inputs["ends"], float),
        np.frombuffer(ids, "V16"),
        verdict.first_position,
    )


def _read(verdict: StoredVerdict) -> History:
    """Return the inputs as they stood when it was judged: corrections since are undone."""
    n = verdict.last_position - verdict.first_position + 1
    found = execute(
        _AS_JUDGED,
        [
            verdict.metric,
            verdict.judged_at,
            verdict.machine_id,
            verdict.model_type,
            verdict.model_id,
            verdict.last_evaluation_end,
            verdict.last_evaluation_start,
            verdict.judged_at,
            n,
        ],
        binary=True,
    )
    rows = found.fetchall()[::-1]
    ids, values, counts, starts, ends = zip(*rows, strict=True) if rows else [()] * 5
    return History(
        np.array([np.nan if value is None else value for value in values], float),
        np.array(counts, float),
        np.array(starts, float),
        np.array(ends, float),
        np.frombuffer(b"".join(one.bytes for one in ids), "V16"),
        verdict.first_position,
    )


_AS_JUDGED: Final = """
    SELECT e.id, (coalesce(earlier.values, to_jsonb(e)) -> 'metrics' ->> %b::text)::float8,
        (coalesce(earlier.values, to_jsonb(e)) ->> 'sample_count')::float8,
        extract(epoch FROM e.evaluation_start)::float8,
        extract(epoch FROM e.evaluation_end)::float8
    FROM model_performance_metrics e
    LEFT JOIN LATERAL (
        SELECT r.values FROM model_metric_revisions r
        WHERE r.metric_id = e.id AND r.machine_id = e.machine_id AND r.replaced_at > %b
        ORDER BY r.revision LIMIT 1
    ) AS earlier ON e.revision > 1
    WHERE e.machine_id = %b AND e.model_type = %b AND e.model_id = %b
        AND (e.evaluation_end, e.evaluation_start) <= (%b, %b) AND e.created_at <= %b
    ORDER BY e.evaluation_end DESC, e.evaluation_start DESC
    LIMIT %b
"""
