"""The page of one alert: its story, and what can be done about it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from django.contrib import messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import Script
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse

from modelperf.admin import alerts_page_around as around
from modelperf.admin.alerts_page_chart import drawing
from modelperf.admin.alerts_page_facts import facts, standing
from modelperf.admin.alerts_page_silence import new_silence, silence_over
from modelperf.admin.alerts_page_verdict import evidence, sentences
from modelperf.admin.alerts_words import condition
from modelperf.admin.base import ReadOnlyAdmin, actor
from modelperf.models import ABTest, Alert
from modelperf.services import alerts, alerts_history, notifications_told, training_failures
from modelperf.services.errors import DomainError
from modelperf.services.policies import PolicyValues, policy_of
from modelperf.templatetags.presentation import actor as named_actor
from modelperf.templatetags.presentation import ago

# Which actions of the list are offered for an alert by its state; Django leaves out those that
# the user may not do.
_TAKE: Final = ("acknowledge", "snooze", "assign_to_me", "assign", "resolve", "retrain")
_OFFERED: Final = {
    Alert.State.OPEN: _TAKE,
    Alert.State.ACKNOWLEDGED: _TAKE[1:],
    Alert.State.SNOOZED: _TAKE,
    Alert.State.RESOLVED: ("reopen",),
}
_NEXT: Final = {  # the sensible step, which stands out where no page is to be seen first
    Alert.State.OPEN: "acknowledge",
    Alert.State.ACKNOWLEDGED: "resolve",
    Alert.State.SNOOZED: "acknowledge",
    Alert.State.RESOLVED: "reopen",
}
MOST_TOLD: Final = 100
_OF_SERIES: Final = frozenset({"retrain"})
_SEEN_FIRST: Final = frozenset({Alert.Type.DATA_DRIFT, Alert.Type.EVALUATION_MISSING})


@dataclass(frozen=True, slots=True)
class VerbButton:
    """An action of the list as a button."""

    action: str
    label: str
    is_next: bool


class Way(NamedTuple):
    """A link beside the verbs."""

    address: str
    label: str
    is_next: bool = False


class AlertPage(ReadOnlyAdmin):
    """Shows one alert; what it offers to do are the actions of the list."""

    class Media:
        css: ClassVar = {"all": ["css/alert.css"]}
        js: ClassVar = [Script("js/triage.js", type="module")]

    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("alert_type", "model_type", "model_version"),
                    "alert_message",
                    ("condition_key", "occurrences", "revision"),
                    ("current_metric_value", "baseline_metric_value"),
                    ("threshold_value", "peak_metric_value"),
                    ("created_at", "alert_timestamp", "last_seen_at"),
                    ("seen_through", "told_through"),
                    "alert_details",
                )
            },
        ),
    )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Tell the alert's story, and offer the list's verbs."""
        alert: Alert = context["original"]
        found = evidence(alert)
        metric = alert.alert_details.get("metric") or (found.metric if found else "")
        told, versions = condition(alert), around.versions(alert)
        tests, members = around.tests(alert), around.members(alert)
        ways = list(_ways(request, alert, tests, members))
        more = {
            "title": f"{told.place}: {told.sentence}",
            "subtitle": None,
            "told": told,
            "verbs": self._verbs(request, alert, has_way=any(way.is_next for way in ways)),
            "ways": ways,
            "silence": silence_over(request, alert),
            "may_comment": self.has_change_permission(request),
            "standing": standing(alert),
            "facts": facts(alert, metric),
            "sentences": sentences(alert, found, _policy(alert)),
            "chart": drawing(alert, metric, found, _served(versions)),
            "members": members,
            "versions": versions,
            "runs": around.runs(alert),
            "tests": tests,
            "may_know": training_failures.may_know(request.user),
            "related": around.related(alert),
            "story": alerts_history.story(alert)[::-1],
            "told_whom": notifications_told.why(alert)[: -MOST_TOLD - 1 : -1],
        }
        return super().render_change_form(request, context | more, *args, **kwargs)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Alert], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Do what was chosen on the page of one alert, and return there.

        What the list filters by then plays no part; nothing is done about an alert that somebody
        else has changed since the page was shown.
        """
        page = page_of(request)
        alert = self.get_queryset(request).filter(pk=page).first() if page else None
        if alert is None:
            return super().response_action(request, queryset, *args, **kwargs)
        back = redirect(self._address(request, alert))
        if "comment" in request.POST:
            self._comment(request, alert)
            return back
        if _is_stale(request, alert):
            self.message_user(request, _who_was_first(alert), messages.ERROR)
            return back
        only = self.get_queryset(request).filter(pk=alert.pk)
        response = super().response_action(request, only, *args, **kwargs)
        is_done = response is None or isinstance(response, HttpResponseRedirect)
        return back if is_done else response

    def _comment(self, request: HttpRequest, alert: Alert) -> None:
        if not self.has_change_permission(request):
            raise PermissionDenied
        try:
            alerts.comment(alert=alert, by=actor(request), text=request.POST["comment"])
        except DomainError as error:
            self.message_user(request, error.detail, messages.ERROR)
        else:
            self.log_change(request, alert, "Commented.")

    def _address(self, request: HttpRequest, alert: Alert) -> str:
        """Return the alert's page, from which one comes back to the list as it was filtered."""
        kept: dict[str, Any] = {
            "preserved_filters": self.get_preserved_filters(request),
            "opts": self.opts,
        }
        page = reverse("admin:modelperf_alert_change", args=[alert.pk])
        return str(add_preserved_filters(kept, page))

    def _verbs(self, request: HttpRequest, alert: Alert, *, has_way: bool) -> list[VerbButton]:
        """Return what the user can do about an alert in its state."""
        actions = self.get_actions(request)
        offered = [
            (name, actions.get(name))
            for name in _OFFERED[Alert.State(alert.state)]
            if alert.machine_id or name not in _OF_SERIES
        ]
        step = None if has_way else _NEXT[Alert.State(alert.state)]
        return [
            VerbButton(name, str(action[2]), name == step) for name, action in offered if action
        ]


