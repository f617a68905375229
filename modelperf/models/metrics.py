"""Evaluations: model versions judged on windows, their revisions, and the newest of each series."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Q

from modelperf.models import metrics_buckets
from modelperf.models.keys import uuid7
from modelperf.models.registry import MODEL_TYPE_LENGTH, Machine, ModelVersion

REGISTERED_METRICS = (
    "r_squared",
    "rmse",
    "mae",
    "mape",
    "precision_score",
    "recall_score",
    "f1_score",
)
CONFUSION_COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")


class Evaluation(models.Model):
    """The columns of an evaluation, shared by the table, its latest rows and their view."""

    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    model_version = models.PositiveIntegerField()
    evaluation_date = models.DateTimeField()
    evaluation_start = models.DateTimeField()
    evaluation_end = models.DateTimeField()
    sample_count = models.BigIntegerField(default=0)
    metrics = models.JSONField(default=dict)
    r_squared = models.FloatField(null=True)
    rmse = models.FloatField(null=True)
    mae = models.FloatField(null=True)
    mape = models.FloatField(null=True)
    precision_score = models.FloatField(null=True)
    recall_score = models.FloatField(null=True)
    f1_score = models.FloatField(null=True)
    true_positives = models.BigIntegerField(null=True)
    false_positives = models.BigIntegerField(null=True)
    true_negatives = models.BigIntegerField(null=True)
    false_negatives = models.BigIntegerField(null=True)
    drift_detected = models.BooleanField(default=False)
    drift_score = models.FloatField(null=True)
    drift_threshold = models.FloatField(null=True)
    data_completeness = models.FloatField(null=True)
    outlier_percentage = models.FloatField(null=True)
    evaluation_notes = models.TextField(blank=True, default="")
    created_by = models.CharField(max_length=200, blank=True, default="")
    revision = models.PositiveIntegerField(default=1)
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        abstract = True


class MetricQuerySet(models.QuerySet["ModelPerformanceMetric"]):
    """Reads of evaluations."""

    def of_series(self, *, machine_id: uuid.UUID, model_type: str) -> MetricQuerySet:
        """Keep the evaluations of one series."""
        return self.filter(machine_id=machine_id, model_type=model_type)

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> MetricQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)

    def newest_first(self) -> MetricQuerySet:
        """Order as *newest* is defined everywhere."""
        return self.order_by(
            "-evaluation_end", "-evaluation_start", "-model__is_active", "-model_version", "-id"
        )

    def per_bucket(self, *, metric: str, bucket: str, zone: str) -> models.QuerySet[Any, Any]:
        """Sum up what reports a metric by hour, day, week or month of a time zone."""
        return (
            self.annotate(value=metrics_buckets.metric_value(metric))
            .filter(value__isnull=False)
            .values(bucket_start=metrics_buckets.bucket_start(bucket, zone))
            .annotate(**metrics_buckets.summary())
            .order_by("bucket_start")
        )


class ModelPerformanceMetric(Evaluation):
    """One evaluation: a model version judged on the window [evaluation_start, evaluation_end).

    The primary key in the database is (id, machine_id), so that the table can be distributed by
    machine, and one composite foreign key ties an evaluation to its model's series.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    model = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    machine = models.ForeignKey(
        Machine, on_delete=models.PROTECT, db_constraint=False, db_index=False
    )

    objects: ClassVar[models.Manager[ModelPerformanceMetric]] = MetricQuerySet.as_manager()

    class Meta:
        db_table = "model_performance_metrics"
        verbose_name = "evaluation"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_performance_metrics_natural_key",
                fields=["machine", "model_type", "evaluation_end", "evaluation_start", "model"],
            ),
            models.CheckConstraint(
                name="model_performance_metrics_window",
                condition=Q(evaluation_end__gt=F("evaluation_start")),
            ),
            models.CheckConstraint(
                name="model_performance_metrics_samples", condition=Q(sample_count__gte=0)
            ),
            models.CheckConstraint(
                name="model_performance_metrics_completeness",
                condition=Q(data_completeness__isnull=True)
                | Q(data_completeness__gte=0, data_completeness__lte=1),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_type} v{self.model_version} to {self.evaluation_end:%Y-%m-%d %H:%M}"


class MetricRevision(models.Model):
    """The values that a correction of an evaluation replaced."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    metric_id = models.UUIDField()
    machine = models.ForeignKey(
        Machine, on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    revision = models.PositiveIntegerField()
    values = models.JSONField()
    replaced_at = models.DateTimeField()
    replaced_by = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        db_table = "model_metric_revisions"
        ordering: ClassVar = ["metric_id", "revision"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_metric_revisions_once", fields=["metric_id", "machine", "revision"]
            ),
        ]

    def __str__(self) -> str:
        return f"revision {self.revision} of {self.metric_id}"


class LatestPerformance(Evaluation):
    """The newest evaluation of a series, written in the transaction that changes it."""

    pk = models.CompositePrimaryKey("machine_id", "model_type")
    id = models.UUIDField()
    model = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    machine = models.ForeignKey(
        Machine, on_delete=models.PROTECT, db_constraint=False, db_index=False
    )

    class Meta:
        db_table = "model_latest_performance"

    def __str__(self) -> str:
        return f"latest of {self.machine_id} · {self.model_type}"
