"""Alerts: what is going on, and the verbs of triage."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from django.db.models import CharField, F, Value
from django_filters import Filter
from msgspec import Struct

from modelperf.api.authentication import TRIAGE
from modelperf.api.base import Answer, Endpoint, Rows, call, next_link, rows
from modelperf.api.cursors import BY_ID, Order, Page, page
from modelperf.api.filters import Filters, SeriesFilters
from modelperf.api.parameters import Cursor, Instant, Limit, ModelType, Notes
from modelperf.models import Alert, UnresolvedAlert
from modelperf.models.alerts import severity_rank
from modelperf.services import alerts

Severity = Literal["normal", "warning", "critical"]
State = Literal["open", "acknowledged", "snoozed", "resolved"]
Resolution = Literal[alerts.RESOLUTIONS]  # type: ignore[valid-type]
WORST_FIRST: Final = Order(("rank", "-alert_timestamp", "-id"), (int, datetime, uuid.UUID))


class ActiveAlert(Struct):
    """An unresolved alert; without a machine it is one of the fleet."""

    id: uuid.UUID
    alert_type: str
    severity: Severity
    model_type: str
    machine_id: uuid.UUID | None
    machine_name: str | None
    alert_message: str
    alert_timestamp: Instant
    is_resolved: bool
    auto_action_taken: bool
    state: State
    count: int
    assignee: str | None


class ActiveAlertFilters(SeriesFilters):
    """By series and by severity."""

    severity = Filter()


class ActiveAlertQuery(Struct):
    """Which unresolved alerts are listed; with a machine those of the fleet are left out."""

    filters: ClassVar[Filters] = ActiveAlertFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    severity: Severity | None = None
    cursor: Cursor | None = None
    limit: Limit = 500


class AlertAnswer(Struct):
    """One alert: a condition from its first sight to its resolution."""

    id: uuid.UUID
    alert_type: str
    condition_key: str
    state: State
    occurrences: int
    severity: Severity
    model_id: uuid.UUID | None
    model_type: str
    machine_id: uuid.UUID | None
    model_version: int | None
    alert_timestamp: Instant
    alert_message: str
    alert_details: dict[str, Any]
    current_metric_value: float | None
    threshold_value: float | None
    baseline_metric_value: float | None
    is_resolved: bool
    resolved_at: Instant | None
    resolution_action: str
    resolved_by: str | None
    resolution_notes: str
    auto_action_taken: bool
    auto_action_type: str
    auto_action_result: Any
    metadata: dict[str, Any]
    created_at: Instant


class MemberAnswer(Struct):
    """A machine that a fleet alert is about; `left_at` tells when it was no longer."""

    machine_id: uuid.UUID
    machine_name: str
    model_id: uuid.UUID
    model_version: int
    details: dict[str, Any]
    joined_at: Instant
    left_at: Instant | None


class AlertDetail(AlertAnswer):
    """One alert with its members, who have left last; only alerts of the fleet have any."""

    members: list[MemberAnswer]


class AlertFilters(ActiveAlertFilters):
    """By what became of them, too."""

    state = Filter()
    is_resolved = Filter()


class AlertQuery(ActiveAlertQuery):
    """Which alerts are listed, resolved ones included."""

    filters: ClassVar[Filters] = AlertFilters
    limit: Limit = 100
    state: State | None = None
    is_resolved: bool | None = None


class Resolving(Struct):
    """What was done about an alert."""

    action: Resolution
    notes: Notes = ""


class Alerts(Endpoint):
    """Alerts and their triage."""

    @call(takes=ActiveAlertQuery, answers=list[ActiveAlert], problems=(404,))
    def active(self, given: ActiveAlertQuery) -> Answer:
        """List unresolved alerts as a bare array, critical first, then newest.

        Those of retired machines are left out unless `machine_id` names one.
        """
        if given.machine_id:
            self.machine(given.machine_id)
        visible = UnresolvedAlert.objects.within(self.access.machine_ids)
        found = self.current(visible, given.machine_id)
        # Nobody can be assigned yet, which is what null says.
        nobody = Value(None, output_field=CharField())
        found = found.annotate(rank=severity_rank(), count=F("occurrences"), assignee=nobody)
        results, link = page(self.request, found, ActiveAlert, order=WORST_FIRST, given=given)
        return Answer(Rows(results), headers=next_link(link))

    @call(takes=AlertQuery, answers=Page[AlertAnswer])
    def browse(self, given: AlertQuery) -> Answer:
        """List alerts, the newest first."""
        found = Alert.objects.within(self.access.machine_ids)
        return self.page(found, AlertAnswer, order=BY_ID, given=given)

    @call(answers=AlertDetail, problems=(404,))
    def retrieve(self, id: uuid.UUID) -> dict[str, Any]:
        """Tell about an alert; of one of the fleet, which machines it is about."""
        alert = self._alert(id)
        members = alert.members.in_order().annotate(
            machine_name=F("machine__name"), model_version=F("model__model_version")
        )
        return {
            **{name: getattr(alert, name) for name in AlertAnswer.__struct_fields__},
            "members": rows(members, MemberAnswer).shaped,
        }

    @call(answers=AlertAnswer, scope=TRIAGE, problems=(404, 409))
    def acknowledge(self, id: uuid.UUID) -> Alert:
        """Take note of an alert."""
        return alerts.acknowledge(alert=self._alert(id), by=self.actor)

    @call(takes=Resolving, answers=AlertAnswer, scope=TRIAGE, style="body", problems=(404, 409))
    def resolve(self, given: Resolving, id: uuid.UUID) -> Alert:
        """Close an alert with what was done about it."""
        return alerts.resolve(
            alert=self._alert(id), by=self.actor, action=given.action, notes=given.notes
        )

    @call(answers=AlertAnswer, scope=TRIAGE, problems=(404, 409))
    def reopen(self, id: uuid.UUID) -> Alert:
        """Open a resolved alert again."""
        return alerts.reopen(alert=self._alert(id), by=self.actor)

    def _alert(self, id: uuid.UUID) -> Alert:
        found = Alert.objects.within(self.access.machine_ids)
        alert: Alert = self.one(found, id, "Alert not found")
        return alert
