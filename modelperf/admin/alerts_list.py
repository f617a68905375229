"""The list behind the desk: its tabs with counts, its bounded length, its sparklines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from modelperf.admin.alerts_filters import MINE, NOBODY, HolderFilter, LifeFilter
from modelperf.drawing.metric_names import MetricName, named
from modelperf.drawing.recent import Asked, recent
from modelperf.drawing.sparklines import Sparkline
from modelperf.models import Alert
from modelperf.services.alerts_bulk import MOST_AT_ONCE
from modelperf.templatetags.presentation import severity_state, words

if TYPE_CHECKING:
    _Paginator = Paginator[Alert]
else:  # generic for the type checker only
    _Paginator = Paginator


@dataclass(frozen=True, slots=True)
class Tab:
    """A part of the alerts, how many it has where that is cheap to know, and the way there."""

    label: str
    count: int | None
    query: str
    is_current: bool


class AlertPaginator(_Paginator):
    """Counts no further than verbs go: of resolved alerts there may be a million."""

    @cached_property
    def _found(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: MOST_AT_ONCE + 1].count())

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most as many as verbs take at once."""
        return min(self._found, MOST_AT_ONCE)

    @property
    def is_cut(self) -> bool:
        """Whether there are more than are listed."""
        return self._found > MOST_AT_ONCE


class AlertList(ChangeList):
    """Alerts with what is drawn beside them; a list that only serves an action needs neither."""

    tabs: Sequence[Tab] = ()
    holders: Sequence[Tab] = ()

    def get_results(self, request: HttpRequest) -> None:
        """Draw what is shown, and count what else there is."""
        super().get_results(request)
        if request.method != "GET":
            return
        shown = list(self.result_list)
        draw(shown)
        self.result_list = shown
        self._count(request)

    def _count(self, request: HttpRequest) -> None:
        """Count what the tabs lead to by one statement that reads unresolved alerts alone."""
        specs = {type(spec): spec for spec in self.filter_specs}
        life, holder = specs[LifeFilter], specs[HolderFilter]
        assert isinstance(life, LifeFilter)  # noqa: S101 -- as found by its type
        assert isinstance(holder, HolderFilter)  # noqa: S101
        of_life, of_holder = life.condition(), holder.condition(request.user)
        nobodys, mine = Q(assignee__isnull=True), Q(assignee=request.user.pk)
        found = self._narrowed(request).aggregate(
            unresolved=Count("pk", filter=of_holder),
            open=Count("pk", filter=of_holder & Q(state=Alert.State.OPEN)),
            acknowledged=Count("pk", filter=of_holder & Q(state=Alert.State.ACKNOWLEDGED)),
            snoozed=Count("pk", filter=of_holder & Q(state=Alert.State.SNOOZED)),
            mine=Count("pk", filter=of_life & mine),
            nobody=Count("pk", filter=of_life & nobodys),
        )
        is_long = life.value() in LifeFilter.LONG
        self.tabs = [
            self._tab(life, None, "Unresolved", found["unresolved"]),
            *(self._tab(life, s.value, words(s.value), found.get(s.value)) for s in Alert.State),
            self._tab(life, LifeFilter.ALL, "All", None),
        ]
        self.holders = [
            self._tab(holder, MINE, "Mine", None if is_long else found["mine"]),
            self._tab(holder, NOBODY, "Nobody yet", None if is_long else found["nobody"]),
        ]

    def _narrowed(self, request: HttpRequest) -> QuerySet[Alert]:
        """Return the unresolved alerts that the other filters and the search leave."""
        found: QuerySet[Alert] = Alert.objects.filter(is_resolved=False)
        for spec in self.filter_specs:
            if not getattr(spec, "is_tab", False):
                kept = spec.queryset(request, found)
                found = found if kept is None else kept
        return self.model_admin.get_search_results(request, found, self.query)[0]

    def _tab(self, spec: Any, value: str | None, label: str, count: int | None) -> Tab:
        """Return a tab; the one of a person that is chosen leads back to everybody."""
        is_current = spec.value() == value
        chosen = None if is_current and isinstance(spec, HolderFilter) else value
        query = self.get_query_string({spec.parameter_name: chosen}, remove=["o"])
        return Tab(label, count, query, is_current)


def draw(alerts: Iterable[Alert]) -> None:
    """Give each alert of a series the drawing of its metric, all by one statement."""
    drawn = [alert for alert in alerts if alert.machine and alert.alert_details.get("metric")]
    asked = [
        Asked(
            machine_id=alert.machine_id,
            model_type=alert.model_type,
            metric=alert.alert_details["metric"],
            version=alert.model_version,
            until=alert.resolved_at,
        )
        for alert in drawn
        if alert.machine_id
    ]
    for alert, points in zip(drawn, recent(asked), strict=True):
        name = metric_of(alert)
        line = Sparkline(
            points=points,
            label=name.label,
            unit=name.unit,
            baseline=alert.baseline_metric_value,
            changed_at=changed_at(alert),
            state=severity_state(alert.severity),
        )
        alert.sparkline = line.svg()  # type: ignore[attr-defined]  # shown with the row


def drawing(alert: Alert) -> SafeString:
    """Return what `draw` has drawn of an alert."""
    return getattr(alert, "sparkline", SafeString(""))


def metric_of(alert: Alert) -> MetricName:
    """Return what the metric of an alert is called and measured in."""
    metadata = alert.machine.metadata if alert.machine else {}
    return named(str(alert.alert_details.get("metric", "")), metadata)


def changed_at(alert: Alert) -> datetime | None:
    """Return when what an alert is about has changed."""
    told = alert.alert_details.get("changed_at")
    return parse_datetime(told) if isinstance(told, str) else None
