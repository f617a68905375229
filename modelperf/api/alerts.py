"""Alerts: what is going on, and the story of each."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from django.contrib.auth.models import User
from django.db.models import F, Q, QuerySet
from django.http import HttpResponse
from django_filters import Filter
from msgspec import Meta, Struct, structs

from modelperf.api import alerts_active, csv_pages
from modelperf.api.alerts_answers import (
    ActiveAlert,
    AlertAnswer,
    AlertDetail,
    AlertType,
    MemberAnswer,
    Severity,
    State,
    StepAnswer,
    ToldAnswer,
    named,
)
from modelperf.api.alerts_verbs import Triage, Username, etag
from modelperf.api.base import Answer, Rows, call, next_link, rows, shaped
from modelperf.api.cursors import BY_ID, Order, Page, next_address, page
from modelperf.api.filters import Filters, SeriesFilters
from modelperf.api.parameters import Cursor, Limit, ModelType, Time
from modelperf.models import Alert
from modelperf.services import alerts_history, notifications_told

WORST_FIRST: Final = Order(("rank", "-alert_timestamp", "-id"), (int, datetime, uuid.UUID))
ME, NONE = "me", "none"
# What stands in no cell of a table.
_STRUCTURED: Final = {"alert_details", "auto_action_result", "metadata"}
_IN_CSV: Final = tuple(
    name for name in AlertAnswer.__struct_encode_fields__ if name not in _STRUCTURED
)


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


class Whose(Filter):  # type: ignore[misc]
    """By the name of who has it, or by `none`."""

    def filter(self, qs: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        """Keep what is somebody's, or nobody's."""
        if value is None:
            return qs
        path, _, _ = self.field_name.partition("__")
        return qs.filter(
            **({f"{path}__isnull": True} if value == NONE else {self.field_name: value})
        )


class Said(Filter):  # type: ignore[misc]
    """By words of the message, or of the machine's name."""

    def filter(self, qs: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        """Keep what has the text in one of them, in capitals or not."""
        if value is None:
            return qs
        return qs.filter(Q(alert_message__icontains=value) | Q(machine__name__icontains=value))


class AlertFilters(ActiveAlertFilters):
    """By what became of them, by who has them, and by when they were opened."""

    alert_type = Filter()
    state = Filter()
    is_resolved = Filter()
    assignee = Whose("assignee__username")
    team = Whose("team__name")
    since = Filter("alert_timestamp", "gte")
    until = Filter("alert_timestamp", "lt")
    q = Said()
    fleet = Filter("machine", "isnull")


class AlertQuery(ActiveAlertQuery):
    """Which alerts are listed, resolved ones included; `since` and `until` bound when they opened.

    `assignee` is a username, `me` or `none`, `team` the name of a group or `none`. `q` is text
    in the message or in the machine's name. `fleet` keeps alerts of the fleet, or leaves them out.
    """

    filters: ClassVar[Filters] = AlertFilters
    limit: Limit = 100
    alert_type: AlertType | None = None
    state: State | None = None
    is_resolved: bool | None = None
    assignee: Username | None = None
    team: Username | None = None
    since: Time | None = None
    until: Time | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    fleet: bool | None = None
    format: Literal["json", "csv"] = "json"


class Alerts(Triage):
    """Alerts and their triage."""

    @call(takes=ActiveAlertQuery, answers=list[ActiveAlert], problems=(404,))
    def active(self, given: ActiveAlertQuery) -> Answer:
        """List unresolved alerts as a bare array, critical first, then newest.

        Those of retired machines are left out unless `machine_id` names one.
        """
        if given.machine_id:
            self.machine(given.machine_id)
        within = self.access.machine_ids
        found, cursor = alerts_active.rows(given, WORST_FIRST, within=within)
        link = next_address(self.request, cursor) if cursor else None
        return Answer(Rows(found), headers=next_link(link))

    @call(takes=AlertQuery, answers=Page[AlertAnswer])
    def browse(self, given: AlertQuery) -> Answer | HttpResponse:
        """List alerts, the newest first."""
        found = named(Alert.objects.within(self.access.machine_ids))
        given = structs.replace(given, assignee=self._username(given.assignee))
        if given.format == "json":
            return self.page(found, AlertAnswer, order=BY_ID, given=given)
        results, link = page(self.request, found, AlertAnswer, order=BY_ID, given=given)
        return csv_pages.answer(results, _IN_CSV, name="alerts", headers=next_link(link))

    @call(answers=AlertDetail, problems=(404,))
    def retrieve(self, id: uuid.UUID) -> Answer:
        """Tell all about an alert; of one of the fleet, which machines it is about.

        Its ETag, sent back as If-Match, lets a verb change no other state than this one.
        """
        alert = self.alert(id)
        (told,) = rows(named(Alert.objects.filter(pk=alert.pk)), AlertAnswer).shaped
        members = alert.members.in_order().annotate(
            machine_name=F("machine__name"), model_version=F("model__model_version")
        )
        told |= {
            "members": rows(members, MemberAnswer).shaped,
            "history": shaped(alerts_history.story(alert), list[StepAnswer]),
            "deliveries": shaped(notifications_told.deliveries_of(alert), list[ToldAnswer]),
        }
        return Answer(Rows(told), headers=etag(told["revision"]))

    def _username(self, name: str | None) -> str | None:
        """Return whose alerts are asked for; `me` is whoever is logged in."""
        if name != ME:
            return name
        user: User | None = self.access.user
        if user is None:
            raise self.refused("assignee", "A key has no alerts: send a username instead of me.")
        return user.get_username()
