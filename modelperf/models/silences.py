"""Silences: conditions that nobody is told of for a while. They are recorded all the same."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import pghistory
from django.db import models
from django.db.models import F, Q

from modelperf.models.keys import uuid7


class SilenceQuerySet(models.QuerySet["Silence"]):
    """Reads of silences."""

    def in_force(self, at: datetime) -> SilenceQuerySet:
        """Keep those that have begun and not ended."""
        return self.filter(starts_at__lte=at, ends_at__gt=at)


class Silence(models.Model):  # type: ignore[django-manager-missing]  # events: made by pghistory
    """Matchers, a reason, an owner and an end. Ended early, `ends_at` is that moment."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    matchers = models.JSONField(default=dict)
    reason = models.TextField()
    owner = models.CharField(max_length=200)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[Silence]] = SilenceQuerySet.as_manager()

    class Meta:
        db_table = "silences"
        ordering: ClassVar = ["-ends_at", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(name="silences_order", condition=Q(ends_at__gte=F("starts_at"))),
            models.CheckConstraint(name="silences_reason", condition=~Q(reason="")),
            models.CheckConstraint(name="silences_owner", condition=~Q(owner="")),
        ]

    def __str__(self) -> str:
        return self.reason


_Snapshot = pghistory.create_event_model(
    Silence,
    pghistory.InsertEvent(),
    pghistory.UpdateEvent(),
    obj_field=pghistory.ObjForeignKey(related_name="events", related_query_name="+"),
    context_field=pghistory.ContextJSONField(),
)


class SilenceEvent(_Snapshot):  # type: ignore[valid-type, misc]
    """A silence as it was set or changed; `pgh_context` says by whom."""

    class Meta:
        db_table = "silence_events"
        verbose_name = "silence change"
        ordering: ClassVar = ["-pgh_created_at", "-pgh_id"]

    def __str__(self) -> str:
        return f"{self.pgh_label}: {self.reason}"
