"""Which alerts a verdict asks for, and what each says."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from modelperf.models.alerts import Alert
from modelperf.services.metrics_rows import Subject

_CRITICAL_STATISTIC: Final = 6.0
_METRIC_LABELS: Final = {
    "r_squared": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "mape": "MAPE",
    "nmbe": "bias (NMBE)",
    "cv_rmse": "CV(RMSE)",
    "precision_score": "precision",
    "recall_score": "recall",
    "f1_score": "F1",
}
JUDGED_TYPES: Final = (Alert.Type.DRIFT_DETECTED.value, Alert.Type.PERFORMANCE_DEGRADATION.value)


class OpenAlert(msgspec.Struct, frozen=True):
    """An unresolved alert of a series, as far as judging needs to know it."""

    id: uuid.UUID
    model_id: uuid.UUID | None
    condition_key: str
    alert_type: str
    severity: str
    occurrences: int
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the alert of one condition has to say now."""

    condition_key: str
    alert_type: str
    severity: str
    message: str
    occurrences: int
    current: float
    threshold: float
    baseline: float | None
    details: dict[str, Any]


def condition_key(subject: Subject, alert_type: str, metric: str) -> str:
    """Return what makes a condition one: its series, type and metric."""
    return f"series:{subject.machine_id}:{subject.model_type}:{alert_type}:{metric}"


def wanted_alerts(
    subject: Subject, verdict: dict[str, Any], *, cut_off: float
) -> dict[str, Wanted]:
    """Return the alerts that a verdict asks for, by condition key.

    A change point alerts where its p held at two consecutive prefixes at or below the cut-off; a
    collapse and a crossed limit alert at once.
    """
    conditions = [
        _wanted(subject, verdict, condition)
        for condition in verdict["conditions"]
        if condition["rule"] != "change_point" or _confirmed(condition, cut_off)
    ]
    # A collapse and a limit on one metric are one condition; the first named is the incident.
    return {wanted.condition_key: wanted for wanted in reversed(conditions)}


def _confirmed(condition: dict[str, Any], cut_off: float) -> bool:
    confirmed_p = condition["confirmed_p"]
    return confirmed_p is not None and confirmed_p <= cut_off


def _wanted(subject: Subject, verdict: dict[str, Any], condition: dict[str, Any]) -> Wanted:
    alert_type = (
        Alert.Type.DRIFT_DETECTED
        if condition["rule"] == "change_point"
        else Alert.Type.PERFORMANCE_DEGRADATION
    ).value
    return Wanted(
        condition_key=condition_key(subject, alert_type, verdict["metric"]),
        alert_type=alert_type,
        severity=_severity(condition),
        message=_message(subject, verdict["metric"], condition),
        occurrences=condition["n_since"],
        current=condition["current"],
        threshold=condition["threshold"],
        baseline=condition["baseline"],
        details={**condition, "metric": verdict["metric"]},
    )


def _severity(condition: dict[str, Any]) -> str:
    collapsed = condition["rule"] == "collapse"
    strong = condition["rule"] == "change_point" and (
        condition["peak_statistic"] >= _CRITICAL_STATISTIC
    )
    return (Alert.Severity.CRITICAL if collapsed or strong else Alert.Severity.WARNING).value


def _message(subject: Subject, metric: str, condition: dict[str, Any]) -> str:
    label = _METRIC_LABELS.get(metric, metric)
    place = f"{subject.machine_name} · {subject.model_type} v{subject.model_version}"
    since = f"{condition['changed_at']:.10}" if condition["changed_at"] else "its first evaluation"
    if condition["rule"] == "limit":
        return (
            f"{place}: {label} {_number(condition['current'])} crosses its limit"
            f" {_number(condition['threshold'])} since {since}."
        )
    verb = "collapsed" if condition["rule"] == "collapse" else "is worse"
    return (
        f"{place}: {label} {verb} since {since},"
        f" {_number(condition['baseline'])} before and {_number(condition['current'])} since."
    )


def _number(value: float) -> str:
    """Return a number for people: three digits, a true minus sign."""
    return f"{value:.3g}".replace("-", "−")
