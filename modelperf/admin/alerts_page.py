"""The page of one alert: its story, and what can be done about it."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse

from modelperf.admin.base import ReadOnlyAdmin
from modelperf.models import Alert
from modelperf.templatetags.presentation import ago, moment, number


class AlertPage(ReadOnlyAdmin):
    """Shows one alert; what it offers to do are the actions of the list."""

    fieldsets = (
        (None, {"fields": ("badge", "alert_message", "where", "model_type", "model_version")}),
        ("Numbers", {"fields": ("now", "before", "limit", "since", "alert_details")}),
        (
            "Life",
            {
                "fields": (
                    "life",
                    "opened",
                    "acknowledged",
                    "resolved_at",
                    "resolved_by",
                    "resolution_action",
                    "resolution_notes",
                    "condition_key",
                )
            },
        ),
    )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Offer the list's verbs on the page of one alert too, and the way to its series."""
        alert: Alert = context["original"]
        may_change = self.has_change_permission(request)
        more = {
            "verbs": _verbs(alert) if may_change else [],
            "series_page": _series_page(alert),
            "members": alert.members.in_order().select_related("machine", "model"),
        }
        return super().render_change_form(request, context | more, *args, **kwargs)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Alert], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Return to the page of the one alert where the verb was chosen there."""
        response = super().response_action(request, queryset, *args, **kwargs)
        page = page_of(request)
        if page and isinstance(response, HttpResponseRedirect):
            return redirect("admin:modelperf_alert_change", page)
        return response

    @admin.display(description="now")
    def now(self, alert: Alert) -> str:
        """Return the level now; of data drift the distance from the reference."""
        is_distance = alert.alert_type == Alert.Type.DATA_DRIFT
        text = number(alert.current_metric_value)
        return f"KS {text}" if is_distance else text

    @admin.display(description="before")
    def before(self, alert: Alert) -> str:
        """Return the level before."""
        return number(alert.baseline_metric_value)

    @admin.display(description="opened")
    def opened(self, alert: Alert) -> str:
        """Return when it was opened."""
        return f"{moment(alert.alert_timestamp)}, {ago(alert.alert_timestamp)}"

    @admin.display(description="acknowledged by")
    def acknowledged(self, alert: Alert) -> str:
        """Return who took note of it."""
        return str(alert.metadata.get("acknowledged_by", "nobody yet"))


def _verbs(alert: Alert) -> list[tuple[str, str]]:
    """Return what can be done about an alert in its state, as actions of the list and labels."""
    if alert.is_resolved:
        return [("reopen", "Reopen")]
    take = [("acknowledge", "Acknowledge")] if alert.state != Alert.State.ACKNOWLEDGED else []
    return [*take, ("resolve", "Resolve…")]


def _series_page(alert: Alert) -> str:
    if alert.machine_id is None:
        return ""
    series = {"machine": alert.machine_id, "type": alert.model_type}
    return f"{reverse('model-performance')}?{urlencode(series)}"


def page_of(request: HttpRequest) -> uuid.UUID | None:
    """Return the alert on whose page a verb was chosen."""
    try:
        return uuid.UUID(request.POST["page"])
    except (KeyError, ValueError):
        return None
