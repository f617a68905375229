"""Row losses of A/B tests: what was observed, what it amounts to, and what each look has seen."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from modelperf.models.ab_tests import ABTest

UNIT_LENGTH = 200


class ABObservation(models.Model):
    """The loss of one unit: of both versions, or of the one it went to; the other is null then."""

    id = models.BigAutoField(primary_key=True)  # in order of observation
    # The unique key below is its index.
    test = models.ForeignKey(
        ABTest, on_delete=models.CASCADE, related_name="observations", db_index=False
    )
    unit = models.CharField(max_length=UNIT_LENGTH)
    loss_a = models.FloatField(null=True)
    loss_b = models.FloatField(null=True)
    revision = models.PositiveIntegerField(default=1)
    replaced = models.JSONField(default=list)  # what corrections replaced, when and by whom
    observed_at = models.DateTimeField()

    class Meta:
        db_table = "model_ab_observations"
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(name="model_ab_observations_key", fields=["test", "unit"]),
            models.CheckConstraint(
                name="model_ab_observations_loss",
                condition=Q(loss_a__isnull=False) | Q(loss_b__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.unit


class ABRowState(models.Model):
    """What the observations of a test amount to: the state of the fold, whatever their number."""

    class Form(models.TextChoices):
        PAIRS = "pairs"
        ARMS = "arms"

    test = models.OneToOneField(
        ABTest, primary_key=True, on_delete=models.CASCADE, related_name="row_state"
    )
    form = models.CharField(max_length=10, choices=Form.choices)
    rows_a = models.PositiveBigIntegerField(default=0)
    rows_b = models.PositiveBigIntegerField(default=0)
    fold = models.JSONField()
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "model_ab_row_states"
        constraints: ClassVar = [
            models.CheckConstraint(
                name="model_ab_row_states_form", condition=Q(form__in=["pairs", "arms"])
            )
        ]

    def __str__(self) -> str:
        return f"{self.rows_a} and {self.rows_b} rows"


class ABLook(models.Model):
    """What one look at the rows of a test has seen."""

    id = models.BigAutoField(primary_key=True)
    test = models.ForeignKey(ABTest, on_delete=models.CASCADE, related_name="looks", db_index=False)
    rows = models.PositiveBigIntegerField()
    looked_at = models.DateTimeField()
    n = models.PositiveBigIntegerField()
    mean_difference = models.FloatField()
    variance = models.FloatField()
    margin = models.FloatField()
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    e_value = models.FloatField()
    p_value = models.FloatField()

    class Meta:
        db_table = "model_ab_looks"
        ordering: ClassVar = ["rows"]
        constraints: ClassVar = [
            models.UniqueConstraint(name="model_ab_looks_key", fields=["test", "rows"])
        ]

    def __str__(self) -> str:
        return f"at {self.rows} rows"
