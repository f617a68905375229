"""Metrics summed up per hour, day, week or month."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from django.http import HttpResponse
from msgspec import Meta, Struct

from modelperf.api import csv_pages
from modelperf.api.base import Endpoint, call
from modelperf.api.parameters import Instant, ModelType, Time
from modelperf.services import metrics_aggregate
from modelperf.services.metrics_aggregate import Aggregate


class AggregateQuery(Struct):
    """What is summed up. The period is [start, end), or the last `days` (30) before `end` or now.

    Without `machine_id` it is all machines of the type in service; `model_id` keeps one version.
    """

    model_type: ModelType
    metric: Annotated[str, Meta(min_length=1, max_length=100)]
    bucket: Literal["hour", "day", "week", "month"] = "day"
    machine_id: uuid.UUID | None = None
    model_id: uuid.UUID | None = None
    start: Time | None = None
    end: Time | None = None
    days: Annotated[int, Meta(ge=1, le=3660)] | None = None
    time_zone: Annotated[str, Meta(min_length=1, max_length=60)] = "UTC"
    format: Literal["json", "csv"] = "json"


class Bucket(Struct):
    """A metric in one bucket. `samples` is 0 where no evaluation reports its samples."""

    bucket_start: Instant
    mean: float
    sd: float | None
    min: float
    max: float
    evaluations: int
    samples: int
    models: int


class AggregateAnswer(Struct):
    """A metric per bucket, in order of time, without buckets in which nothing reports it."""

    model_type: str
    machine_id: uuid.UUID | None
    metric: str
    bucket: Literal["hour", "day", "week", "month"]
    time_zone: str
    start: Instant
    end: Instant
    buckets: list[Bucket]


class Aggregates(Endpoint):
    """Evaluations summed up by time."""

    @call(takes=AggregateQuery, answers=AggregateAnswer, problems=(404,))
    def browse(self, given: AggregateQuery) -> Aggregate | HttpResponse:
        """Sum up any metric per hour, day, week or month.

        The mean is weighted by samples; evaluations that do not report them weigh as much as the
        mean one of the bucket. `sd` is that of the evaluations, null for a single one. A window
        belongs to the bucket of its last instant. At most 5,000 buckets.
        """
        found = metrics_aggregate.aggregate(
            model_type=given.model_type,
            metric=given.metric,
            bucket=given.bucket,
            machine=self.machine(given.machine_id) if given.machine_id else None,
            model_id=given.model_id,
            machine_ids=self.access.machine_ids,
            start=given.start,
            end=given.end,
            days=given.days,
            time_zone=given.time_zone,
        )
        if given.format == "json":
            return found
        columns = Bucket.__struct_fields__
        return csv_pages.answer(found.buckets, columns, name=f"aggregate-{given.bucket}")
