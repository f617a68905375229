"""Which version served when: the history of activations, and the verbs that add to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse

from modelperf.admin.base import ReadOnlyAdmin, ServiceAdmin, WordsFilter, actor
from modelperf.admin.reasons import OptionalReasonForm, ReasonForm, answered, ask
from modelperf.models import ModelActivation, ModelVersion
from modelperf.services import registry
from modelperf.services.errors import ConflictError
from modelperf.templatetags.presentation import ago, moment, words

if TYPE_CHECKING:
    TabularInline = admin.TabularInline[ModelActivation, ModelVersion]
else:  # generic for the type checker only
    TabularInline = admin.TabularInline


class ActivationInline(TabularInline):
    """When a version came to serve, shown with it."""

    model = ModelActivation
    fk_name = "model"
    fields = ("activated_at", "kind", "previous_version", "reason", "activated_by")
    readonly_fields = fields
    verbose_name_plural = "activations"
    ordering = ("-activated_at", "-id")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes history."""
        return False


@admin.register(ModelActivation)
class ModelActivationAdmin(ReadOnlyAdmin):
    """Every version that came to serve its series: in place of which, why, and by whom."""

    list_display = ("when", "series", "model_version", "replaced", "what", "reason", "activated_by")
    list_filter: ClassVar = [("kind", WordsFilter), "model_type"]
    search_fields = ("machine__name", "reason", "activated_by")
    list_select_related = ("machine",)
    ordering = ("-activated_at", "-id")
    actions = None

    @admin.display(description="when", ordering="activated_at")
    def when(self, activation: ModelActivation) -> str:
        """Return when, in both ways."""
        return f"{moment(activation.activated_at)}, {ago(activation.activated_at)}"

    @admin.display(description="series", ordering="machine__name")
    def series(self, activation: ModelActivation) -> str:
        """Return machine and type."""
        return f"{activation.machine.name} · {activation.model_type}"

    @admin.display(description="in place of")
    def replaced(self, activation: ModelActivation) -> str:
        """Return the version that served before."""
        return f"v{activation.previous_version}" if activation.previous_version else "–"

    @admin.display(description="what", ordering="kind")
    def what(self, activation: ModelActivation) -> str:
        """Return how it came to serve."""
        return words(activation.kind)


class ActivationVerbs(ServiceAdmin):
    """The actions that change which version serves; both ask for the reason first."""

    @admin.action(description="Activate…", permissions=["change"])
    def activate(
        self, request: HttpRequest, queryset: QuerySet[ModelVersion]
    ) -> HttpResponse | None:
        """Ask why, then let the selected versions serve their series."""
        form = OptionalReasonForm(answered(request))
        if form.is_valid():
            verb = partial(_activate, by=actor(request), reason=form.cleaned_data["reason"])
            self.run(request, queryset, verb, done="activated", log="Activated.")
            return None
        versions = list(queryset)
        return ask(
            self,
            request,
            form=form,
            action="activate",
            title="Activate versions",
            label="Activate",
            says="These versions will serve their series in place of those that do now:",
            will=[_name(one) for one in versions if not one.is_active],
            will_not=[f"{_name(one)} is active already." for one in versions if one.is_active],
        )

    @admin.action(description="Roll back their series…", permissions=["change"])
    def roll_back(
        self, request: HttpRequest, queryset: QuerySet[ModelVersion]
    ) -> HttpResponse | None:
        """Ask why, then let the versions serve again that served before."""
        form = ReasonForm(answered(request))
        versions = _one_a_series(queryset)
        if form.is_valid():
            verb = partial(_roll_back, by=actor(request), reason=form.cleaned_data["reason"])
            self.run(request, versions, verb, done="rolled back", log="Rolled back its series.")
            return None
        will, will_not = _returns(versions)
        return ask(
            self,
            request,
            form=form,
            action="roll_back",
            title="Roll back series",
            label="Roll back",
            says="The version will serve again that served before:",
            will=will,
            will_not=will_not,
        )


def _one_a_series(versions: QuerySet[ModelVersion]) -> list[ModelVersion]:
    """Return one version of each series: going back twice at once is what nobody means."""
    found = {(one.machine_id, one.model_type): one for one in versions.order_by("model_version")}
    return list(found.values())


def _returns(versions: list[ModelVersion]) -> tuple[list[str], list[str]]:
    will, will_not = [], []
    for one in versions:
        series = f"{one.machine.name} · {one.model_type}"
        previous = registry.previous_active(machine=one.machine, model_type=one.model_type)
        if previous is None:
            will_not.append(f"{series}: no version is known to have served before.")
        else:
            will.append(f"{series}: back to version {previous.model_version}")
    return will, will_not


def _name(version: ModelVersion) -> str:
    return f"{version.machine.name} · {version}"


def _activate(model: ModelVersion, *, by: str, reason: str) -> None:
    if model.is_active:
        raise ConflictError("It is active already.", is_active=True)
    registry.activate_model(model=model, reason=reason, by=by)


def _roll_back(model: ModelVersion, *, by: str, reason: str) -> None:
    registry.rollback(machine=model.machine, model_type=model.model_type, reason=reason, by=by)
