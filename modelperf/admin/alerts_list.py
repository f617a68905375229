"""The list behind the desk: its tabs with counts, its bounded length, its sparklines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from modelperf.admin.alerts_filters import MINE, NOBODY, HolderFilter, LifeFilter
from modelperf.drawing.metric_names import MetricName, named
from modelperf.drawing.recent import Asked, recent
from modelperf.drawing.sparklines import Sparkline
from modelperf.models import Alert, Silence
from modelperf.services import matching
from modelperf.services.alerts_bulk import MOST_AT_ONCE
from modelperf.services.silences import InForce
from modelperf.templatetags.presentation import severity_state, whole, words

MOST_MEMBERS: Final = 500  # of a fleet alert that silences are looked up for beside the list

if TYPE_CHECKING:
    _Paginator = Paginator[Alert]
else:  # generic for the type checker only
    _Paginator = Paginator


@dataclass(frozen=True, slots=True)
class Tab:
    """A part of the alerts, how many it has where that is cheap to know, and the way there.

    A count that ends in + is the least there are.
    """

    label: str
    count: str
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

    @property
    def told(self) -> str:
        """What there are, as far as they were counted."""
        return f"more than {whole(self.count)}" if self.is_cut else whole(self.count)


class AlertList(ChangeList):
    """Alerts with what is drawn beside them; a list that only serves an action needs neither."""

    tabs: Sequence[Tab] = ()
    holders: Sequence[Tab] = ()

    @property
    def n_chosen(self) -> int:
        """How many of the menus narrow the list."""
        menus = (spec for spec in self.filter_specs if not isinstance(spec, LifeFilter))
        return sum(bool(spec.used_parameters) for spec in menus)

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """Return what matches; nothing is like a text that the database cannot hold."""
        found = super().get_queryset(request, *args, **kwargs)
        return found.none() if _is_unheard_of(request) else found

    def get_ordering_field_columns(self) -> dict[int, Literal["desc", "asc"]]:
        """Return by which columns the list is sorted: by severity, until another is chosen."""
        if ORDER_VAR in self.params:
            return super().get_ordering_field_columns()
        return {list(self.list_display).index("badge"): "asc"} if self.sortable_by else {}

    def get_results(self, request: HttpRequest) -> None:
        """Draw what is shown, and count what else there is."""
        super().get_results(request)
        if request.method != "GET":
            return
        shown = list(self.result_list)
        draw(shown)
        silence(shown)
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
        found = self._narrowed(request, Alert.objects.unresolved()).aggregate(
            unresolved=Count("pk", filter=of_holder),
            open=Count("pk", filter=of_holder & Q(state=Alert.State.OPEN)),
            acknowledged=Count("pk", filter=of_holder & Q(state=Alert.State.ACKNOWLEDGED)),
            snoozed=Count("pk", filter=of_holder & Q(state=Alert.State.SNOOZED)),
            mine=Count("pk", filter=of_life & mine),
            nobody=Count("pk", filter=of_life & nobodys),
        )
        is_long = life.value() in LifeFilter.LONG
        counts = {name: whole(n) for name, n in found.items()}
        counts[Alert.State.RESOLVED] = self._resolved(request, of_holder)
        self.tabs = [
            self._tab(life, None, "Unresolved", counts["unresolved"]),
            *(self._tab(life, s.value, words(s.value), counts[s.value]) for s in Alert.State),
            self._tab(life, LifeFilter.ALL, "All", ""),
        ]
        self.holders = [
            self._tab(holder, MINE, "Mine", "" if is_long else counts["mine"]),
            self._tab(holder, NOBODY, "Nobody yet", "" if is_long else counts["nobody"]),
        ]

    def _resolved(self, request: HttpRequest, of_holder: Q) -> str:
        """Return how many of the newest resolved alerts match, however many there ever were."""
        resolved = Alert.objects.filter(is_resolved=True).order_by("-resolved_at", "-id")
        newest = resolved.values("pk")[: MOST_AT_ONCE + 1]
        n = n_newest = newest.count()
        if self.n_chosen or self.query:
            among = Alert.objects.filter(pk__in=newest)
            n = self._narrowed(request, among).filter(of_holder).count()
        is_least = n_newest > MOST_AT_ONCE
        return f"{whole(min(n, MOST_AT_ONCE))}{'+' if is_least else ''}"

    def _narrowed(self, request: HttpRequest, found: QuerySet[Alert]) -> QuerySet[Alert]:
        """Return which of some alerts the other filters and the search leave."""
        if _is_unheard_of(request):
            return found.none()
        for spec in self.filter_specs:
            if not getattr(spec, "is_tab", False):
                kept = spec.queryset(request, found)
                found = found if kept is None else kept
        return self.model_admin.get_search_results(request, found, self.query)[0]

    def _tab(self, spec: Any, value: str | None, label: str, count: str) -> Tab:
        """Return a tab; the one of a person that is chosen leads back to everybody."""
        is_current = spec.value() == value
        chosen = None if is_current and isinstance(spec, HolderFilter) else value
        query = self.get_query_string({spec.parameter_name: chosen}, remove=["o"])
        return Tab(label, count, query, is_current)


def _is_unheard_of(request: HttpRequest) -> bool:
    """Whether a text that is asked for holds what no stored text does."""
    return any("\0" in value for _, values in request.GET.lists() for value in values)


def silence(alerts: Iterable[Alert]) -> None:
    """Say of each unresolved alert until when it is silenced: by four statements at most.

    Of a fleet alert with very many machines only its own page says it.
    """
    now = timezone.now()
    unresolved = [alert for alert in alerts if not alert.is_resolved]
    if not (unresolved and Silence.objects.in_force(now).exists()):
        return
    in_force = InForce(now)
    fleet = [one.pk for one in unresolved if one.machine_id is None and _n(one) <= MOST_MEMBERS]
    documents = ("alert_details", "auto_action_result", "metadata")
    whole_fleet = Alert.objects.filter(pk__in=fleet).defer(*documents)
    loaded = matching.load(whole_fleet) if fleet else {}
    for alert in unresolved:
        known = alert if alert.machine_id else loaded.get(alert.pk)
        over = in_force.over(matching.matched(known)) if known else None
        if over:
            alert.silenced_until = over.ends_at  # type: ignore[attr-defined]  # shown with the row


def _n(alert: Alert) -> int:
    return getattr(alert, "n_members", 0)


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
