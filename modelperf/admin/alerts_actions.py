"""The verbs of the desk: on one alert or on thousands, with the same number of statements.

Those that end in … ask on one page: what will change, what will not and why, and what to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html

from modelperf.admin import alerts_chosen as chosen
from modelperf.admin.alerts_filters import LifeFilter
from modelperf.admin.alerts_forms import AssignForm, CommentForm, NoteForm, ResolveForm, SnoozeForm
from modelperf.admin.alerts_page import page_of
from modelperf.admin.base import ReadOnlyAdmin, actor
from modelperf.admin.reasons import ReasonForm, answered, ask
from modelperf.models import Alert, ApiKey
from modelperf.models.access import PERMISSION_OF_SCOPE
from modelperf.services import alerts_bulk, training
from modelperf.services.alerts_bulk import MOST_AT_ONCE, Refusals
from modelperf.services.alerts_verbs import Assign, Resolve, Snooze, Verb
from modelperf.services.errors import DomainError
from modelperf.templatetags.presentation import words

PREFIX: Final = "done"  # a field of its own may be called action, as is the action itself
MOST_NAMED: Final = 100
MOST_TOLD: Final = 20
TEMPLATE: Final = "admin/modelperf/alert/ask.html"
Alerts = QuerySet[Alert]
_OF_UNRESOLVED: Final = frozenset(
    {"acknowledge", "assign_to_me", "assign", "snooze", "resolve", "retrain"}
)
_TITLES: Final = {"Comment": "Comment on alerts", "Retrain": "Retrain the series of alerts"}
_LEFT_OUT: Final = {LifeFilter.ALL: frozenset[str](), Alert.State.RESOLVED.value: _OF_UNRESOLVED}


class AlertVerbs(ReadOnlyAdmin):
    """The actions of the list; the page of an alert offers them too."""

    actions = (
        "acknowledge",
        "assign_to_me",
        "assign",
        "snooze",
        "resolve",
        "retrain",
        "comment",
        "reopen",
    )

    def has_train_permission(self, request: HttpRequest) -> bool:
        """Whether the user may do what a key needs the scope train for."""
        return request.user.has_perm(PERMISSION_OF_SCOPE[ApiKey.Scope.TRAIN])

    def get_action_choices(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Offer beside a list the verbs that its alerts allow."""
        life = request.GET.get(LifeFilter.parameter_name)
        left_out = _LEFT_OUT.get(life or LifeFilter.UNRESOLVED, frozenset({"reopen"}))
        choices: Any = super().get_action_choices(request, *args, **kwargs)
        return [choice for choice in choices if choice[0] not in left_out]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Say so where a verb was pressed and nothing is selected."""
        is_pressed = "action" in request.POST or "index" in request.POST
        if is_pressed and helpers.ACTION_CHECKBOX_NAME not in request.POST:
            self.message_user(request, "Select alerts first.", messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())
        return super().changelist_view(request, extra_context)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Do what was chosen to what was chosen, whatever became of it meanwhile.

        What somebody else has resolved is no longer in the list, yet who chose it is told.
        """
        offered = self.get_actions(request)
        name = request.POST.get("action", "")
        if name not in offered:
            self.message_user(request, "No action selected.", messages.WARNING)
            return None
        ids = chosen.ids(request, queryset)
        if len(ids) > MOST_AT_ONCE:
            says = f"More than {MOST_AT_ONCE:,} alerts match. Narrow them by a filter."
            self.message_user(request, says, messages.ERROR)
            return None
        offer: Any = offered[name]
        verb = offer[0]
        answer: HttpResponse | None = verb(self, request, Alert.objects.filter(pk__in=ids))
        return answer or HttpResponseRedirect(request.get_full_path())

    @admin.action(description="Acknowledge", permissions=["change"])
    def acknowledge(self, request: HttpRequest, queryset: Alerts) -> None:
        """Take note of the selected alerts."""
        self._at_once(request, queryset, verb="acknowledge", done="acknowledged")

    @admin.action(description="Assign to me", permissions=["change"])
    def assign_to_me(self, request: HttpRequest, queryset: Alerts) -> None:
        """Take the selected alerts."""
        self._at_once(request, queryset, verb="assign", done="assigned", assignee=request.user)

    @admin.action(description="Reopen", permissions=["change"])
    def reopen(self, request: HttpRequest, queryset: Alerts) -> None:
        """Open the selected alerts again."""
        self._at_once(request, queryset, verb="reopen", done="reopened")

    @admin.action(description="Resolve…", permissions=["change"])
    def resolve(self, request: HttpRequest, queryset: Alerts) -> HttpResponse | None:
        """Ask what was done, then close the selected alerts."""
        form = ResolveForm(answered(request), prefix=PREFIX)
        what = words(form.data.get(f"{PREFIX}-action", ""))
        return self._asked(
            request,
            queryset,
            form,
            verb=Resolve(action=""),
            done="resolved",
            log=f"Resolved: {what}.",
            says="will be resolved in your name. This change does not open it again; a later"
            " change does. To undo: Reopen.",
        )

    @admin.action(description="Snooze…", permissions=["change"])
    def snooze(self, request: HttpRequest, queryset: Alerts) -> HttpResponse | None:
        """Ask until when, then put the selected alerts off."""
        return self._asked(
            request,
            queryset,
            SnoozeForm(answered(request), prefix=PREFIX),
            verb=Snooze(),
            done="snoozed",
            log="Snoozed.",
            says="will be snoozed: recorded on, and nobody is told until the first of these.",
        )

    @admin.action(description="Assign…", permissions=["change"])
    def assign(self, request: HttpRequest, queryset: Alerts) -> HttpResponse | None:
        """Ask to whom, then give the selected alerts away."""
        return self._asked(
            request,
            queryset,
            AssignForm(answered(request), prefix=PREFIX, user=request.user),
            verb=Assign(),
            done="assigned",
            log="Assigned.",
            says="will be assigned.",
        )

    @admin.action(description="Comment…", permissions=["change"])
    def comment(self, request: HttpRequest, queryset: Alerts) -> HttpResponse | None:
        """Ask what there is to say, then say it of each selected alert."""
        form = CommentForm(answered(request), prefix=PREFIX)
        found = chosen.in_order(queryset)
        if not form.is_valid():
            says = "The comment is added to"
            return self._ask(request, form, says=says, will=found, label="Comment")
        alerts_bulk.comment(alerts=found, by=actor(request), text=form.cleaned_data["text"])
        self._log(request, found, "Commented.")
        self.message_user(request, f"{len(found):,} commented.", messages.SUCCESS)
        return None

    @admin.action(description="Retrain…", permissions=["train"])
    def retrain(self, request: HttpRequest, queryset: Alerts) -> HttpResponse | None:
        """Ask why, then ask for one training of each series that the alerts are about."""
        form = ReasonForm(answered(request), prefix=PREFIX)
        wanted, refused = chosen.of_series(chosen.in_order(queryset))
        if not form.is_valid():
            says = "A training of the series will be asked for in your name:"
            return self._ask(
                request, form, says=says, will=wanted, will_not=refused, label="Retrain"
            )
        asked_for = []
        for alert in wanted:
            refusal = _refusal(alert, form.cleaned_data["reason"], actor(request))
            if refusal:
                refused.append((alert, refusal))
            else:
                asked_for.append(alert)
        self._log(request, asked_for, "Asked for a training of its series.")
        plural = "" if len(asked_for) == 1 else "s"
        self._tell(request, len(asked_for), f"training{plural} asked for", refused)
        return None

    def _at_once(
        self, request: HttpRequest, queryset: Alerts, *, verb: str, done: str, **what: Any
    ) -> None:
        outcome = alerts_bulk.change(alerts=queryset, verb=verb, by=actor(request), **what)
        self._log(request, outcome.changed, f"{done.capitalize()}.")
        self._tell(request, len(outcome.changed), done, outcome.refused)

    def _asked(
        self,
        request: HttpRequest,
        queryset: Alerts,
        form: NoteForm | ResolveForm,
        *,
        verb: Verb,
        done: str,
        log: str,
        says: str,
    ) -> HttpResponse | None:
        """Do what a valid form says; else ask, or ask again with what is wrong."""
        if form.is_valid():
            by = actor(request)
            try:
                outcome = alerts_bulk.change(alerts=queryset, verb=verb.name, by=by, **form.what())
            except DomainError as error:
                form.add_error(None, error.detail)
            else:
                if note := form.cleaned_data.get("note", "").strip():
                    alerts_bulk.comment(alerts=outcome.changed, by=by, text=note)
                self._log(request, outcome.changed, log)
                self._tell(request, len(outcome.changed), done, outcome.refused)
                return None
        will, will_not = chosen.allowing(chosen.in_order(queryset), verb)
        label = verb.name.capitalize()
        return self._ask(request, form, says=says, will=will, will_not=will_not, label=label)

    def _ask(
        self,
        request: HttpRequest,
        form: forms.Form,
        *,
        says: str,
        will: Sequence[Alert],
        label: str,
        will_not: Refusals | None = None,
    ) -> HttpResponse:
        refused = will_not or []
        ids = [alert.pk for alert in will] + [alert.pk for alert, _ in refused]
        more = {
            "page": page_of(request),
            "preserved_filters": self.get_preserved_filters(request),
            "chosen": " ".join(map(str, ids)),
            "first": ids[0] if ids else "",
            "n": len(will),
            "n_not": len(refused),
            "unnamed": max(len(will) - MOST_NAMED, 0),
            "unnamed_not": max(len(refused) - MOST_NAMED, 0),
        }
        return ask(
            self,
            request,
            form=form,
            action=request.POST["action"],
            title=_TITLES.get(label, f"{label} alerts"),
            label=label,
            says=says,
            will=will[:MOST_NAMED],
            will_not=refused[:MOST_NAMED],
            template=TEMPLATE,
            more=more,
        )

    def _log(self, request: HttpRequest, changed: Sequence[Alert], says: str) -> None:
        """Write the admin's own log by one statement; the alerts' history is written already."""
        if changed:
            user: Any = request.user
            objects: Any = changed
            LogEntry.objects.log_actions(user.pk, objects, CHANGE, says)

    def _tell(self, request: HttpRequest, n: int, done: str, refused: Refusals) -> None:
        """Tell how many were changed, and of each other why not: who was first."""
        if n:
            self.message_user(request, f"{n:,} {done}.", messages.SUCCESS)
        for alert, sentence in refused[:MOST_TOLD]:
            why = format_html("<bdi>{}</bdi> {}", alert, sentence)
            self.message_user(request, why, messages.WARNING)
        if len(refused) > MOST_TOLD:
            says = f"{len(refused) - MOST_TOLD:,} more were not changed."
            self.message_user(request, says, messages.WARNING)


def _refusal(alert: Alert, reason: str, by: str) -> str:
    """Ask for a training of an alert's series; return why not where it was refused."""
    assert alert.machine is not None  # noqa: S101 -- fleet alerts are sorted out before
    try:
        answer = training.trigger(
            machine=alert.machine, model_type=alert.model_type, reason=reason, alert=alert, by=by
        )
    except DomainError as error:
        return error.detail
    return "" if answer.triggered else answer.reason
