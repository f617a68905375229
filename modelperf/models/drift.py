"""How series are judged, and where the judgement of each model version stands."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from modelperf.models.checks import StoredVerdict
from modelperf.models.keys import uuid7
from modelperf.models.registry import MODEL_TYPE_LENGTH, MODEL_TYPE_PATTERN, ModelVersion
from modelperf.stats.results import MetricKind, Status


class Policy(models.Model):
    """How the series of one model type are judged. A type without a row has the defaults."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH, unique=True)
    primary_metric = models.CharField(max_length=100, blank=True, default="")
    directions = models.JSONField(
        default=dict, blank=True, help_text="Kind of each custom metric: " + ", ".join(MetricKind)
    )
    min_effect = models.FloatField(default=0.02)
    limit_value = models.FloatField(null=True, blank=True)
    clear_value = models.FloatField(null=True, blank=True)
    expected_cadence_seconds = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "model_policies"
        verbose_name_plural = "policies"
        ordering: ClassVar = ["model_type"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="model_policies_type_slug", condition=Q(model_type__regex=MODEL_TYPE_PATTERN)
            ),
            models.CheckConstraint(
                name="model_policies_min_effect", condition=Q(min_effect__gte=0)
            ),
            models.CheckConstraint(
                name="model_policies_clear_needs_limit",
                condition=Q(clear_value__isnull=True) | Q(limit_value__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.model_type


class DriftState(models.Model):
    """Where the fold over one model version's evaluations stands, and its newest verdict.

    `is_stale` says that an evaluation before `last_evaluation_end` came late, was corrected or
    was deleted, so that the next judgement starts over; `rules` is what it was judged by.
    """

    model = models.OneToOneField(
        ModelVersion, on_delete=models.CASCADE, primary_key=True, related_name="drift_state"
    )
    metric = models.CharField(max_length=100)
    rules = models.JSONField()
    fold = models.JSONField()
    verdict = models.JSONField()
    status = models.CharField(max_length=20)
    last_evaluation_end = models.DateTimeField()
    last_evaluation_start = models.DateTimeField()
    is_stale = models.BooleanField(default=False)
    judged_at = models.DateTimeField()
    stored_verdict = models.ForeignKey(
        StoredVerdict,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Where the newest verdict is stored for good, if it is",
    )

    class Meta:
        db_table = "model_drift_states"
        constraints: ClassVar = [
            models.CheckConstraint(
                name="model_drift_states_status",
                condition=Q(status__in=[status.value for status in Status]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_id}: {self.status}"
