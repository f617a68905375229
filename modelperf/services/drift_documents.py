"""Verdicts as they are stored and answered: plain values, with dates for positions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from modelperf.services.drift_history import History
from modelperf.stats.results import Condition, Verdict


@dataclass(frozen=True, slots=True)
class Dates:
    """From positions to dates; those before the loaded history were stored when they were in it."""

    history: History
    verdict: dict[str, Any] | None

    def __call__(self, position: int | None) -> str | None:
        """Return when the window at an absolute position began."""
        if position is None:
            return None
        moment = self.history.starts_at(position)
        if moment is not None:
            return moment.isoformat().replace("+00:00", "Z")
        return self._stored(position)

    def _stored(self, position: int) -> str | None:
        if self.verdict is None:
            return None
        verdict = self.verdict
        dated = {entry["change_index"]: entry["changed_at"] for entry in verdict["conditions"]}
        dated |= {verdict[f"change_{at}"]: verdict[f"changed_{by}"] for at, by in _DATED}
        return dated.get(position)


_DATED = (("low", "after"), ("high", "before"), ("index", "at"))
_VERDICT_FIELDS = [one.name for one in fields(Verdict)]


def verdict_document(verdict: Verdict, metric: str, dates: Dates) -> dict[str, Any]:
    """Return a verdict as it is stored and answered: plain values, positions with their dates."""
    document = {name: getattr(verdict, name) for name in _VERDICT_FIELDS}
    return document | {
        "status": verdict.status.value,
        "rule": verdict.rule.value if verdict.rule else None,
        "metric": metric,
        **{f"changed_{by}": dates(document[f"change_{at}"]) for at, by in _DATED},
        "conditions": [_condition(condition, dates) for condition in verdict.conditions],
    }


def _condition(condition: Condition, dates: Dates) -> dict[str, Any]:
    return asdict(condition) | {
        "rule": condition.rule.value,
        "changed_at": dates(condition.change_index),
    }
