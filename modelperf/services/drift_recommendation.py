"""What a verdict means for whoever has to act, in a sentence or two."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from modelperf.services.alerts_conditions import METRIC_LABELS
from modelperf.templatetags.presentation import number

_BY_STATUS = {
    "stable": "No change found. Keep the model.",
    "improved": "The model improved; nothing to do.",
    "improvement_lost": "An improvement was lost again; the model is back at its earlier level.",
}


def recommendation(
    verdict: dict[str, Any], moved: Sequence[str] = (), *, stopped_at: datetime | None = None
) -> str:
    """Return the sentence that goes with a stored verdict, and with the features that moved.

    `stopped_at` is when the last window ended of a series whose evaluations have stopped.
    """
    if stopped_at is None:
        return _with_features(verdict, moved)
    stopped = f"Evaluations stopped after {stopped_at.astimezone(UTC):%Y-%m-%d}: find out why."
    if verdict["status"] == "stable" and not verdict["conditions"] and not moved:
        return f"{stopped} Until then no change was found."
    return f"{_with_features(verdict, moved)} {stopped}"


def _with_features(verdict: dict[str, Any], moved: Sequence[str]) -> str:
    if not moved:
        return _about(verdict)
    names = ", ".join(moved[:3]) + (f" and {len(moved) - 3} more" if len(moved) > 3 else "")
    if not verdict["conditions"]:
        return f"The distribution of {names} has moved while the metric has not: watch the model."
    return f"{_about(verdict)} The distribution of {names} has moved, too."


def _about(verdict: dict[str, Any]) -> str:
    rules = {condition["rule"] for condition in verdict["conditions"]}
    if rules:
        return _about_conditions(rules, verdict)
    if verdict["metric"] is None:
        return "No reported metric has a known direction: declare one in the model type's policy."
    if verdict["needed"] is None:
        return f"{verdict['metric']} has no known direction: declare it in the policy."
    if verdict["n_evaluations"] == 0:
        return f"Not judged: the policy judges {verdict['metric']}, which no evaluation reports."
    if verdict["status"] == "insufficient_data":
        return f"Not enough data: {verdict['needed']} more evaluations are needed for a verdict."
    return _BY_STATUS[verdict["status"]]


def _about_conditions(rules: set[str], verdict: dict[str, Any]) -> str:
    if "collapse" in rules:
        return "The model collapsed: check its inputs first, then retrain or roll back."
    if "change_point" in rules:
        return (
            f"Worse since {verdict['changed_at']:.10}: check for a common cause, then retrain"
            " and compare the new version in an A/B test."
        )
    crossed = next(one for one in verdict["conditions"] if one["rule"] == "limit")
    label = METRIC_LABELS.get(verdict["metric"], verdict["metric"])
    return (
        f"{label} {number(crossed['current'])} crosses its limit"
        f" {number(crossed['threshold'])}: investigate, then retrain."
    )
