"""What can be done about a series from its page: each verb asks once more, with the reason."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from modelperf.models import AfterTraining, Machine, ModelVersion
from modelperf.pages.training import may_activate, may_train
from modelperf.services import registry, training
from modelperf.services.errors import ConflictError, DomainError, InvalidError
from modelperf.services.policies import PolicyValues, policy_of
from modelperf.services.training_external import trainer_document
from modelperf.templatetags.presentation import number

TEMPLATE: Final = "pages/verb.html"
LONGEST_REASON: Final = 2000


class ReasonForm(forms.Form):
    """Why something is done: kept with it."""

    reason = forms.CharField(max_length=LONGEST_REASON)


class OptionalReasonForm(ReasonForm):
    """Why, where there is something to say."""

    reason = forms.CharField(max_length=LONGEST_REASON, required=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What is asked about a series: what will happen, and what does it, saying what was done."""

    machine: Machine
    model_type: str
    title: str
    label: str
    says: list[str]
    carry_out: Callable[[str], str]
    form: type[ReasonForm] = ReasonForm
    refusal: str = ""

    @property
    def page(self) -> str:
        """The page of the series."""
        asked = urlencode({"machine": self.machine.pk, "type": self.model_type})
        return f"{reverse('model-performance')}?{asked}"

    @property
    def needs_reason(self) -> bool:
        """Whether there has to be a reason."""
        return self.form is ReasonForm


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def retrain(request: HttpRequest) -> HttpResponse:
    """Ask for a training of a series."""
    if not may_train(request.user):
        raise PermissionDenied
    machine, model_type = _series(request)
    policy = policy_of(machine_id=machine.pk, model_type=model_type)
    verb = Verb(
        machine=machine,
        model_type=model_type,
        title="Retrain",
        label="Retrain",
        says=[_what_is_trained(policy), _what_comes_after(policy)],
        carry_out=partial(_retrain, machine, model_type, _by(request)),
    )
    return _answer(request, verb)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def activate(request: HttpRequest) -> HttpResponse:
    """Let a version serve its series."""
    if not may_activate(request.user):
        raise PermissionDenied
    model = _model(request)
    active = _active(model.machine, model.model_type)
    name = f"version {model.model_version}"
    replaced = f"in place of version {active.model_version}" if active else "as the first"
    verb = Verb(
        machine=model.machine,
        model_type=model.model_type,
        title=f"Activate {name}",
        label="Activate",
        says=[f"{name.capitalize()} serves {replaced} from now on. Alerts follow its verdict."],
        carry_out=partial(_activate, model, _by(request)),
        form=OptionalReasonForm,
        refusal=f"{name.capitalize()} is active already." if model.is_active else "",
    )
    return _answer(request, verb)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def roll_back(request: HttpRequest) -> HttpResponse:
    """Let the version serve again that served before."""
    if not may_activate(request.user):
        raise PermissionDenied
    machine, model_type = _series(request)
    active = _active(machine, model_type)
    previous = registry.previous_active(machine=machine, model_type=model_type)
    verb = Verb(
        machine=machine,
        model_type=model_type,
        title="Roll back",
        label="Roll back",
        says=_what_is_rolled_back(active, previous),
        carry_out=partial(_roll_back, machine, model_type, _by(request)),
        refusal=""
        if previous
        else "No version is known to have served before the present one. Activate one instead.",
    )
    return _answer(request, verb)


def _answer(request: HttpRequest, verb: Verb) -> HttpResponse:
    """Show the question; once answered, do it and go back to the series."""
    if request.method != "POST" or verb.refusal:
        status = 409 if verb.refusal and request.method == "POST" else 200
        return _asked(request, verb, reason="", problem=verb.refusal, status=status)
    form = verb.form(request.POST)
    if not form.is_valid():
        problem = " ".join(map(str, form.errors["reason"]))
        given = request.POST.get("reason", "")[:LONGEST_REASON]
        return _asked(request, verb, reason=given, problem=problem, status=422)
    reason: str = form.cleaned_data["reason"]
    try:
        done = verb.carry_out(reason)
    except DomainError as error:
        status = 422 if isinstance(error, InvalidError) else 409
        return _asked(request, verb, reason=reason, problem=error.detail, status=status)
    messages.success(request, done)
    return redirect(verb.page)


def _asked(
    request: HttpRequest, verb: Verb, *, reason: str, problem: str, status: int
) -> HttpResponse:
    context = {"verb": verb, "reason": reason, "problem": problem, "longest": LONGEST_REASON}
    return render(request, TEMPLATE, context, status=status)


def _series(request: HttpRequest) -> tuple[Machine, str]:
    """Return the series that the address names: a machine and a model type it has."""
    machine = Machine.objects.filter(pk=_id(request, "machine")).first()
    model_type = request.GET.get("type", "")
    known = machine and machine.series.filter(model_type=model_type.replace("\x00", "")).exists()
    if machine is None or not known:
        raise Http404
    return machine, model_type


def _model(request: HttpRequest) -> ModelVersion:
    models = ModelVersion.objects.select_related("machine").defer("artefact", "hyperparameters")
    model = models.filter(pk=_id(request, "model")).first()
    if model is None:
        raise Http404
    return model


def _id(request: HttpRequest, name: str) -> uuid.UUID:
    try:
        return uuid.UUID(request.GET.get(name, ""))
    except ValueError as error:
        raise Http404 from error


def _active(machine: Machine, model_type: str) -> ModelVersion | None:
    series = ModelVersion.objects.of_series(machine_id=machine.pk, model_type=model_type)
    return series.active().first()


def _by(request: HttpRequest) -> str:
    return f"user:{request.user.get_username()}"


def _what_is_trained(policy: PolicyValues) -> str:
    kind = trainer_document(policy).get("kind")
    days = policy.training_window_days
    return f"The trainer “{kind}” gets the {days} day{'' if days == 1 else 's'} until now."


def _what_comes_after(policy: PolicyValues) -> str:
    if policy.after_training == AfterTraining.ACTIVATE:
        return "The new version serves as soon as it is trained."
    if policy.after_training == AfterTraining.TEST:
        hours = number(policy.test_duration_hours)
        return f"The new version is tested against the active one for {hours} h."
    return "The new version then waits for a person to activate it."


def _what_is_rolled_back(active: ModelVersion | None, previous: ModelVersion | None) -> list[str]:
    if active is None or previous is None:
        return []
    instead = f"in place of version {active.model_version}"
    return [f"Version {previous.model_version} serves again {instead}, from now on."]


def _retrain(machine: Machine, model_type: str, by: str, reason: str) -> str:
    answer = training.trigger(machine=machine, model_type=model_type, reason=reason, by=by)
    if not answer.triggered:
        raise ConflictError(answer.reason)
    return "A training was asked for. It starts as soon as somebody takes it."


def _activate(model: ModelVersion, by: str, reason: str) -> str:
    registry.activate_model(model=model, reason=reason, by=by)
    return f"Version {model.model_version} serves now."


def _roll_back(machine: Machine, model_type: str, by: str, reason: str) -> str:
    model = registry.rollback(machine=machine, model_type=model_type, reason=reason, by=by)
    return f"Rolled back: version {model.model_version} serves again."
