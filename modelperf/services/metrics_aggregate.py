"""A metric summed up per hour, day, week or month: of one machine, or of all of a model type."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import DataError
from django.utils import timezone

from modelperf.models import Machine, ModelPerformanceMetric, Series
from modelperf.services.errors import InvalidError, NotFoundError

# The shortest of each kind, in hours.
BUCKETS: Final = {"hour": 1, "day": 23, "week": 167, "month": 671}
MOST_BUCKETS: Final = 5_000
DEFAULT_DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A metric per bucket, in order of time; a bucket in which nothing reports it is left out.

    A bucket has bucket_start, mean (weighted by samples), sd, min, max, evaluations, samples and
    models, the number of model versions in it. A window belongs to the bucket of its last instant.
    """

    model_type: str
    machine_id: uuid.UUID | None
    metric: str
    bucket: str
    time_zone: str
    start: datetime
    end: datetime
    buckets: list[dict[str, Any]]


def aggregate(
    *,
    model_type: str,
    metric: str,
    bucket: str,
    machine: Machine | None = None,
    model_id: uuid.UUID | None = None,
    machine_ids: frozenset[uuid.UUID] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    days: int | None = None,
    time_zone: str = "UTC",
) -> Aggregate:
    """Return a metric per bucket over [start, end), by default the last 30 days, in one statement.

    Without a machine those in service are summed up, of which `machine_ids` may be seen.

    Raises
    ------
    InvalidError
        There is no such time zone, or the period is empty or has too many buckets.
    NotFoundError
        No evaluation of the period reports the metric.
    """
    start, end = _period(start, end, days)
    _check_count(start, end, bucket)
    _check_zone(time_zone)
    found = ModelPerformanceMetric.objects.filter(
        model_type=model_type, evaluation_end__gt=start, evaluation_end__lte=end
    )
    if model_id is not None:
        found = found.filter(model_id=model_id)
    if machine is not None:
        found = found.filter(machine_id=machine.pk)
    else:
        found = found.within(machine_ids).filter(machine_id__in=_machines(model_type))
    try:
        buckets = list(found.per_bucket(metric=metric, bucket=bucket, zone=time_zone))
    except DataError:  # a zone that PostgreSQL does not know
        raise _no_zone(time_zone) from None
    if not buckets:
        raise NotFoundError("No metrics found for this period")
    return Aggregate(
        model_type=model_type,
        machine_id=machine.pk if machine else None,
        metric=metric,
        bucket=bucket,
        time_zone=time_zone,
        start=start,
        end=end,
        buckets=buckets,
    )


def _period(
    start: datetime | None, end: datetime | None, days: int | None
) -> tuple[datetime, datetime]:
    if start is not None and days is not None:
        raise InvalidError.field("days", "Give start or days, not both.")
    end = end or timezone.now()
    start = start or end - timedelta(days=DEFAULT_DAYS if days is None else days)
    if end <= start:
        raise InvalidError.field("end", "end is after start.", type="order")
    return start, end


def _check_count(start: datetime, end: datetime, bucket: str) -> None:
    if (end - start) / timedelta(hours=BUCKETS[bucket]) > MOST_BUCKETS:
        msg = f"At most {MOST_BUCKETS} buckets: ask for a shorter period or longer buckets."
        raise InvalidError.field("bucket", msg)


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise _no_zone(name) from None


def _no_zone(name: str) -> InvalidError:
    return InvalidError.field("time_zone", f"There is no time zone {name[:60]!r}.")


def _machines(model_type: str) -> Any:
    """Return the machines of a type: with them PostgreSQL has an index on a period of each."""
    found = Series.objects.filter(model_type=model_type, machine__is_active=True)
    return found.values("machine_id")
