"""What became of alerts: every step of their lives, and what people said about them."""

from __future__ import annotations

from typing import ClassVar

import pghistory
from django.db import models

from modelperf.models.alerts import Alert
from modelperf.models.keys import uuid7

_Snapshot = pghistory.create_event_model(
    Alert,
    pghistory.InsertEvent(),
    pghistory.UpdateEvent(condition=pghistory.AnyChange("revision")),
    fields=[
        "id",
        "state",
        "severity",
        "occurrences",
        "revision",
        "model_version",
        "alert_timestamp",
        "alert_message",
        "current_metric_value",
        "peak_metric_value",
        "acknowledged_by",
        "snoozed_until",
        "snoozed_until_count",
        "snoozed_until_worse",
        "assignee",
        "team",
        "is_resolved",
        "resolved_at",
        "resolved_by",
        "resolution_action",
        "resolution_notes",
    ],
    obj_field=pghistory.ObjForeignKey(related_name="events", related_query_name="+"),
    context_field=pghistory.ContextJSONField(),
)


class AlertEvent(_Snapshot):  # type: ignore[valid-type, misc]
    """An alert as it was after a step of its life, whoever wrote it.

    `pgh_context` names the `actor`, and for people's steps the `verb` and a `note`; without one it
    was the system. What it was before is the event before.
    """

    class Meta:
        db_table = "model_alert_events"
        ordering: ClassVar = ["pgh_created_at", "pgh_id"]
        indexes: ClassVar = [
            models.Index(name="model_alert_events_of_alert", fields=["pgh_obj", "pgh_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.state}"


class AlertComment(models.Model):
    """What somebody said about an alert."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="comments")
    text = models.TextField()
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "model_alert_comments"
        ordering: ClassVar = ["created_at", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(name="model_alert_comments_text", condition=~models.Q(text="")),
        ]

    def __str__(self) -> str:
        return self.text
