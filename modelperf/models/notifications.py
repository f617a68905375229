"""Who is told what of alerts, by which way, and what became of it.

A *notice* is something there is to tell of an alert, written with it. For every *route* it is
decided whether it tells of it; what it tells goes in a *message* over the route's *channel*.
"""

from __future__ import annotations

from typing import ClassVar

import pghistory
from django.db import models
from django.db.models import Q

from modelperf.models.alerts import Alert
from modelperf.models.keys import uuid7
from modelperf.models.silences import Silence


class Channel(models.Model):
    """A place where messages go: its kind, and what that kind needs to know."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=30)
    settings = models.JSONField(default=dict, blank=True)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "notification_channels"
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Route(models.Model):
    """Which alerts are told over a channel, and when.

    Notices wait `group_seconds` for others to go with them; more than `most_per_hour` messages are
    gathered until the hour allows another. In quiet hours, which are of `quiet_timezone` and may
    go past midnight, what is of `quiet_severity` or less waits for their end.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    name = models.CharField(max_length=100, unique=True)
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="routes")
    matchers = models.JSONField(default=dict, blank=True)
    is_enabled = models.BooleanField(default=True)
    tells_resolved = models.BooleanField("tells of ends", default=True)
    group_seconds = models.PositiveIntegerField(default=30)
    most_per_hour = models.PositiveIntegerField(default=60)
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    quiet_timezone = models.CharField(max_length=64, default="UTC")
    quiet_severity = models.CharField(
        max_length=10, choices=Alert.Severity.choices, default=Alert.Severity.WARNING
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "notification_routes"
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="notification_routes_quiet_paired",
                condition=Q(quiet_from__isnull=True, quiet_until__isnull=True)
                | Q(quiet_from__isnull=False, quiet_until__isnull=False),
            ),
            models.CheckConstraint(
                name="notification_routes_group", condition=Q(group_seconds__lte=86_400)
            ),
            models.CheckConstraint(
                name="notification_routes_most", condition=Q(most_per_hour__gte=1)
            ),
        ]

    def __str__(self) -> str:
        return self.name


_RouteSnapshot = pghistory.create_event_model(
    Route,
    pghistory.InsertEvent(),
    pghistory.UpdateEvent(),
    pghistory.DeleteEvent(),
    obj_field=pghistory.ObjForeignKey(related_name="+", related_query_name="+"),
    context_field=pghistory.ContextJSONField(),
)


class RouteEvent(_RouteSnapshot):  # type: ignore[valid-type, misc]
    """A route as it was set, changed or removed; `pgh_context` says by whom."""

    class Meta:
        db_table = "notification_route_events"
        verbose_name = "route change"
        ordering: ClassVar = ["-pgh_created_at", "-pgh_id"]

    def __str__(self) -> str:
        return f"{self.pgh_label}: {self.name}"


class Notice(models.Model):
    """Something there is to tell of an alert; `says` is what it was like then.

    The id is the event id that every receiver sees, at every attempt the same.
    """

    class Kind(models.TextChoices):
        OPENED = "opened"
        REOPENED = "reopened"
        ROSE = "severity_rose"
        WOKE = "snooze_over"
        UNSILENCED = "silence_over"
        RESOLVED = "resolved"

    id = models.UUIDField(primary_key=True, default=uuid7)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    says = models.JSONField(default=dict)
    occurred_at = models.DateTimeField()
    routed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "notices"
        ordering: ClassVar = ["occurred_at", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="notices_kind",
                condition=Q(
                    kind__in=[
                        "opened",
                        "reopened",
                        "severity_rose",
                        "snooze_over",
                        "silence_over",
                        "resolved",
                    ]
                ),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["id"], name="notices_to_route", condition=Q(routed_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.says.get('message', self.alert_id)}"


class Message(models.Model):
    """What a route tells at once. `sealed_at` is when no more notices joined it: it was to be sent.

    It is sent by whoever holds its lease, at least once, and tried again until it is too old.
    `attempts_log` are the last attempts, each with its time and what came of it.
    """

    class Status(models.TextChoices):
        WAITING = "waiting"
        SENT = "sent"
        FAILED = "failed"
        DROPPED = "dropped"

    id = models.UUIDField(primary_key=True, default=uuid7)
    route = models.ForeignKey(
        Route, null=True, blank=True, on_delete=models.SET_NULL, related_name="messages"
    )
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="messages")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    is_held = models.BooleanField("waits for quiet hours", default=False)
    due_at = models.DateTimeField()
    sealed_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    attempts_log = models.JSONField(default=list, blank=True)
    lease_id = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "notification_messages"
        ordering: ClassVar = ["created_at", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="notification_messages_ended_paired",
                condition=Q(status="waiting", ended_at__isnull=True)
                | (~Q(status="waiting") & Q(ended_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="notification_messages_lease_paired",
                condition=Q(lease_id__isnull=True, leased_until__isnull=True)
                | Q(lease_id__isnull=False, leased_until__isnull=False),
            ),
            models.UniqueConstraint(
                name="notification_messages_one_gathers",
                fields=["route", "is_held"],
                condition=Q(status="waiting", sealed_at__isnull=True),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"], name="notification_messages_due", condition=Q(status="waiting")
            ),
            models.Index(fields=["route", "-sealed_at"], name="notification_messages_sealed"),
        ]

    def __str__(self) -> str:
        return f"{self.status}: {self.pk}"


class Delivery(models.Model):
    """What was decided of a notice for a route: told by a message, or why not."""

    class Decision(models.TextChoices):
        TOLD = "told"
        NOT_MATCHED = "not_matched"
        SILENCED = "silenced"
        SNOOZED = "snoozed"
        NOT_WANTED = "not_wanted"  # the route or its channel is off, or tells of no ends
        NEVER_TOLD = "never_told"  # the end of what this route had not told of
        OVER_BEFORE = "over_before"  # began and ended before the message went

    id = models.UUIDField(primary_key=True, default=uuid7)
    notice = models.ForeignKey(Notice, on_delete=models.CASCADE, related_name="deliveries")
    route = models.ForeignKey(
        Route, null=True, blank=True, on_delete=models.SET_NULL, related_name="deliveries"
    )
    route_name = models.CharField(max_length=100)
    decision = models.CharField(max_length=20, choices=Decision.choices)
    reason = models.TextField(blank=True, default="")
    silence = models.ForeignKey(
        Silence, null=True, blank=True, on_delete=models.SET_NULL, related_name="deliveries"
    )
    message = models.ForeignKey(
        Message, null=True, blank=True, on_delete=models.CASCADE, related_name="deliveries"
    )
    decided_at = models.DateTimeField()

    class Meta:
        db_table = "notice_deliveries"
        ordering: ClassVar = ["decided_at", "id"]
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [
            models.UniqueConstraint(name="notice_deliveries_once", fields=["notice", "route"]),
            models.CheckConstraint(
                name="notice_deliveries_told_paired",
                condition=Q(decision="told", message__isnull=False) | (~Q(decision="told")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.route_name}: {self.decision}"
