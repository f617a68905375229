"""The three database views that dashboards query, as read-only models.

They are unmanaged: `modelperf/sql/views` defines them and a migration creates them.
"""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models

from modelperf.models.ab_tests import ABTestFields
from modelperf.models.alerts import AlertFields, severity_rank
from modelperf.models.metrics import Evaluation


class LatestPerformanceQuerySet(models.QuerySet["LatestModelPerformance"]):
    """Reads of the newest evaluations."""

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> LatestPerformanceQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class LatestModelPerformance(Evaluation):
    """v_latest_model_performance: the newest evaluation per machine and type."""

    id = models.UUIDField(primary_key=True)
    model_id = models.UUIDField()
    machine_id = models.UUIDField()
    machine_name = models.CharField(max_length=200)
    machine_type = models.CharField(max_length=100)

    objects: ClassVar[models.Manager[LatestModelPerformance]] = (
        LatestPerformanceQuerySet.as_manager()
    )

    class Meta:
        managed = False
        db_table = "v_latest_model_performance"

    def __str__(self) -> str:
        return f"{self.machine_name} · {self.model_type}"


class ActiveABTestQuerySet(models.QuerySet["ActiveABTest"]):
    """Reads of running tests."""

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> ActiveABTestQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class ActiveABTest(ABTestFields):
    """v_active_ab_tests: the running tests, with their age in hours."""

    machine_id = models.UUIDField()
    model_a_id = models.UUIDField()
    model_b_id = models.UUIDField()
    winner_model_id = models.UUIDField(null=True)
    machine_name = models.CharField(max_length=200)
    test_duration_hours = models.FloatField()

    objects: ClassVar[models.Manager[ActiveABTest]] = ActiveABTestQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "v_active_ab_tests"

    def __str__(self) -> str:
        return self.test_name


class UnresolvedAlertQuerySet(models.QuerySet["UnresolvedAlert"]):
    """Reads of unresolved alerts with their machines."""

    def worst_first(self) -> UnresolvedAlertQuerySet:
        """Order critical first, then newest."""
        return self.order_by(severity_rank(), "-alert_timestamp", "-id")

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> UnresolvedAlertQuerySet:
        """Keep what a limited key may see; None means all, fleet alerts included."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class UnresolvedAlert(AlertFields):
    """v_unresolved_model_alerts: what somebody has to look at, with its age in hours."""

    model_id = models.UUIDField(null=True)
    machine_id = models.UUIDField(null=True)
    machine_name = models.CharField(max_length=200, null=True)  # noqa: DJ001
    machine_type = models.CharField(max_length=100, null=True)  # noqa: DJ001
    assignee_id = models.IntegerField(null=True)
    assignee = models.CharField(max_length=150, null=True)  # noqa: DJ001
    team_id = models.IntegerField(null=True)
    team = models.CharField(max_length=150, null=True)  # noqa: DJ001
    age_hours = models.FloatField()

    objects: ClassVar[models.Manager[UnresolvedAlert]] = UnresolvedAlertQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "v_unresolved_model_alerts"

    def __str__(self) -> str:
        return self.alert_message
