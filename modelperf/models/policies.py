"""How series are judged and where their trainings take data from: settings that inherit."""

from __future__ import annotations

from typing import ClassVar

import pghistory
from django.db import models
from django.db.models import F, Q

from modelperf.models.keys import uuid7
from modelperf.models.registry import MODEL_TYPE_LENGTH, MODEL_TYPE_PATTERN, Machine
from modelperf.stats.results import MetricKind


def _check(setting: str, says: str, condition: Q) -> models.CheckConstraint:
    """Return the constraint on a setting where it is set; its code names the setting."""
    return models.CheckConstraint(
        name=f"model_policies_{setting}",
        condition=Q(**{f"{setting}__isnull": True}) | condition,
        violation_error_code=setting,
        violation_error_message=f"{setting} {says}.",
    )


class AfterTraining(models.TextChoices):
    """What becomes of a version that a run has trained."""

    WAIT = "wait"
    ACTIVATE = "activate"
    TEST = "test"


class Policy(models.Model):
    """Settings of one model type, or of one machine's series of it.

    A setting that is null is inherited: a machine's from its type's row, a type's from the
    defaults, which stand in `services.policies.PolicyValues` and nowhere else.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    machine = models.ForeignKey(
        Machine, on_delete=models.PROTECT, related_name="policies", null=True, blank=True
    )
    primary_metric = models.CharField(max_length=100, null=True, blank=True)  # noqa: DJ001  null inherits
    directions = models.JSONField(
        null=True, blank=True, help_text="Kind of each custom metric: " + ", ".join(MetricKind)
    )
    min_effect = models.FloatField(null=True, blank=True)
    limit_value = models.FloatField(null=True, blank=True)
    clear_value = models.FloatField(null=True, blank=True)
    limit_hits = models.PositiveIntegerField(null=True, blank=True)
    limit_windows = models.PositiveIntegerField(null=True, blank=True)
    limit_clear_windows = models.PositiveIntegerField(null=True, blank=True)
    q = models.FloatField("false discovery rate", null=True, blank=True)
    min_evaluations = models.PositiveIntegerField(null=True, blank=True)
    label_delay_seconds = models.PositiveIntegerField(null=True, blank=True)
    expected_cadence_seconds = models.PositiveIntegerField(null=True, blank=True)
    alert_on_outlier = models.BooleanField(null=True, blank=True)
    season = models.JSONField(null=True, blank=True)
    fleet_alert_machines = models.PositiveIntegerField(null=True, blank=True)
    fleet_alert_share = models.FloatField(null=True, blank=True)
    training_source = models.JSONField(null=True, blank=True)
    trainer = models.JSONField(null=True, blank=True)
    training_window_days = models.PositiveIntegerField(null=True, blank=True)
    train_since_change = models.BooleanField(null=True, blank=True)
    training_retries = models.PositiveIntegerField(null=True, blank=True)
    retrain_automatically = models.BooleanField(null=True, blank=True)
    retrain_every_seconds = models.PositiveIntegerField(null=True, blank=True)
    retrain_cooldown_seconds = models.PositiveIntegerField(null=True, blank=True)
    retrain_tries = models.PositiveIntegerField(null=True, blank=True)
    retrain_daily_cap = models.PositiveIntegerField(null=True, blank=True)
    after_training = models.CharField(  # noqa: DJ001  null inherits
        max_length=20, choices=AfterTraining.choices, null=True, blank=True
    )
    test_duration_hours = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "model_policies"
        verbose_name_plural = "policies"
        ordering: ClassVar = ["model_type", F("machine__name").asc(nulls_first=True)]
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_policies_one_a_type",
                fields=["model_type"],
                condition=Q(machine__isnull=True),
                violation_error_message="This model type has a policy: change it.",
            ),
            models.UniqueConstraint(
                name="model_policies_one_a_series",
                fields=["machine", "model_type"],
                condition=Q(machine__isnull=False),
                violation_error_message="This machine has a policy of the type: change it.",
            ),
            models.CheckConstraint(
                name="model_policies_type_slug", condition=Q(model_type__regex=MODEL_TYPE_PATTERN)
            ),
            _check("min_effect", "is not negative", Q(min_effect__gte=0)),
            # A machine's limit may be its type's.
            _check(
                "clear_value",
                "needs a limit_value",
                Q(limit_value__isnull=False) | Q(machine__isnull=False),
            ),
            _check("limit_hits", "lies between 1 and 100", Q(limit_hits__range=(1, 100))),
            _check("limit_windows", "lies between 1 and 100", Q(limit_windows__range=(1, 100))),
            _check(
                "limit_clear_windows",
                "lies between 1 and 100",
                Q(limit_clear_windows__range=(1, 100)),
            ),
            _check("q", "is above 0 and at most 0.2", Q(q__gt=0, q__lte=0.2)),
            _check(
                "min_evaluations", "lies between 15 and 400", Q(min_evaluations__range=(15, 400))
            ),
            _check("label_delay_seconds", "is not negative", Q(label_delay_seconds__gte=0)),
            _check("expected_cadence_seconds", "is positive", Q(expected_cadence_seconds__gte=1)),
            _check("fleet_alert_machines", "is at least 2", Q(fleet_alert_machines__gte=2)),
            _check(
                "fleet_alert_share",
                "is above 0 and at most 1",
                Q(fleet_alert_share__gt=0, fleet_alert_share__lte=1),
            ),
            _check(
                "training_window_days",
                "lies between 1 and 3660",
                Q(training_window_days__range=(1, 3660)),
            ),
            _check("training_retries", "is at most 10", Q(training_retries__lte=10)),
            _check(
                "retrain_every_seconds",
                "is at least an hour",
                Q(retrain_every_seconds__gte=3600),
            ),
            _check("retrain_tries", "lies between 1 and 20", Q(retrain_tries__range=(1, 20))),
            _check(
                "after_training",
                "is wait, activate or test",
                Q(after_training__in=["wait", "activate", "test"]),
            ),
            _check(
                "test_duration_hours",
                "lies between 0.1 and 8784",
                Q(test_duration_hours__range=(0.1, 8784)),
            ),
        ]

    def __str__(self) -> str:
        return self.model_type if self.machine is None else f"{self.model_type} · {self.machine}"


_Snapshot = pghistory.create_event_model(
    Policy,
    pghistory.InsertEvent(),
    pghistory.UpdateEvent(),
    pghistory.DeleteEvent(),
    obj_field=pghistory.ObjForeignKey(related_name="+", related_query_name="+"),
    context_field=pghistory.ContextJSONField(),
)


class PolicyEvent(_Snapshot):  # type: ignore[valid-type, misc]
    """A policy as it was set, changed or removed, whoever wrote it; `pgh_context` says by whom."""

    class Meta:
        db_table = "model_policy_events"
        verbose_name = "policy change"
        ordering: ClassVar = ["-pgh_created_at", "-pgh_id"]
        indexes: ClassVar = [
            models.Index(name="model_policy_events_of_type", fields=["model_type", "-pgh_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.pgh_label}: {self.model_type}"