def page_of(request: HttpRequest) -> uuid.UUID | None:
    """Return the alert on whose page a verb was chosen."""
    try:
        return uuid.UUID(request.POST["page"])
    except (KeyError, ValueError):
        return None


def _is_stale(request: HttpRequest, alert: Alert) -> bool:
    """Whether the alert has taken a step since its page was shown."""
    return request.POST.get("revision", str(alert.revision)) != str(alert.revision)


def _who_was_first(alert: Alert) -> str:
    """Return what somebody did meanwhile, so that one decides anew."""
    last = alerts_history.last_change(alert)
    said = f"{last.word} by {named_actor(last.actor)}, {ago(last.when)}"
    return f"Nothing was changed, since somebody was first: {said}. Look again, then choose."


def _served(versions: Sequence[around.VersionRow]) -> list[int]:
    return [row.version.model_version for row in versions if row.has_served]


def _policy(alert: Alert) -> PolicyValues:
    return policy_of(machine_id=alert.machine_id, model_type=alert.model_type)


def _ways(
    request: HttpRequest,
    alert: Alert,
    tests: Sequence[ABTest],
    members: around.Members | None,
) -> Iterator[Way]:
    """Return where an alert's cause is seen; it stands out where that comes before all verbs."""
    is_open = not alert.is_resolved
    if alert.alert_type == Alert.Type.AB_TEST_COMPLETED and tests and _may_see(request, "abtest"):
        address = reverse("admin:modelperf_abtest_change", args=[tests[0].pk])
        yield Way(address, "Test to decide" if is_open else "Test", is_open)
    if members is not None:
        yield Way("#h-members", f"Machines ({len(members.rows):,})", is_open)
    if alert.machine_id is not None:
        series = around.series_page(alert.machine_id, alert.model_type)
        yield Way(series, "Series page", is_open and alert.alert_type in _SEEN_FIRST)
    if is_open and request.user.has_perm("modelperf.add_silence"):
        yield Way(new_silence(alert), "Silence…")


def _may_see(request: HttpRequest, model: str) -> bool:
    return request.user.has_perm(f"modelperf.view_{model}")
