"""Asking for trainings of machines from their list, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from modelperf.admin.base import ServiceAdmin, actor
from modelperf.admin.reasons import ReasonForm, answered, ask
from modelperf.models import ApiKey, Machine, Series
from modelperf.models.access import PERMISSION_OF_SCOPE
from modelperf.services import training
from modelperf.services.errors import DomainError


class RetrainForm(ReasonForm):
    """Which models of the selected machines, and why."""

    field_order = ("model_type", "reason")
    model_type = forms.ChoiceField(label="Models of the type", required=False)

    def __init__(self, data: dict[str, Any] | None, types: Sequence[str]) -> None:
        super().__init__(data)
        field = self.fields["model_type"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 -- as declared above
        field.choices = [("", "All types"), *((name, name) for name in types)]


class RetrainVerb(ServiceAdmin):
    """The action of machines that asks for trainings of their series."""

    def has_train_permission(self, request: HttpRequest) -> bool:
        """Whether the user may do what a key needs the scope train for."""
        return request.user.has_perm(PERMISSION_OF_SCOPE[ApiKey.Scope.TRAIN])

    @admin.action(description="Retrain…", permissions=["train"])
    def retrain(self, request: HttpRequest, queryset: QuerySet[Machine]) -> HttpResponse | None:
        """Ask for which models and why, then ask for their trainings."""
        series = _series(queryset)
        form = RetrainForm(answered(request), sorted({one.model_type for one in series}))
        if form.is_valid():
            kind = form.cleaned_data["model_type"]
            wanted = [one for one in series if kind in ("", one.model_type)]
            self._ask_for(request, wanted, form.cleaned_data["reason"])
            return None
        return ask(
            self,
            request,
            form=form,
            action="retrain",
            title="Retrain",
            label="Retrain",
            says="A training of these series will be asked for in your name:",
            will=[str(one) for one in series if one.machine.is_active],
            will_not=[f"{one} is retired." for one in series if not one.machine.is_active],
        )

    def _ask_for(self, request: HttpRequest, wanted: Sequence[Series], reason: str) -> None:
        """Ask for each training, and tell how many were and which not."""
        n_asked = 0
        for one in wanted:
            refusal = _refusal(one, reason, actor(request))
            if refusal:
                self.message_user(request, f"{one}: {refusal}", messages.ERROR)
                continue
            self.log_change(request, one.machine, f"Asked for a training of {one.model_type}.")
            n_asked += 1
        if n_asked:
            plural = "" if n_asked == 1 else "s"
            self.message_user(request, f"{n_asked} training{plural} asked for.", messages.SUCCESS)


def _series(machines: QuerySet[Machine]) -> list[Series]:
    found = Series.objects.filter(machine__in=machines.order_by())
    return list(found.select_related("machine").order_by("machine__name", "model_type"))


def _refusal(series: Series, reason: str, by: str) -> str:
    """Ask for a training; return why not where it was refused."""
    try:
        answer = training.trigger(
            machine=series.machine, model_type=series.model_type, reason=reason, by=by
        )
    except DomainError as error:
        return error.detail
    return "" if answer.triggered else answer.reason
