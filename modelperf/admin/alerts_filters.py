"""What narrows the list of alerts: tabs of their life and of who has them, and filters."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import Group, User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from modelperf.admin.base import WordsFilter
from modelperf.models import Alert, Series
from modelperf.templatetags.presentation import words

Alerts = QuerySet[Alert]
NOBODY, MINE = "nobody", "mine"
TEMPLATE = "admin/modelperf/alert/filter.html"


def identified(text: str) -> uuid.UUID | None:
    """Return the id that somebody typed, if it is one."""
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


class _Filter(admin.SimpleListFilter):
    """A filter that is drawn as a menu in the bar above the list."""

    template = TEMPLATE
    is_tab: ClassVar[bool] = False

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return what can be asked for; a list that only serves a verb shows no menus."""
        return [] if request.method == "POST" else self.offered()

    def offered(self) -> list[tuple[str, str]]:
        """Return what the menu offers."""
        return []

    def has_output(self) -> bool:
        """Stand in the bar also where there is nothing to choose: the value is checked all same."""
        return True


class AlertWordsFilter(WordsFilter):
    """Choices in words, in the bar above the list."""

    template = TEMPLATE


class LifeFilter(_Filter):
    """Unresolved alerts unless another part of their life is asked for."""

    title = "state"
    parameter_name = "life"
    is_tab = True
    UNRESOLVED, ALL = "", "all"
    LONG: ClassVar = frozenset({Alert.State.RESOLVED.value, ALL})  # as many as there ever were

    def offered(self) -> list[tuple[str, str]]:
        """Return the states and all."""
        return [*((state.value, words(state.value)) for state in Alert.State), (self.ALL, "All")]

    def condition(self) -> Q:
        """Return what is asked for of an alert's life."""
        if self.value() == self.ALL:
            return Q()
        return Q(state=self.value()) if self.value() else Q(is_resolved=False)

    def queryset(self, request: HttpRequest, queryset: Alerts) -> Alerts:
        """Keep what was asked for; who asks for one alert gets it whatever its state."""
        is_one = identified(request.GET.get("q", "")) is not None
        return queryset if is_one else queryset.filter(self.condition())


class HolderFilter(_Filter):
    """Alerts of one person, mine, or nobody's."""

    title = "who has it"
    parameter_name = "holder"
    is_tab = True

    def offered(self) -> list[tuple[str, str]]:
        """Return the people who have something unresolved, after oneself and nobody."""
        taken = Alert.objects.unresolved().filter(assignee__isnull=False).values("assignee")
        people = User.objects.filter(pk__in=taken).order_by("username")
        named = people.values_list("pk", "username")
        return [(MINE, "Mine"), (NOBODY, "Nobody yet"), *((str(pk), name) for pk, name in named)]

    def condition(self, user: Any) -> Q:
        """Return what is asked for of who has an alert."""
        value = self.value()
        if value is None:
            return Q()
        if value == NOBODY:
            return Q(assignee__isnull=True)
        if value == MINE:
            return Q(assignee=user)
        return Q(assignee=int(value)) if value.isascii() and value.isdigit() else Q(pk__in=[])

    def queryset(self, request: HttpRequest, queryset: Alerts) -> Alerts:
        """Keep what somebody has."""
        return queryset.filter(self.condition(request.user))


class TeamFilter(_Filter):
    """Alerts of one team, or of none."""

    title = "team"
    parameter_name = "team"

    def offered(self) -> list[tuple[str, str]]:
        """Return the teams, which are the groups of people here."""
        teams = Group.objects.order_by("name").values_list("pk", "name")
        return [(NOBODY, "No team"), *((str(pk), name) for pk, name in teams)]

    def queryset(self, request: HttpRequest, queryset: Alerts) -> Alerts:
        """Keep what a team has."""
        value = self.value()
        if value is None:
            return queryset
        if value == NOBODY:
            return queryset.filter(team__isnull=True)
        is_number = value.isascii() and value.isdigit()
        return queryset.filter(team=int(value)) if is_number else queryset.none()


class ScopeFilter(_Filter):
    """One machine's conditions, or the fleet's."""

    title = "scope"
    parameter_name = "scope"

    def offered(self) -> list[tuple[str, str]]:
        """Return the two scopes."""
        return [("machine", "One machine"), ("fleet", "Fleet")]

    def queryset(self, request: HttpRequest, queryset: Alerts) -> Alerts:
        """Keep one scope."""
        if self.value() is None:
            return queryset
        return queryset.filter(machine__isnull=self.value() == "fleet")


class ModelTypeFilter(_Filter):
    """Alerts of the models of one type."""

    title = "model type"
    parameter_name = "model_type"

    def offered(self) -> list[tuple[str, str]]:
        """Return the types of all series: there are fewer of those than of alerts."""
        types = Series.objects.order_by("model_type").values_list("model_type", flat=True)
        return [(name, name) for name in types.distinct()]

    def queryset(self, request: HttpRequest, queryset: Alerts) -> Alerts:
        """Keep one type."""
        return queryset.filter(model_type=self.value()) if self.value() else queryset


class AgeFilter(_Filter):
    """When alerts were opened."""

    title = "opened"
    parameter_name = "opened"
    WITHIN: ClassVar = {
        "hour": timedelta(hours=1),
        "day": timedelta(days=1),
        "week": timedelta(days=7),
    }
    OLDER = "older"

    def offered(self) -> list[tuple[str, str]]:
        """Return the ages."""
        recent = [(name, f"Last {name}") for name in self.WITHIN]
        return [*recent, (self.OLDER, "More than a week ago")]

    def queryset(self, request: HttpRequest, queryset: Alerts) -> Alerts:
        """Keep one age."""
        value, now = self.value(), timezone.now()
        if value == self.OLDER:
            return queryset.filter(alert_timestamp__lt=now - self.WITHIN["week"])
        if value in self.WITHIN:
            return queryset.filter(alert_timestamp__gte=now - self.WITHIN[value])
        return queryset


class MachineFilter(_Filter):
    """Alerts of one machine, of the fleet too where it is a member; it is named, not listed."""

    title = "machine"
    parameter_name = "machine"
    template = "admin/modelperf/alert/filter_machine.html"

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Return what is typed now, and which other parameters go along with it."""
        others = {
            name: values[-1]
            for name, values in changelist.get_filters_params().items()
            if name != self.parameter_name
        }
        # What is searched for is left out of the filters' parameters.
        query = {"q": changelist.query} if changelist.query else {}
        clear = changelist.get_query_string(remove=[self.parameter_name])
        yield {"value": self.value() or "", "others": others | query, "query_string": clear}

    def queryset(self, request: HttpRequest, queryset: Alerts) -> Alerts:
        """Keep what is of the machine of that name or id."""
        text = (self.value() or "").strip()
        if not text:
            return queryset
        pk = identified(text)
        own = Q(machine=pk) if pk else Q(machine__name__iexact=text)
        member = Q(members__machine=pk) if pk else Q(members__machine__name__iexact=text)
        fleet = Alert.objects.filter(member, machine=None, members__left_at__isnull=True)
        return queryset.filter(own | Q(pk__in=fleet.values("pk")))


FILTERS: tuple[Any, ...] = (
    LifeFilter,
    HolderFilter,
    ("severity", AlertWordsFilter),
    ("alert_type", AlertWordsFilter),
    ModelTypeFilter,
    MachineFilter,
    AgeFilter,
    ScopeFilter,
    TeamFilter,
)
