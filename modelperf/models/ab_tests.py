"""A/B tests: two versions of one series compared on the same windows."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from modelperf.models.keys import uuid7
from modelperf.models.registry import MODEL_TYPE_LENGTH, Machine, ModelVersion
from modelperf.models.training import TrainingRun


class ABTestQuerySet(models.QuerySet["ABTest"]):
    """Reads of A/B tests."""

    def running(self) -> ABTestQuerySet:
        """Keep the tests under way."""
        return self.filter(test_status=ABTest.Status.RUNNING)

    def of_series(self, *, machine_id: uuid.UUID, model_type: str) -> ABTestQuerySet:
        """Keep the tests of one series."""
        return self.filter(machine_id=machine_id, model_type=model_type)

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> ABTestQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class ABTestFields(models.Model):
    """The columns of an A/B test, shared by the table and its view."""

    class Status(models.TextChoices):
        PLANNED = "planned"
        RUNNING = "running"
        COMPLETED = "completed"
        CANCELLED = "cancelled"

    class Decision(models.TextChoices):
        PROMOTE_A = "promote_a"
        PROMOTE_B = "promote_b"
        NO_WINNER = "no_winner"
        MANUAL_REVIEW = "manual_review"

    id = models.UUIDField(primary_key=True, default=uuid7)
    test_name = models.CharField(max_length=200)
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    model_a_version = models.PositiveIntegerField()
    model_b_version = models.PositiveIntegerField()
    test_start = models.DateTimeField()
    test_end = models.DateTimeField(null=True, blank=True)
    test_status = models.CharField(max_length=20, choices=Status.choices, default=Status.RUNNING)
    traffic_split_a = models.FloatField(default=0.5)
    traffic_split_b = models.FloatField(default=0.5)
    model_a_metrics = models.JSONField(default=dict, blank=True)
    model_b_metrics = models.JSONField(default=dict, blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    winner_declared_at = models.DateTimeField(null=True, blank=True)
    statistical_significance = models.FloatField(null=True, blank=True)
    confidence_level = models.FloatField(default=0.95)
    decision = models.CharField(max_length=20, choices=Decision.choices, null=True, blank=True)  # noqa: DJ001
    decision_notes = models.TextField(blank=True, default="")
    decided_by = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001
    decided_at = models.DateTimeField(null=True, blank=True)
    created_by = models.CharField(max_length=200, blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class ABTest(ABTestFields):
    """Two versions of one series on the same windows, from a start to an end."""

    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="ab_tests")
    training_run = models.ForeignKey(
        TrainingRun,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="ab_tests",
        help_text="The run for whose version the test started by itself",
    )
    model_a = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    model_b = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    winner_model = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    # What does not matter, in the unit of the loss; null: 1 % of the mean absolute loss.
    margin = models.FloatField(null=True, blank=True)
    min_duration_seconds = models.FloatField(default=0)

    objects: ClassVar[models.Manager[ABTest]] = ABTestQuerySet.as_manager()

    class Meta:
        db_table = "model_ab_tests"
        verbose_name = "A/B test"
        ordering: ClassVar = ["-test_start", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_ab_tests_one_running",
                fields=["machine", "model_type"],
                condition=Q(test_status="running"),
            ),
            models.CheckConstraint(
                name="model_ab_tests_status",
                condition=Q(test_status__in=["planned", "running", "completed", "cancelled"]),
            ),
            models.CheckConstraint(
                name="model_ab_tests_decision",
                condition=Q(decision__isnull=True)
                | Q(decision__in=["promote_a", "promote_b", "no_winner", "manual_review"]),
            ),
            models.CheckConstraint(
                name="model_ab_tests_two_models", condition=~Q(model_a=F("model_b"))
            ),
            models.CheckConstraint(
                name="model_ab_tests_end_after_start",
                condition=Q(test_end__isnull=True) | Q(test_end__gt=F("test_start")),
            ),
            models.CheckConstraint(
                name="model_ab_tests_split",
                condition=Q(
                    traffic_split_a__gt=0,
                    traffic_split_b__gt=0,
                    traffic_split_b__gte=0.999999 - F("traffic_split_a"),
                    traffic_split_b__lte=1.000001 - F("traffic_split_a"),
                ),
            ),
            models.CheckConstraint(
                name="model_ab_tests_confidence",
                condition=Q(confidence_level__gt=0, confidence_level__lt=1),
            ),
            models.CheckConstraint(
                name="model_ab_tests_margin", condition=Q(margin__isnull=True) | Q(margin__gte=0)
            ),
            models.CheckConstraint(
                name="model_ab_tests_min_duration", condition=Q(min_duration_seconds__gte=0)
            ),
            models.CheckConstraint(
                name="model_ab_tests_winner_paired",
                condition=Q(winner_model__isnull=True, winner_declared_at__isnull=True)
                | Q(winner_model__isnull=False, winner_declared_at__isnull=False),
            ),
            models.CheckConstraint(
                name="model_ab_tests_winner_is_an_arm",
                condition=Q(winner_model__isnull=True)
                | Q(winner_model=F("model_a"))
                | Q(winner_model=F("model_b")),
            ),
            models.CheckConstraint(
                name="model_ab_tests_decision_paired",
                condition=Q(decision__isnull=True, decided_by__isnull=True, decided_at__isnull=True)
                | Q(decision__isnull=False, decided_by__isnull=False, decided_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.test_name

    @property
    def counts_from(self) -> datetime:
        """When the first window has passed: rows decide nothing before."""
        return self.test_start + timedelta(seconds=self.min_duration_seconds)
