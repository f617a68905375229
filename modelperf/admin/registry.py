"""Machines and model versions."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from modelperf.admin.activations import ActivationInline, ActivationVerbs
from modelperf.admin.base import ObjectForm, actor
from modelperf.admin.retraining import RetrainVerb
from modelperf.models import ApiKey, Machine, ModelVersion
from modelperf.models.access import PERMISSION_OF_SCOPE
from modelperf.services import registry


class MachineForm(ObjectForm):
    """What is said of a machine."""

    class Meta:
        model = Machine
        fields = ("name", "type", "location", "data_interval_seconds", "metadata")

    def clean_metadata(self) -> dict[str, Any]:
        """Refuse what is no object."""
        return self.cleaned_object("metadata")


@admin.register(Machine)
class MachineAdmin(RetrainVerb):
    """Machines are added and changed; instead of being deleted they retire."""

    form = MachineForm
    list_display = ("name", "type", "location", "is_active", "created_at")
    list_filter = ("is_active", "type")
    search_fields = ("name", "location")
    actions = ("retrain", "retire", "return_to_service")

    def save_model(self, request: HttpRequest, obj: Machine, form: Any, change: bool) -> None:
        """Create or change through the service."""
        values = {name: form.cleaned_data[name] for name in MachineForm.Meta.fields}
        if change:
            changes = {name: values[name] for name in form.changed_data}
            registry.update_machine(machine=obj, changes=changes, by=actor(request))
            return
        machine, _ = registry.create_machine(**values, id=obj.pk, by=actor(request))
        obj.pk = machine.pk

    @admin.action(description="Retire", permissions=["change"])
    def retire(self, request: HttpRequest, queryset: QuerySet[Machine]) -> None:
        """Take machines out of service."""
        verb = partial(_retire, by=actor(request))
        self.run(request, queryset, verb, done="retired", log="Retired.")

    @admin.action(description="Return to service", permissions=["change"])
    def return_to_service(self, request: HttpRequest, queryset: QuerySet[Machine]) -> None:
        """Take retired machines back."""
        verb = partial(_return, by=actor(request))
        self.run(request, queryset, verb, done="returned to service", log="Returned to service.")


class ModelVersionForm(ObjectForm):
    """A new version; its number is the next of its series unless given."""

    model_version = forms.IntegerField(
        required=False, min_value=1, help_text="The next one when left empty."
    )
    feature_names = forms.CharField(
        required=False, help_text="Separated by commas.", widget=forms.TextInput(attrs={"size": 60})
    )

    class Meta:
        model = ModelVersion
        fields = (
            "machine",
            "model_type",
            "model_version",
            "is_active",
            "trained_at",
            "feature_names",
            "hyperparameters",
            "metadata",
        )

    def clean_feature_names(self) -> list[str]:
        """Split at the commas."""
        return [
            part.strip() for part in self.cleaned_data["feature_names"].split(",") if part.strip()
        ]

    def clean_hyperparameters(self) -> dict[str, Any]:
        """Refuse what is no object."""
        return self.cleaned_object("hyperparameters")

    def clean_metadata(self) -> dict[str, Any]:
        """Refuse what is no object."""
        return self.cleaned_object("metadata")

    def _post_clean(self) -> None:
        """Leave the checks of the whole row to the service, which knows the next number."""


@admin.register(ModelVersion)
class ModelVersionAdmin(ActivationVerbs):
    """Versions are registered and activated; what was trained is never edited."""

    form = ModelVersionForm
    list_display = ("series", "model_version", "is_active", "trained_at", "created_at")
    list_filter = ("is_active", "model_type")
    search_fields = ("machine__name", "model_type")
    list_select_related = ("machine",)
    autocomplete_fields = ("machine",)
    actions = ("activate", "roll_back")
    ordering = ("machine__name", "model_type", "-model_version")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        """Leave large documents out of the list."""
        queryset = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and (match.url_name or "").endswith("changelist")
        return queryset.defer("artefact", "hyperparameters", "metadata") if is_list else queryset

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let the list offer its action; a registered version is only shown."""
        return obj is None and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Show the artefact of what exists, as the API does: to those who may train."""
        fields = list(ModelVersionForm.Meta.fields)
        may_train = request.user.has_perm(PERMISSION_OF_SCOPE[ApiKey.Scope.TRAIN])
        return [*fields, *(["artefact"] if may_train else []), "id"] if obj else fields

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> list[Any]:
        """Show with a version when it came to serve."""
        return [ActivationInline] if obj else []

    @admin.display(description="series", ordering="machine__name")
    def series(self, version: ModelVersion) -> str:
        """Return machine and type."""
        return f"{version.machine.name} · {version.model_type}"

    def save_model(self, request: HttpRequest, obj: ModelVersion, form: Any, change: bool) -> None:
        """Register through the service."""
        values = {name: form.cleaned_data[name] for name in ModelVersionForm.Meta.fields}
        model, _ = registry.register_model(**values, by=actor(request))
        for name in ("pk", *ModelVersionForm.Meta.fields):
            setattr(obj, name, getattr(model, name))


def _retire(machine: Machine, *, by: str) -> None:
    registry.retire_machine(machine=machine, by=by)


def _return(machine: Machine, *, by: str) -> None:
    registry.return_machine(machine=machine, by=by)
