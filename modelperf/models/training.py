"""Training runs."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from modelperf.models.alerts import Alert
from modelperf.models.keys import uuid7
from modelperf.models.registry import MODEL_TYPE_LENGTH, Machine, ModelVersion


class TrainingRunQuerySet(models.QuerySet["TrainingRun"]):
    """Reads of training runs."""

    def unfinished(self) -> TrainingRunQuerySet:
        """Keep the runs that wait or are at work."""
        return self.filter(training_status__in=TrainingRun.UNFINISHED)

    def ready(self, now: datetime) -> TrainingRunQuerySet:
        """Keep the runs that wait for no later time."""
        pending = self.filter(training_status=TrainingRun.Status.PENDING)
        return pending.filter(Q(retry_at__isnull=True) | Q(retry_at__lte=now))

    def automatic(self) -> TrainingRunQuerySet:
        """Keep the runs that nobody asked for: a policy did, whatever a caller may have said."""
        return self.filter(triggered_by=TrainingRun.BY_ITSELF)

    def by_alerts(self) -> TrainingRunQuerySet:
        """Keep the automatic runs that an alert asked for, and not the calendar."""
        return self.automatic().exclude(trigger_type=TrainingRun.Trigger.SCHEDULED)

    def of_series(self, *, machine_id: uuid.UUID, model_type: str) -> TrainingRunQuerySet:
        """Keep the runs of one series."""
        return self.filter(machine_id=machine_id, model_type=model_type)

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> TrainingRunQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class TrainingRun(models.Model):
    """One training of a series: requested, run, and what it found."""

    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Trigger(models.TextChoices):
        MANUAL = "manual"
        SCHEDULED = "scheduled"
        DRIFT_DETECTED = "drift_detected"
        PERFORMANCE_DEGRADATION = "performance_degradation"

    UNFINISHED = (Status.PENDING, Status.RUNNING)
    BY_ITSELF = "system:retraining"  # who has asked for what nobody asked for

    id = models.UUIDField(primary_key=True, default=uuid7)
    model = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="training_runs"
    )
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="training_runs")
    model_version = models.PositiveIntegerField(null=True, blank=True)
    training_start = models.DateTimeField()
    training_end = models.DateTimeField(null=True, blank=True)
    training_duration_seconds = models.FloatField(null=True, blank=True)
    training_status = models.CharField(
        max_length=20, choices=Status.choices, default=Status.PENDING
    )
    training_data_start = models.DateTimeField()
    training_data_end = models.DateTimeField()
    training_samples = models.BigIntegerField(null=True, blank=True)
    hyperparameters = models.JSONField(default=dict, blank=True)
    feature_names = ArrayField(models.TextField(), default=list, blank=True)
    training_metrics = models.JSONField(default=dict, blank=True)
    validation_metrics = models.JSONField(default=dict, blank=True)
    initial_r_squared = models.FloatField(null=True, blank=True)
    initial_rmse = models.FloatField(null=True, blank=True)
    initial_mae = models.FloatField(null=True, blank=True)
    error_message = models.TextField(blank=True, default="")
    error_traceback = models.TextField(blank=True, default="")
    trigger_type = models.CharField(max_length=30, choices=Trigger.choices, default=Trigger.MANUAL)
    triggered_by = models.CharField(max_length=200, blank=True, default="")
    reason = models.TextField()
    alert = models.ForeignKey(
        Alert,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="training_runs",
        help_text="The condition that the new version is meant to end",
    )
    trainer = models.CharField(max_length=50, blank=True, default="")
    attempt = models.PositiveIntegerField(default=0, help_text="How often work on it has begun")
    lease_id = models.UUIDField(
        null=True, blank=True, help_text="Whose work on it counts; nobody else's is stored"
    )
    leased_until = models.DateTimeField(
        null=True, blank=True, help_text="When a run that nobody was heard of since is given up"
    )
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)
    progress_percent = models.FloatField(null=True, blank=True)
    progress_message = models.TextField(blank=True, default="")
    training_log = models.TextField(blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar[models.Manager[TrainingRun]] = TrainingRunQuerySet.as_manager()

    class Meta:
        db_table = "model_training_history"
        ordering: ClassVar = ["-training_start", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_training_history_one_unfinished",
                fields=["machine", "model_type"],
                condition=Q(training_status__in=["pending", "running"]),
            ),
            models.CheckConstraint(
                name="model_training_history_status",
                condition=Q(
                    training_status__in=["pending", "running", "completed", "failed", "cancelled"]
                ),
            ),
            models.CheckConstraint(
                name="model_training_history_trigger",
                condition=Q(
                    trigger_type__in=[
                        "manual",
                        "scheduled",
                        "drift_detected",
                        "performance_degradation",
                    ]
                ),
            ),
            models.CheckConstraint(
                name="model_training_history_data_window",
                condition=Q(training_data_end__gt=F("training_data_start")),
            ),
            models.CheckConstraint(
                name="model_training_history_end_when_finished",
                condition=Q(training_status__in=["pending", "running"], training_end__isnull=True)
                | Q(
                    training_status__in=["completed", "failed", "cancelled"],
                    training_end__isnull=False,
                    training_end__gte=F("training_start"),
                ),
            ),
            models.CheckConstraint(
                name="model_training_history_running_is_leased",
                condition=~Q(training_status="running") | Q(leased_until__isnull=False),
            ),
            models.CheckConstraint(
                name="model_training_history_percent",
                condition=Q(progress_percent__isnull=True) | Q(progress_percent__range=(0, 100)),
            ),
            models.CheckConstraint(
                name="model_training_history_completed_has_model",
                condition=~Q(training_status="completed") | Q(model__isnull=False),
            ),
            models.CheckConstraint(
                name="model_training_history_failed_says_why",
                condition=~Q(training_status="failed") | ~Q(error_message=""),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["model_type", "created_at"],
                name="model_training_history_asked",
            ),
            models.Index(
                fields=["leased_until"],
                name="model_training_history_leases",
                condition=Q(training_status="running"),
            ),
        ]

    def __str__(self) -> str:
        return f"training of {self.model_type} ({self.training_status})"
