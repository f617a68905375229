"""Evaluations: recording them one by one or in batches, and reading them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from django.http import HttpResponse
from django_filters import Filter
from msgspec import UNSET, Meta, Struct, UnsetType

from modelperf.api import csv_pages
from modelperf.api.authentication import WRITE
from modelperf.api.base import Answer, Endpoint, Rows, call, next_link, rows
from modelperf.api.bulk import evaluations_of, gathered, lines_named
from modelperf.api.cursors import BY_ID, Order, Page, page
from modelperf.api.filters import Filters, SeriesFilters
from modelperf.api.parameters import Cursor, Instant, Limit, ModelType, Time
from modelperf.models import LatestModelPerformance, MetricRevision, ModelPerformanceMetric
from modelperf.services import metrics, trend
from modelperf.services.errors import NotFoundError
from modelperf.services.metrics import Evaluation, Recorded

BY_WINDOW: Final = Order(
    ("-evaluation_end", "-evaluation_start", "-id"), (datetime, datetime, uuid.UUID)
)
BY_MACHINE: Final = Order(("machine_name", "machine_id", "model_type"), (str, uuid.UUID, str))
MOST_REVISIONS: Final = 1000
Days = Annotated[int, Meta(ge=1, le=3660)]


class RecordedAnswer(Struct):
    """What became of an evaluation, and the verdict on its model version."""

    metric_id: uuid.UUID
    status: Literal["created", "unchanged", "revised"]
    revision: int
    drift_detected: bool
    drift_score: float | None
    recommendation: str | None
    verdict: dict[str, Any] | None


class BulkAnswer(Struct):
    """What became of one evaluation of a batch; with the verdict where the batch was judged."""

    metric_id: uuid.UUID
    status: Literal["created", "unchanged", "revised"]
    revision: int
    drift_detected: bool | UnsetType = UNSET
    drift_score: float | UnsetType | None = UNSET
    recommendation: str | UnsetType | None = UNSET
    verdict: dict[str, Any] | UnsetType | None = UNSET


class BulkQuery(Struct):
    """Whether a batch is judged at once, or by the next check."""

    judge: bool = False


class TrendQuery(Struct):
    """The series, the period in days up to now, and the metric: the primary one by default."""

    model_type: ModelType
    machine_id: uuid.UUID
    days: Days = 30
    metric: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class TrendRow(Struct):
    """One evaluation of a trend; `metrics` has every metric, the others are its usual ones."""

    id: uuid.UUID
    model_id: uuid.UUID
    model_type: str
    machine_id: uuid.UUID
    model_version: int
    evaluation_date: Instant
    evaluation_start: Instant
    evaluation_end: Instant
    r_squared: float | None
    rmse: float | None
    mae: float | None
    mape: float | None
    precision_score: float | None
    recall_score: float | None
    f1_score: float | None
    true_positives: int | None
    false_positives: int | None
    true_negatives: int | None
    false_negatives: int | None
    drift_detected: bool
    drift_score: float | None
    drift_threshold: float | None
    sample_count: int
    data_completeness: float | None
    outlier_percentage: float | None
    metrics: dict[str, float]


class OutlookAnswer(Struct):
    """When the judged metric crosses the policy's limit, if its trend goes on: with an interval.

    A date is null where it is not within a year of the newest evaluation: without `latest` it may
    never be. All are null where the level is surely beyond the limit already. `overdue` is a
    crossing before now that no evaluation has confirmed yet.
    """

    status: Literal[
        "crossed", "crosses", "overdue", "not_within_a_year", "no_limit", "insufficient_data"
    ]
    crosses_at: Instant | None
    earliest: Instant | None
    latest: Instant | None
    limit: float | None
    confidence: float


class TrendAnswer(Struct):
    """A series over a period. A positive `degradation_rate`, per day, is getting worse."""

    model_type: str
    machine_id: uuid.UUID
    machine_name: str
    metrics: list[TrendRow]
    trend_direction: Literal["improving", "stable", "degrading"]
    degradation_rate: float | None
    rate_low: float | None
    rate_high: float | None
    rate_percent: float | None
    p_value: float | None
    metric: str | None
    judged_version: int
    n_evaluations: int
    insufficient_data: bool
    outlook: OutlookAnswer


class EvaluationAnswer(Struct):
    """One evaluation as it is stored."""

    id: uuid.UUID
    model_id: uuid.UUID
    model_type: str
    machine_id: uuid.UUID
    model_version: int
    evaluation_date: Instant
    evaluation_start: Instant
    evaluation_end: Instant
    sample_count: int
    metrics: dict[str, float]
    r_squared: float | None
    rmse: float | None
    mae: float | None
    mape: float | None
    precision_score: float | None
    recall_score: float | None
    f1_score: float | None
    true_positives: int | None
    false_positives: int | None
    true_negatives: int | None
    false_negatives: int | None
    drift_detected: bool
    drift_score: float | None
    drift_threshold: float | None
    data_completeness: float | None
    outlier_percentage: float | None
    evaluation_notes: str
    created_by: str
    revision: int
    metadata: dict[str, Any]
    created_at: Instant


class LatestAnswer(EvaluationAnswer):
    """The newest evaluation of a series, with its machine."""

    machine_name: str
    machine_type: str


class RevisionAnswer(Struct):
    """The values that a correction replaced."""

    revision: int
    values: dict[str, Any]
    replaced_at: Instant
    replaced_by: str


class LatestQuery(Struct):
    """Which newest evaluations are listed."""

    filters: ClassVar[Filters] = SeriesFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class EvaluationFilters(SeriesFilters):
    """By model version, by verdict, and by when their windows end."""

    model_id = Filter()
    start = Filter("evaluation_end", "gte")
    end = Filter("evaluation_end", "lt")
    drift_detected = Filter()


class EvaluationQuery(LatestQuery):
    """Which evaluations are listed; `start` and `end` bound `evaluation_end`."""

    filters: ClassVar[Filters] = EvaluationFilters
    model_id: uuid.UUID | None = None
    start: Time | None = None
    end: Time | None = None
    drift_detected: bool | None = None
    format: Literal["json", "csv"] = "json"


class Metrics(Endpoint):
    """Evaluations of models on windows."""

    @call(
        takes=Evaluation,
        answers=RecordedAnswer,
        scope=WRITE,
        style="either",
        reshape=gathered,
        problems=(404,),
    )
    def record(self, given: Evaluation) -> Recorded:
        """Record one evaluation and judge its model version; the same again changes nothing."""
        return metrics.record(evaluation=given, by=self.actor, machine_ids=self.access.machine_ids)

    @call(
        takes=BulkQuery, sends=list[Evaluation], answers=list[BulkAnswer], scope=WRITE, lines=True
    )
    def bulk(self, given: BulkQuery) -> list[Recorded] | Rows:
        """Record 1 to 5,000 evaluations, all or nothing; answers stand in their order."""
        body = self.body()
        with lines_named(body):
            stored = metrics.record_batch(
                evaluations=evaluations_of(body),
                by=self.actor,
                judge=given.judge,
                machine_ids=self.access.machine_ids,
            )
        if given.judge:
            return stored
        return Rows([BulkAnswer(one.metric_id, one.status, one.revision) for one in stored])

    @call(takes=TrendQuery, answers=TrendAnswer, style="either", problems=(404,))
    def trend(self, given: TrendQuery) -> Rows:
        """Tell where a series is heading, and how fast a day."""
        report = trend.trend(
            machine=self.machine(given.machine_id),
            model_type=given.model_type,
            days=given.days,
            metric=given.metric,
        )
        names = TrendAnswer.__struct_fields__
        return Rows({name: getattr(report, name, report.rows) for name in names})

    @call(takes=EvaluationQuery, answers=Page[EvaluationAnswer])
    def browse(self, given: EvaluationQuery) -> Answer | HttpResponse:
        """List evaluations: a machine's by window, newest first, else in order of recording."""
        found = ModelPerformanceMetric.objects.within(self.access.machine_ids)
        # Only a machine's windows have an index to be sorted by.
        order = BY_WINDOW if given.machine_id else BY_ID
        if given.format == "json":
            return self.page(found, EvaluationAnswer, order=order, given=given)
        results, link = page(self.request, found, EvaluationAnswer, order=order, given=given)
        columns = EvaluationAnswer.__struct_fields__
        return csv_pages.answer(results, columns, name="evaluations", headers=next_link(link))

    @call(takes=LatestQuery, answers=Page[LatestAnswer])
    def latest(self, given: LatestQuery) -> Answer:
        """List the newest evaluation of every series, by machine.

        Those of retired machines are left out unless `machine_id` names one.
        """
        visible = LatestModelPerformance.objects.within(self.access.machine_ids)
        found = self.current(visible, given.machine_id)
        return self.page(found, LatestAnswer, order=BY_MACHINE, given=given)

    @call(answers=list[RevisionAnswer], problems=(404,))
    def revisions(self, id: uuid.UUID) -> Rows:
        """List the values that corrections of an evaluation replaced, oldest first."""
        visible = ModelPerformanceMetric.objects.within(self.access.machine_ids)
        metric = visible.filter(pk=id).only("machine_id").first()
        if metric is None:
            raise NotFoundError("Evaluation not found")
        found = MetricRevision.objects.filter(metric_id=id, machine_id=metric.machine_id)
        return rows(found.order_by("revision")[:MOST_REVISIONS], RevisionAnswer)
