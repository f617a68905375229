"""Which alerts a verdict asks for, and what each says."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from modelperf.models.alerts import Alert
from modelperf.services.metrics_rows import Subject
from modelperf.stats.distributions import SMALLEST_DISTANCE

_CRITICAL_STATISTIC: Final = 6.0
METRIC_LABELS: Final = {
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


OWN_PART: Final = "own_part"


class OpenAlert(msgspec.Struct, frozen=True):
    """An unresolved alert of a series, as far as judging needs to know it."""

    id: uuid.UUID
    model_id: uuid.UUID | None
    condition_key: str
    alert_type: str
    severity: str
    occurrences: int
    details: dict[str, Any]
    opened_at: datetime
    model_version: int | None = None
    seen_through: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the alert of one condition has to say now.

    `peak` is the worst value of the metric since the change, None where that means nothing;
    `seen_through` the end of the newest evaluation that was looked at, None where none are the
    point. Neither depends on the order in which evaluations arrive.
    """

    condition_key: str
    alert_type: str
    severity: str
    message: str
    occurrences: int
    current: float | None
    threshold: float | None
    baseline: float | None
    details: dict[str, Any]
    peak: float | None = None
    seen_through: datetime | None = None


def condition_key(subject: Subject, alert_type: str, metric: str) -> str:
    """Return what makes a condition one: its series, type and metric."""
    return f"series:{subject.machine_id}:{subject.model_type}:{alert_type}:{metric}"


def common_key(key: str) -> str:
    """Return what a series' conditions share that one fleet alert may be about.

    A fall of the whole fleet is a change point for some machines and a collapse for others.
    """
    degradation, drift = Alert.Type.PERFORMANCE_DEGRADATION.value, Alert.Type.DRIFT_DETECTED.value
    return key.replace(f":{degradation}:", f":{drift}:", 1)


