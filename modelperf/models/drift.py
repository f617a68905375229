"""Where the judgement of each model version stands."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from modelperf.models.checks import StoredVerdict
from modelperf.models.registry import ModelVersion
from modelperf.stats.results import Status


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
