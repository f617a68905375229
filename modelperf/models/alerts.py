"""Alerts: one row a condition, however many evaluations repeat it."""

from __future__ import annotations

import uuid
from typing import ClassVar, Final

import pgtrigger
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Case, IntegerField, Q, Value, When
from django.utils import timezone

from modelperf.models.keys import uuid7
from modelperf.models.registry import MODEL_TYPE_LENGTH, Machine, ModelVersion


def severity_rank() -> Case:
    """Return critical 0, warning 1, normal 2: severity as text would sort wrongly."""
    return Case(
        When(severity="critical", then=Value(0)),
        When(severity="warning", then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )


class AlertQuerySet(models.QuerySet["Alert"]):
    """Reads of alerts."""

    def unresolved(self) -> AlertQuerySet:
        """Keep open, acknowledged and snoozed alerts."""
        return self.filter(is_resolved=False)

    def worst_first(self) -> AlertQuerySet:
        """Order critical first, then newest."""
        return self.order_by(severity_rank(), "-alert_timestamp", "-id")

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> AlertQuerySet:
        """Keep what a limited key may see; None means all, fleet alerts included."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class AlertFields(models.Model):
    """The columns of an alert, shared by the table and its view.

    `last_seen_at` is when a look showed the condition last, `seen_through` the end of the newest
    evaluation that does, `told_through` the one that people were told of. `peak_metric_value` is
    the worst there was. `revision` grows with every step of the alert's life, never with mere
    occurrences. A snooze ends at a time, at so many occurrences, or when it gets worse than
    `snoozed_peak` or of higher severity; what is set of these holds, whichever comes first.
    """

    class Type(models.TextChoices):
        DRIFT_DETECTED = "drift_detected"
        PERFORMANCE_DEGRADATION = "performance_degradation"
        DATA_DRIFT = "data_drift"
        TRAINING_FAILED = "training_failed"
        RETRAINING_NOT_HELPING = "retraining_not_helping"
        AB_TEST_COMPLETED = "ab_test_completed"
        EVALUATION_MISSING = "evaluation_missing"

    class State(models.TextChoices):
        OPEN = "open"
        ACKNOWLEDGED = "acknowledged"
        SNOOZED = "snoozed"
        RESOLVED = "resolved"

    class Severity(models.TextChoices):
        NORMAL = "normal"
        WARNING = "warning"
        CRITICAL = "critical"

    id = models.UUIDField(primary_key=True, default=uuid7)
    alert_type = models.CharField(max_length=30, choices=Type.choices)
    condition_key = models.CharField(max_length=255)
    state = models.CharField(max_length=20, choices=State.choices, default=State.OPEN)
    occurrences = models.PositiveIntegerField(default=1)
    revision = models.PositiveIntegerField(default=1)
    severity = models.CharField(max_length=10, choices=Severity.choices)
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    model_version = models.PositiveIntegerField(null=True, blank=True)
    alert_timestamp = models.DateTimeField()
    alert_message = models.TextField()
    alert_details = models.JSONField(default=dict, blank=True)
    current_metric_value = models.FloatField(null=True, blank=True)
    threshold_value = models.FloatField(null=True, blank=True)
    baseline_metric_value = models.FloatField(null=True, blank=True)
    peak_metric_value = models.FloatField(null=True, blank=True)
    last_seen_at = models.DateTimeField(default=timezone.now)
    seen_through = models.DateTimeField(null=True, blank=True)
    told_through = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=200, blank=True, default="")
    snoozed_until = models.DateTimeField(null=True, blank=True)
    snoozed_until_count = models.PositiveIntegerField(null=True, blank=True)
    snoozed_until_worse = models.BooleanField(default=False)
    snoozed_peak = models.FloatField(null=True, blank=True)
    reopened_at = models.DateTimeField(null=True, blank=True)
    reopened_by = models.CharField(max_length=200, blank=True, default="")
    is_resolved = models.BooleanField(default=False)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolution_action = models.CharField(max_length=50, blank=True, default="")
    resolved_by = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001
    resolution_notes = models.TextField(blank=True, default="")
    auto_action_taken = models.BooleanField(default=False)
    auto_action_type = models.CharField(max_length=50, blank=True, default="")
    auto_action_result = models.JSONField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


# A change of any of these is a step in an alert's life: it makes a revision and an event.
LIFE: Final = (
    "state",
    "severity",
    "assignee",
    "team",
    "acknowledged_by",
    "snoozed_until",
    "snoozed_until_count",
    "snoozed_until_worse",
    "alert_timestamp",
    "resolution_action",
    "resolution_notes",
    "model_version",
)


class Alert(AlertFields):  # type: ignore[django-manager-missing]  # events: made by pghistory
    """One condition of one series or of the fleet, from its first sight to its resolution."""

    model = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="alerts"
    )
    machine = models.ForeignKey(
        Machine, null=True, blank=True, on_delete=models.PROTECT, related_name="alerts"
    )
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="alerts",
    )
    team = models.ForeignKey(
        Group, null=True, blank=True, on_delete=models.SET_NULL, related_name="alerts"
    )

    objects: ClassVar[models.Manager[Alert]] = AlertQuerySet.as_manager()

    class Meta:
        db_table = "model_alerts"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_alerts_one_unresolved",
                fields=["condition_key"],
                condition=Q(is_resolved=False),
            ),
            models.CheckConstraint(name="model_alerts_key_given", condition=~Q(condition_key="")),
            models.CheckConstraint(
                name="model_alerts_type",
                condition=Q(
                    alert_type__in=[
                        "drift_detected",
                        "performance_degradation",
                        "data_drift",
                        "training_failed",
                        "retraining_not_helping",
                        "ab_test_completed",
                        "evaluation_missing",
                    ]
                ),
            ),
            models.CheckConstraint(
                name="model_alerts_severity",
                condition=Q(severity__in=["normal", "warning", "critical"]),
            ),
            models.CheckConstraint(
                name="model_alerts_state",
                condition=Q(state__in=["open", "acknowledged", "snoozed"], is_resolved=False)
                | Q(state="resolved", is_resolved=True),
            ),
            models.CheckConstraint(
                name="model_alerts_resolution_paired",
                condition=Q(
                    is_resolved=False,
                    resolved_at__isnull=True,
                    resolved_by__isnull=True,
                    resolution_action="",
                )
                | (
                    Q(is_resolved=True, resolved_at__isnull=False, resolved_by__isnull=False)
                    & ~Q(resolution_action="")
                ),
            ),
            models.CheckConstraint(
                name="model_alerts_occurrences", condition=Q(occurrences__gte=1)
            ),
            models.CheckConstraint(
                name="model_alerts_snoozed_paired",
                condition=(
                    Q(state="snoozed")
                    & (
                        Q(snoozed_until__isnull=False)
                        | Q(snoozed_until_count__isnull=False)
                        | Q(snoozed_until_worse=True)
                    )
                )
                | (
                    ~Q(state="snoozed")
                    & Q(
                        snoozed_until__isnull=True,
                        snoozed_until_count__isnull=True,
                        snoozed_until_worse=False,
                        snoozed_peak__isnull=True,
                    )
                ),
            ),
            models.CheckConstraint(
                name="model_alerts_acknowledged_paired",
                condition=Q(acknowledged_at__isnull=True, acknowledged_by="")
                | (Q(acknowledged_at__isnull=False) & ~Q(acknowledged_by="")),
            ),
            models.CheckConstraint(
                name="model_alerts_reopened_paired",
                condition=Q(reopened_at__isnull=True, reopened_by="")
                | (Q(reopened_at__isnull=False) & ~Q(reopened_by="")),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                severity_rank(),
                models.F("alert_timestamp").desc(),
                models.F("id").desc(),
                name="model_alerts_worst_first",
                condition=Q(is_resolved=False),
            ),
            models.Index(
                models.F("resolved_at").desc(),
                models.F("id").desc(),
                name="model_alerts_resolved",
                condition=Q(is_resolved=True),
            ),
            models.Index(
                models.F("state"),
                severity_rank(),
                models.F("alert_timestamp").desc(),
                models.F("id").desc(),
                name="model_alerts_of_state",
                condition=Q(is_resolved=False),
            ),
            models.Index(fields=["condition_key"], name="model_alerts_condition"),
            models.Index(
                fields=["machine", "model_type"],
                name="model_alerts_series",
                condition=Q(is_resolved=False),
            ),
        ]
        triggers: ClassVar = [
            pgtrigger.Trigger(
                name="model_alerts_revise",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(*LIFE),
                func="NEW.revision = OLD.revision + 1; RETURN NEW;",
            )
        ]

    def __str__(self) -> str:
        return self.alert_message


class AlertMemberQuerySet(models.QuerySet["AlertMember"]):
    """Reads of the members of fleet alerts."""

    def present(self) -> AlertMemberQuerySet:
        """Keep the members that have not left."""
        return self.filter(left_at__isnull=True)

    def in_order(self) -> AlertMemberQuerySet:
        """Sort by machine, those that have left last."""
        return self.order_by(models.F("left_at").asc(nulls_first=True), "machine__name", "id")


class AlertMember(models.Model):
    """A machine among those that a fleet alert is about; it leaves when it is well again."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="members")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="+")
    model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    condition_key = models.CharField(max_length=255)
    details = models.JSONField(default=dict)
    joined_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[AlertMember]] = AlertMemberQuerySet.as_manager()

    class Meta:
        db_table = "model_alert_members"
        ordering: ClassVar = ["joined_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(name="model_alert_members_once", fields=["alert", "machine"]),
            models.CheckConstraint(
                name="model_alert_members_order",
                condition=Q(left_at__isnull=True) | Q(left_at__gte=models.F("joined_at")),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["condition_key"],
                name="model_alert_members_present",
                condition=Q(left_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.machine_id} in {self.alert_id}"
