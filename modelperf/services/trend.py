"""The trend of a series: its evaluations of a period, and whether they get better or worse."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from modelperf.models import Machine, ModelPerformanceMetric, ModelVersion
from modelperf.models.metrics import CONFUSION_COUNTS, REGISTERED_METRICS
from modelperf.services.errors import InvalidError, NotFoundError
from modelperf.services.policies import PolicyValues, policy_of
from modelperf.stats.outlook import COVERAGE
from modelperf.stats.outlook import outlook as look_ahead
from modelperf.stats.results import HIGHER_IS_BETTER, MetricKind
from modelperf.stats.trend import Direction, Trend
from modelperf.stats.trend import trend as fit_trend

LONGEST_PERIOD_DAYS: Final = 3660
_DAY: Final = 86_400
_COLUMNS: Final = (
    "id",
    "model_id",
    "model_type",
    "machine_id",
    "model_version",
    "evaluation_date",
    "evaluation_start",
    "evaluation_end",
    *REGISTERED_METRICS,
    *CONFUSION_COUNTS,
    "drift_detected",
    "drift_score",
    "drift_threshold",
    "sample_count",
    "data_completeness",
    "outlier_percentage",
    "metrics",
)


@dataclass(frozen=True, slots=True)
class OutlookReport:
    """When the metric crosses the policy's limit, if its trend goes on.

    A date is None where it is not within a year of the newest evaluation, or the limit is crossed.
    Where it lies before now, evaluations that would tell are missing: the status is `overdue`.
    """

    status: str
    crosses_at: datetime | None
    earliest: datetime | None
    latest: datetime | None
    limit: float | None
    confidence: float


@dataclass(frozen=True, slots=True)
class TrendReport:
    """Evaluations in order of date, and the trend of one metric of the newest version's.

    `degradation_rate` is a day, on the metric's own scale, positive when it gets worse.
    """

    model_type: str
    machine_id: uuid.UUID
    machine_name: str
    rows: list[dict[str, Any]]
    trend_direction: str
    degradation_rate: float | None
    rate_low: float | None
    rate_high: float | None
    rate_percent: float | None
    p_value: float | None
    metric: str | None
    judged_version: int
    n_evaluations: int
    insufficient_data: bool
    outlook: OutlookReport


def trend(
    *, machine: Machine, model_type: str, days: int = 30, metric: str | None = None
) -> TrendReport:
    """Return the evaluations of the last `days` days and their trend.

    Versions are never mixed: the trend is that of the active version, or of the newest one where
    the active one has no evaluation in the period.

    Raises
    ------
    InvalidError
        `days` is out of range, or no evaluation of the period reports `metric`.
    NotFoundError
        There is no evaluation in the period.
    """
    if not 1 <= days <= LONGEST_PERIOD_DAYS:
        raise InvalidError.field("days", f"days lies between 1 and {LONGEST_PERIOD_DAYS}.")
    rows = _rows(machine, model_type, days)
    if not rows:
        raise NotFoundError("No metrics found for this period")
    version = _judged_version(machine, model_type, rows)
    judged = [row for row in rows if row["model_version"] == version]
    policy = policy_of(machine_id=machine.pk, model_type=model_type)
    chosen = _metric(metric, rows, judged, policy)
    fitted = _fit(judged, chosen, policy)
    return TrendReport(
        model_type=model_type,
        machine_id=machine.pk,
        machine_name=machine.name,
        rows=rows,
        trend_direction=(fitted.direction if fitted else Direction.STABLE).value,
        degradation_rate=fitted.rate if fitted else None,
        rate_low=fitted.low if fitted else None,
        rate_high=fitted.high if fitted else None,
        rate_percent=fitted.percent if fitted else None,
        p_value=fitted.p_value if fitted else None,
        metric=chosen,
        judged_version=version,
        n_evaluations=len(judged),
        insufficient_data=fitted.insufficient_data if fitted else True,
        outlook=_outlook(judged, chosen, policy),
    )


def _rows(machine: Machine, model_type: str, days: int) -> list[dict[str, Any]]:
    since = timezone.now() - timedelta(days=days)
    found = (
        ModelPerformanceMetric.objects.of_series(machine_id=machine.pk, model_type=model_type)
        .filter(evaluation_date__gte=since)
        .order_by("evaluation_date", "evaluation_end", "evaluation_start", "model_version")
    )
    return list(found.values(*_COLUMNS))


def _judged_version(machine: Machine, model_type: str, rows: list[dict[str, Any]]) -> int:
    active = (
        ModelVersion.objects.of_series(machine_id=machine.pk, model_type=model_type)
        .active()
        .values_list("model_version", flat=True)
        .first()
    )
    there = {row["model_version"] for row in rows}
    newest: int = max(rows, key=lambda row: (row["evaluation_end"], row["model_version"]))[
        "model_version"
    ]
    return active if active is not None and active in there else newest


def _metric(
    asked: str | None,
    rows: list[dict[str, Any]],
    judged: list[dict[str, Any]],
    policy: PolicyValues,
) -> str | None:
    if asked is None:
        return policy.judged_metric(name for row in judged for name in row["metrics"])
    reported = sorted({name for row in rows for name in row["metrics"]})
    if asked not in reported:
        raise InvalidError.field("metric", f"metric is one of {', '.join(reported)}.")
    return asked


def _fit(judged: list[dict[str, Any]], metric: str | None, policy: PolicyValues) -> Trend | None:
    """Return the trend, or None for a metric whose direction nobody declared."""
    kind = policy.kind(metric) if metric else None
    return None if kind is None else fit_trend(*_series(judged, metric), **_direction(kind))


def _outlook(
    judged: list[dict[str, Any]], metric: str | None, policy: PolicyValues
) -> OutlookReport:
    """Return when the limit is crossed. It is one for the metric that the type is judged by."""
    kind = policy.kind(metric) if metric else None
    is_judged = metric == policy.judged_metric(name for row in judged for name in row["metrics"])
    limit = policy.limit_value if is_judged and kind else None
    now = timezone.now().timestamp() / _DAY
    told = look_ahead(*_series(judged, metric), limit=limit, now=now, **_direction(kind))
    return OutlookReport(
        status=told.status.value,
        crosses_at=_moment(told.crosses_at),
        earliest=_moment(told.earliest),
        latest=_moment(told.latest),
        limit=limit,
        confidence=COVERAGE,
    )


def _series(judged: list[dict[str, Any]], metric: str | None) -> tuple[list[float], list[float]]:
    days = [row["evaluation_date"].timestamp() / _DAY for row in judged]
    return days, [row["metrics"].get(metric, float("nan")) for row in judged]


def _direction(kind: MetricKind | None) -> dict[str, bool]:
    return {
        "higher_is_better": kind in HIGHER_IS_BETTER,
        "target_zero": kind is MetricKind.TARGET_ZERO,
    }


def _moment(days: float | None) -> datetime | None:
    return None if days is None else datetime.fromtimestamp(round(days * _DAY), UTC)
