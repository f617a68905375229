"""The desk: what is unresolved, worst first, with what one needs to know of each."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString

from modelperf.admin.alerts_actions import AlertVerbs
from modelperf.admin.alerts_filters import FILTERS, LifeFilter, identified
from modelperf.admin.alerts_list import AlertList, AlertPaginator, changed_at, drawing, metric_of
from modelperf.admin.alerts_page import AlertPage
from modelperf.admin.alerts_words import condition
from modelperf.admin.base import component
from modelperf.models import Alert, AlertMember
from modelperf.models.alerts import severity_rank
from modelperf.services.alerts_thresholds import OTHERS
from modelperf.templatetags.presentation import (
    NOTHING,
    actor,
    ago,
    day,
    iso,
    moment,
    number,
    span,
    whole,
    words,
)

GLYPHS: Final = {"open": "open", "acknowledged": "ack", "snoozed": "snooze", "resolved": "ok"}


@admin.register(Alert)
class AlertAdmin(AlertPage, AlertVerbs):
    """The list of conditions. Fields are read-only; a row changes by actions alone."""

    class Media:
        css: ClassVar = {"all": ["css/triage.css"]}

    list_display = (
        "badge",
        "condition",
        "where",
        "levels",
        "since",
        "age",
        "seen",
        "spark",
        "life",
        "holder",
    )
    list_display_links = ("condition",)
    list_filter = FILTERS
    list_select_related = ("machine", "assignee", "team")
    search_fields = ("machine__name", "alert_message")
    search_help_text = "By machine, message, or an alert's id."
    ordering = (severity_rank(), "-alert_timestamp", "-id")
    paginator = AlertPaginator

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[AlertList]:
        """Return the list with tabs and drawings."""
        return AlertList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        """Count members, and find how sure the date of the change is."""
        verdict = "model__drift_state__verdict"
        found: QuerySet[Alert] = super().get_queryset(request)
        return found.defer("auto_action_result").annotate(
            n_members=_members(),
            verdict_at=KeyTextTransform("changed_at", verdict),
            verdict_after=KeyTextTransform("changed_after", verdict),
            verdict_before=KeyTextTransform("changed_before", verdict),
        )

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return the worst first, of what is over the newest: a million is sorted by index only."""
        life = request.GET.get(LifeFilter.parameter_name)
        if life == LifeFilter.ALL:
            return ("-id",)
        return ("-resolved_at", "-id") if life == Alert.State.RESOLVED else self.ordering

    def get_sortable_by(self, request: HttpRequest) -> Any:
        """Offer other orders of what is unresolved."""
        is_long = request.GET.get(LifeFilter.parameter_name) in LifeFilter.LONG
        return () if is_long else super().get_sortable_by(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find an alert by its id too."""
        pk = identified(search_term)
        if pk is not None:
            return queryset.filter(pk=pk), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="severity", ordering=severity_rank())
    def badge(self, alert: Alert) -> SafeString:
        """Return glyph and word."""
        return _badge(alert.severity)

    @admin.display(description="condition")
    def condition(self, alert: Alert) -> str:
        """Return the condition as a sentence, without the place that has its own column."""
        return condition(alert).sentence

    @admin.display(description="machine")
    def where(self, alert: Alert) -> SafeString:
        """Return the machine, or how many there are, and which of their models."""
        version = f" v{alert.model_version}" if alert.model_version else ""
        model = f"{alert.model_type}{version}"
        if alert.machine:
            return _two(alert.machine.name, model)
        n = getattr(alert, "n_members", 0)
        machines = f"{whole(n)} machine{'' if n == 1 else 's'}" if n else "Fleet"
        glyph = _glyph("fleet")
        return _two(format_html('<span class="st">{}{}</span>', glyph, machines), model)

    @admin.display(description="before → now")
    def levels(self, alert: Alert) -> SafeString | str:
        """Return both levels and the limit; of data drift the distance, which has no before."""
        limit = self.limit(alert)
        told = "" if limit == NOTHING else f"limit {limit}"
        reached = alert.alert_details.get("peak_statistic")
        if limit.startswith("Z ") and alert.machine and isinstance(reached, int | float):
            told = f"Z {number(reached)}, {told}"
        if alert.current_metric_value is None:
            return told or NOTHING
        now = number(alert.current_metric_value)
        if alert.alert_type == Alert.Type.DATA_DRIFT:
            return _two(format_html("KS <b>{}</b>", now), told)
        if alert.machine is None:
            return _two(format_html("Z <b>{}</b>", now), told)
        unit = metric_of(alert).unit
        if alert.baseline_metric_value is None:
            return _two(format_html("<b>{}</b> {}", now, unit), told)
        before = number(alert.baseline_metric_value)
        levels = '<span class="num">{} →</span> <b class="num">{}</b> {}'
        return _two(format_html(levels, before, now, unit), told)

    @admin.display(description="limit")
    def limit(self, alert: Alert) -> str:
        """Return the limit and what it is one of: the metric, Z, a distance, a time, trainings."""
        if alert.threshold_value is None:
            return NOTHING
        limit = number(alert.threshold_value)
        told = {
            "seconds": f"one each {span(alert.threshold_value)}",
            "trainings": f"{limit} training{'' if alert.threshold_value == 1 else 's'}",
            "ks": f"KS {limit}",
            "z": f"Z {limit}",
        }
        of = OTHERS.get(str(alert.alert_details.get("rule")))
        return told[of] if of else f"{limit} {metric_of(alert).unit}".rstrip()

    @admin.display(description="since, 95 %")
    def since(self, alert: Alert) -> SafeString | str:
        """Return when the change was, and how uncertain that is."""
        when = changed_at(alert)
        if when is None:
            return NOTHING
        half = _uncertainty(alert)
        return _two(day(when), f"±{span(half)}" if half else "")

    @admin.display(description="opened", ordering="alert_timestamp")
    def age(self, alert: Alert) -> SafeString:
        """Return how long ago it was opened, and the day."""
        opened = alert.alert_timestamp
        times = (iso(opened), moment(opened), ago(opened))
        return _two(format_html('<time datetime="{}" title="{}">{}</time>', *times), day(opened))

    @admin.display(description="seen", ordering="occurrences")
    def seen(self, alert: Alert) -> str:
        """Return how often the condition was seen, as its page and a snooze count it."""
        return whole(alert.occurrences)

    @admin.display(description="last 60", empty_value="")
    def spark(self, alert: Alert) -> SafeString:
        """Return the drawing of the metric."""
        return drawing(alert)

    @admin.display(description="state")
    def life(self, alert: Alert) -> SafeString:
        """Return the state, who made it so or until when it is, and until when nobody is told."""
        glyph = _glyph(GLYPHS[alert.state])
        word = format_html('<span class="st stable">{}{}</span>', glyph, words(alert.state))
        until = getattr(alert, "silenced_until", None)
        return _two(
            _two(word, _of_state(alert)), f"silenced until {moment(until)}" if until else ""
        )

    @admin.display(description="who has it")
    def holder(self, alert: Alert) -> SafeString:
        """Return the person, never nothing, and the team."""
        nobody = format_html('<span class="sub">{}</span>', "nobody yet")
        person = alert.assignee.username if alert.assignee else nobody
        return _two(person, f"team {alert.team.name}" if alert.team else "")


@cache  # the few there are stand in every row
def _glyph(name: str) -> SafeString:
    return component("glyph", name=name, css="")


@cache
def _badge(severity: str) -> SafeString:
    return component("severity", severity=severity, badge=True)


def _two(first: str, second: str) -> SafeString:
    """Return a line and a quieter one below it."""
    if not second:
        return format_html("{}", first)
    return format_html('{}<div class="sub">{}</div>', first, second)


def _members() -> Coalesce:
    """Return how many machines are in a fleet alert now."""
    present = AlertMember.objects.filter(alert=OuterRef("pk"), left_at__isnull=True)
    counted = present.order_by().values("alert").annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


def _uncertainty(alert: Alert) -> timedelta | None:
    """Return half the interval of the change's date; a verdict tells it where an alert does not."""
    details = alert.alert_details
    low, high = details.get("changed_after"), details.get("changed_before")
    is_same = getattr(alert, "verdict_at", None) == details.get("changed_at")
    if low is None and high is None and is_same:
        low, high = getattr(alert, "verdict_after", None), getattr(alert, "verdict_before", None)
    if not isinstance(low, str) or not isinstance(high, str):
        return None
    first, last = parse_datetime(low), parse_datetime(high)
    return (last - first) / 2 if first and last else None


def _of_state(alert: Alert) -> str:
    if alert.state == Alert.State.SNOOZED:
        return _snoozed(alert)
    if alert.state == Alert.State.ACKNOWLEDGED:
        return f"by {actor(alert.acknowledged_by)}" if alert.acknowledged_by else ""
    if alert.is_resolved:
        return f"by {actor(alert.resolved_by or '')}, {words(alert.resolution_action).lower()}"
    return ""


def _snoozed(alert: Alert) -> str:
    """Return what ends a snooze, whichever comes first."""
    ends = []
    if alert.snoozed_until:
        ends.append(f"until {moment(alert.snoozed_until)}")
    if alert.snoozed_until_count is not None:
        ends.append(f"for {max(alert.snoozed_until_count - alert.occurrences, 0)} more")
    if alert.snoozed_until_worse:
        ends.append("until worse")
    return " or ".join(ends)
