"""Triage: what is unresolved, worst first; acknowledge, resolve, reopen."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin import helpers
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from modelperf.admin.alerts_page import AlertPage, page_of
from modelperf.admin.base import WordsFilter, actor, component
from modelperf.models import Alert
from modelperf.models.alerts import severity_rank
from modelperf.services import alerts
from modelperf.templatetags.presentation import ago, number, span, whole, words

COUNTED = frozenset({"change_point", "collapse", "limit"})  # rules whose evaluations are counted


class LifeFilter(admin.SimpleListFilter):
    """Unresolved alerts unless another part of their life is asked for."""

    title = "state"
    parameter_name = "life"
    UNRESOLVED, ALL = "", "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the states and all."""
        return [*((state.value, words(state.value)) for state in Alert.State), (self.ALL, "All")]

    def choices(self, changelist: ChangeList) -> Any:
        """Name the default for what it is."""
        for choice in super().choices(changelist):
            yield choice | ({"display": "Unresolved"} if choice["display"] == "All" else {})
            break
        for lookup, title in self.lookup_choices:
            yield {
                "selected": self.value() == str(lookup),
                "query_string": changelist.get_query_string({self.parameter_name: lookup}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        """Keep what was asked for."""
        if self.value() == self.ALL:
            return queryset
        if self.value():
            return queryset.filter(state=self.value())
        return queryset.filter(is_resolved=False)


class ScopeFilter(admin.SimpleListFilter):
    """One machine's conditions, or the fleet's."""

    title = "scope"
    parameter_name = "scope"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the two scopes."""
        return [("machine", "One machine"), ("fleet", "Fleet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        """Keep one scope."""
        if self.value() is None:
            return queryset
        return queryset.filter(machine__isnull=self.value() == "fleet")


class ResolutionForm(forms.Form):
    """What was done about the alerts."""

    action = forms.ChoiceField(
        label="What was done",
        choices=[("", "Choose…"), *((name, words(name)) for name in alerts.RESOLUTIONS)],
    )
    notes = forms.CharField(
        required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 3, "cols": 60})
    )


@admin.register(Alert)
class AlertAdmin(AlertPage):
    """The list of conditions. Fields are read-only; a row changes by actions alone."""

    list_display = (
        "badge",
        "where",
        "model_type",
        "condition",
        "levels",
        "limit",
        "age",
        "since",
        "life",
    )
    list_display_links = ("where",)
    list_filter: ClassVar = [
        LifeFilter,
        ("severity", WordsFilter),
        ("alert_type", WordsFilter),
        "model_type",
        ScopeFilter,
    ]
    search_fields = ("machine__name", "alert_message")
    list_select_related = ("machine",)
    ordering = (severity_rank(), "-alert_timestamp", "-id")
    actions = ("acknowledge", "resolve", "reopen")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        """Leave out what the list does not show."""
        return super().get_queryset(request).defer("auto_action_result")

    @admin.display(description="severity")
    def badge(self, alert: Alert) -> SafeString:
        """Return glyph and word."""
        return component("severity", severity=alert.severity, badge=True)

    @admin.display(description="condition")
    def condition(self, alert: Alert) -> str:
        """Return the condition as a sentence, without the place that has its own column."""
        place, _, rest = alert.alert_message.partition(": ")
        named = alert.machine is not None and place.startswith(alert.machine.name)
        return capfirst(rest) if named and rest else alert.alert_message

    @admin.display(description="before → now")
    def levels(self, alert: Alert) -> str:
        """Return both levels; of data drift the distance, which has no before."""
        if alert.alert_type == Alert.Type.DATA_DRIFT:
            return f"KS {number(alert.current_metric_value)}"
        if alert.baseline_metric_value is None:
            return number(alert.current_metric_value)
        return f"{number(alert.baseline_metric_value)} → {number(alert.current_metric_value)}"

    @admin.display(description="machine")
    def where(self, alert: Alert) -> str:
        """Return the machine, or the fleet."""
        return alert.machine.name if alert.machine else "Fleet"

    @admin.display(description="limit")
    def limit(self, alert: Alert) -> str:
        """Return the limit and what it is one of: the metric, Z, a distance, a time."""
        if alert.threshold_value is None:
            return number(None)
        if alert.alert_type == Alert.Type.EVALUATION_MISSING:
            return f"one each {span(alert.threshold_value)}"
        of = "KS" if alert.alert_type == Alert.Type.DATA_DRIFT else ""
        if alert.alert_details.get("rule") in {"change_point", "collapse"}:
            of = "Z"
        return f"{of} {number(alert.threshold_value)}".lstrip()

    @admin.display(description="evaluations since", ordering="occurrences")
    def since(self, alert: Alert) -> str:
        """Return how many evaluations of its machine have shown the condition."""
        is_counted = alert.machine_id and alert.alert_details.get("rule") in COUNTED
        return whole(alert.occurrences if is_counted else None)

    @admin.display(description="opened", ordering="alert_timestamp")
    def age(self, alert: Alert) -> str:
        """Return how long ago it was opened."""
        return ago(alert.alert_timestamp)

    @admin.display(description="state")
    def life(self, alert: Alert) -> str:
        """Return the state, and who has it."""
        by = alert.metadata.get("acknowledged_by")
        is_taken = alert.state == Alert.State.ACKNOWLEDGED and by
        return f"{words(alert.state)} by {by}" if is_taken else words(alert.state)

    @admin.action(description="Acknowledge", permissions=["change"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        """Take note of the selected alerts."""
        verb = partial(_acknowledge, by=actor(request))
        self.run(request, queryset, verb, done="acknowledged", log="Acknowledged.")

    @admin.action(description="Reopen", permissions=["change"])
    def reopen(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        """Open the selected alerts again."""
        verb = partial(_reopen, by=actor(request))
        self.run(request, queryset, verb, done="reopened", log="Reopened.")

    @admin.action(description="Resolve…", permissions=["change"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Alert]) -> HttpResponse | None:
        """Ask what was done, then close the selected alerts."""
        form = ResolutionForm(request.POST if "confirm" in request.POST else None, prefix="done")
        if form.is_valid():
            what, notes = form.cleaned_data["action"], form.cleaned_data["notes"]
            verb = partial(_resolve, by=actor(request), action=what, notes=notes)
            self.run(request, queryset, verb, done="resolved", log=f"Resolved: {words(what)}.")
            return None
        return TemplateResponse(
            request,
            "admin/modelperf/alert/resolve.html",
            self._resolve_context(request, form, queryset),
        )

    def _resolve_context(
        self, request: HttpRequest, form: ResolutionForm, queryset: QuerySet[Alert]
    ) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": "Resolve alerts",
            "form": form,
            "opts": self.opts,
            "open_alerts": [alert for alert in queryset if not alert.is_resolved],
            "resolved_alerts": [alert for alert in queryset if alert.is_resolved],
            "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
            "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "select_across": request.POST.get("select_across", "0"),
            "page": page_of(request),
        }


def _acknowledge(alert: Alert, *, by: str) -> None:
    alerts.acknowledge(alert=alert, by=by)


def _reopen(alert: Alert, *, by: str) -> None:
    alerts.reopen(alert=alert, by=by)


def _resolve(alert: Alert, *, by: str, action: str, notes: str) -> None:
    alerts.resolve(alert=alert, by=by, action=action, notes=notes)
