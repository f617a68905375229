"""Checks of the fleet, and the verdicts that judging has stored."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import Q

from modelperf.models.keys import uuid7
from modelperf.models.registry import MODEL_TYPE_LENGTH, Machine, ModelVersion
from modelperf.stats.results import Status


class CheckRunQuerySet(models.QuerySet["CheckRun"]):
    """Reads of checks."""

    def newest_end(self) -> datetime | None:
        """Return when the newest check of whole model types ended."""
        whole = self.filter(machine__isnull=True).order_by("-finished_at")
        return whole.values_list("finished_at", flat=True).first()


class CheckRun(models.Model):
    """One check over the series of the fleet, stored when it has ended.

    `n_series` and `n_rejected` are the two numbers of its Benjamini-Hochberg step: the false
    discovery rate times `n_rejected` (at least 1) over `n_series` is the cut-off of p, also for
    what is recorded until the next check.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    started_by = models.CharField(max_length=200)
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH, blank=True, default="")
    machine = models.ForeignKey(Machine, null=True, blank=True, on_delete=models.PROTECT)
    n_series = models.PositiveIntegerField()
    n_rejected = models.PositiveIntegerField()
    n_judged = models.PositiveIntegerField()
    n_skipped = models.PositiveIntegerField(
        default=0, help_text="Series that something was recorded for meanwhile"
    )
    summary = models.JSONField(default=dict)

    objects: ClassVar[models.Manager[CheckRun]] = CheckRunQuerySet.as_manager()

    class Meta:
        db_table = "model_check_runs"
        ordering: ClassVar = ["-finished_at", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="model_check_runs_rejected", condition=Q(n_rejected__lte=models.F("n_series"))
            ),
            models.CheckConstraint(
                name="model_check_runs_ended",
                condition=Q(finished_at__gte=models.F("started_at")),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["-finished_at"], name="model_check_runs_newest")]

    def __str__(self) -> str:
        return f"Check of {self.finished_at:%Y-%m-%d %H:%M}"


class VerdictQuerySet(models.QuerySet["StoredVerdict"]):
    """Reads of stored verdicts."""

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> VerdictQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class StoredVerdict(models.Model):
    """The outcome of judging a model version, with what it takes to recompute it.

    The verdict is a function of `rules`, of `fold` (the state before the last evaluation) and of
    the evaluations at positions `first_position` to `last_position`. Where the state changed or
    an alert was touched, those stand in `inputs`; otherwise they are read from the evaluations
    and their revisions as of `judged_at`, and `digest` tells whether these are still the same.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    check_run = models.ForeignKey(
        CheckRun, null=True, blank=True, on_delete=models.SET_NULL, related_name="verdicts"
    )
    model = models.ForeignKey(
        ModelVersion, on_delete=models.CASCADE, related_name="verdicts", db_index=False
    )
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="verdicts")
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    metric = models.CharField(max_length=100)
    status = models.CharField(max_length=20)
    p_value = models.FloatField(null=True)
    verdict = models.JSONField()
    rules = models.JSONField()
    fold = models.JSONField()
    first_position = models.PositiveIntegerField()
    last_position = models.PositiveIntegerField()
    last_evaluation_end = models.DateTimeField()
    last_evaluation_start = models.DateTimeField()
    digest = models.BigIntegerField()
    inputs = models.JSONField(null=True)
    alert = models.JSONField(default=dict)
    judged_at = models.DateTimeField()

    objects: ClassVar[models.Manager[StoredVerdict]] = VerdictQuerySet.as_manager()

    class Meta:
        db_table = "model_verdicts"
        ordering: ClassVar = ["-judged_at", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="model_verdicts_status",
                condition=Q(status__in=[status.value for status in Status]),
            ),
            models.CheckConstraint(
                name="model_verdicts_positions",
                condition=Q(last_position__gte=models.F("first_position")),
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["model", "-judged_at"], name="model_verdicts_of_model"),
        ]

    def __str__(self) -> str:
        return f"{self.model_id}: {self.status}"