def is_later(details: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Whether a change is another one than the change a person has resolved already.

    Windows of features slide on while the same features stay where they have moved to. In a storm
    are only machines that a person has not resolved already.
    """
    if details.get("rule") == "storm":
        return True
    if "features" in details:
        return bool(_names(details) - _names(earlier))
    return (details.get("changed_at") or "") > (earlier.get("changed_at") or "")


def _names(details: dict[str, Any]) -> set[str]:
    return {feature["name"] for feature in details.get("features", ())}


def wanted_alerts(
    subject: Subject, verdict: dict[str, Any], *, cut_off: float, seen_through: datetime | None
) -> dict[str, Wanted]:
    """Return the alerts that a verdict asks for, by condition key.

    A change point alerts where its p held at two consecutive prefixes at or below the cut-off; a
    collapse and a crossed limit alert at once.
    """
    conditions = [
        _wanted(subject, verdict, condition, seen_through)
        for condition in verdict["conditions"]
        if condition["rule"] != "change_point" or _confirmed(condition, cut_off)
    ]
    # A collapse and a limit on one metric are one condition; the first named is the incident.
    return {wanted.condition_key: wanted for wanted in reversed(conditions)}


def _confirmed(condition: dict[str, Any], cut_off: float) -> bool:
    confirmed_p = condition["confirmed_p"]
    return confirmed_p is not None and confirmed_p <= cut_off


def _wanted(
    subject: Subject,
    verdict: dict[str, Any],
    condition: dict[str, Any],
    seen_through: datetime | None,
) -> Wanted:
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
        peak=condition["worst"],
        seen_through=seen_through,
    )


def _severity(condition: dict[str, Any]) -> str:
    collapsed = condition["rule"] == "collapse"
    strong = condition["rule"] == "change_point" and (
        condition["peak_statistic"] >= _CRITICAL_STATISTIC
    )
    return (Alert.Severity.CRITICAL if collapsed or strong else Alert.Severity.WARNING).value


def _message(subject: Subject, metric: str, condition: dict[str, Any]) -> str:
    label = METRIC_LABELS.get(metric, metric)
    place = _place(subject)
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


def own_part(
    subject: Subject,
    metric: str,
    condition: dict[str, Any],
    *,
    changed_at: datetime,
    seen_through: datetime,
) -> Wanted:
    """Return the alert of a machine that is worse than what it shares with the others explains."""
    alert_type = Alert.Type.DRIFT_DETECTED.value
    label = METRIC_LABELS.get(metric, metric)
    return Wanted(
        condition_key=condition_key(subject, alert_type, metric),
        alert_type=alert_type,
        severity=_severity(condition),
        message=f"{_place(subject)}: {label} is worse since {changed_at:%Y-%m-%d} than what the"
        f" other machines share explains, {_number(condition['baseline'])} before and"
        f" {_number(condition['current'])} since without it.",
        occurrences=condition["n_since"],
        current=condition["current"],
        threshold=condition["threshold"],
        baseline=condition["baseline"],
        details={
            **condition,
            "rule": OWN_PART,
            "metric": metric,
            "changed_at": _moment(changed_at),
        },
        peak=condition["worst"],
        seen_through=seen_through,
    )


def outlier_window(subject: Subject, verdict: dict[str, Any], *, newest_end: datetime) -> Wanted:
    """Return the alert of a newest evaluation that alone lies far off, where a policy wants it."""
    alert_type, metric = Alert.Type.PERFORMANCE_DEGRADATION.value, verdict["metric"]
    label = METRIC_LABELS.get(metric, metric)
    return Wanted(
        condition_key=condition_key(subject, alert_type, metric),
        alert_type=alert_type,
        severity=Alert.Severity.WARNING.value,
        message=f"{_place(subject)}: {label} of the window that ended {_day(newest_end)} alone lies"
        " far off.",
        occurrences=1,
        current=None,
        threshold=None,
        baseline=verdict["baseline"],
        details={"rule": "outlier", "metric": metric, "changed_at": _moment(newest_end)},
        seen_through=newest_end,
    )


def missing_evaluations(
    subject: Subject, *, newest_end: datetime, due_at: datetime, cadence: timedelta
) -> Wanted:
    """Return the alert of a series whose evaluations stopped arriving."""
    alert_type = Alert.Type.EVALUATION_MISSING.value
    return Wanted(
        condition_key=condition_key(subject, alert_type, ""),
        alert_type=alert_type,
        severity=Alert.Severity.WARNING.value,
        message=f"{_place(subject)}: no evaluation since {_day(newest_end)}, one was due by"
        f" {_day(due_at)}.",
        occurrences=1,
        current=None,
        threshold=cadence.total_seconds(),
        baseline=None,
        details={
            "rule": "evaluation_missing",
            "changed_at": _moment(newest_end),
            "due_at": _moment(due_at),
            "expected_cadence_seconds": cadence.total_seconds(),
        },
    )


def drifted_features(subject: Subject, features: Sequence[dict[str, Any]]) -> Wanted:
    """Return the alert of a series whose inputs or predictions have moved; the worst is named."""
    alert_type = Alert.Type.DATA_DRIFT.value
    worst = max(features, key=lambda feature: feature["ks_distance"] or 0.0)
    others = f" and {len(features) - 1} more" if len(features) > 1 else ""
    what, verb = ("distributions", "have") if others else ("distribution", "has")
    return Wanted(
        condition_key=condition_key(subject, alert_type, ""),
        alert_type=alert_type,
        severity=Alert.Severity.WARNING.value,
        message=f"{_place(subject)}: the {what} of {worst['name']}{others} {verb} moved"
        f" (KS distance {_number(worst['ks_distance'] or 0.0)}).",
        occurrences=1,
        current=worst["ks_distance"],
        threshold=SMALLEST_DISTANCE,
        baseline=None,
        details={
            "rule": "data_drift",
            "changed_at": _moment(worst["window_start"]),
            "features": [
                {name: feature[name] for name in _FEATURE_DETAILS} for feature in features
            ],
        },
        peak=worst["ks_distance"],
        seen_through=max(feature["window_end"] for feature in features),
    )


_FEATURE_DETAILS: Final = ("name", "role", "statistic", "p_value", "q_value", "ks_distance", "psi")


def _place(subject: Subject) -> str:
    return f"{subject.machine_name} · {subject.model_type} v{subject.model_version}"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _number(value: float) -> str:
    """Return a number for people: three digits, a true minus sign."""
    return f"{value:.3g}".replace("-", "−")
