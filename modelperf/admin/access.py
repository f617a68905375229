"""API keys: made, shown once, revoked."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from modelperf.admin.base import ModelForm, ServiceAdmin, actor
from modelperf.models import ApiKey
from modelperf.services import access


class ApiKeyForm(ModelForm):
    """Who gets the key, for what, until when, for which machines."""

    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = ApiKey
        fields = ("name", "scopes", "expiry_date", "machines")

    def clean_expiry_date(self) -> Any:
        """Refuse a key that would be dead on arrival."""
        expiry = self.cleaned_data["expiry_date"]
        if expiry is not None and expiry <= timezone.now():
            raise forms.ValidationError("The expiry lies in the past.")
        return expiry


@admin.register(ApiKey)
class ApiKeyAdmin(ServiceAdmin):
    """Keys are never changed: a new one is made and the old one revoked."""

    form = ApiKeyForm
    list_display = (
        "name",
        "prefix",
        "shown_scopes",
        "is_limited",
        "created",
        "expiry_date",
        "revoked",
    )
    list_filter = ("revoked", "is_limited")
    search_fields = ("name", "prefix")
    autocomplete_fields = ("machines",)
    ordering = ("-created",)
    actions = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let the list offer its action; a key is only shown."""
        return obj is None and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Show the prefix of what exists; the key itself is gone."""
        fields = list(ApiKeyForm.Meta.fields)
        if obj is None:
            return fields
        return ["name", "prefix", *fields[1:], "is_limited", "created", "revoked"]

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm]:
        """Offer for a new key the scopes that its maker has himself."""
        form = super().get_form(request, obj, change, **kwargs)
        return form if obj else _granting(form, access.grantable_scopes(request.user))

    @admin.display(description="scopes")
    def shown_scopes(self, key: ApiKey) -> str:
        """Return the scopes as a list."""
        return ", ".join(key.scopes)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Make the key and show it, this once."""
        data = form.cleaned_data
        key, plain = access.create_api_key(
            name=data["name"],
            scopes=data["scopes"],
            expires_at=data["expiry_date"],
            machines=data["machines"],
        )
        obj.pk, obj.prefix, obj.hashed_key = key.pk, key.prefix, key.hashed_key
        text = format_html("The key, shown this once: <code>{}</code>. Copy it now.", plain)
        self.message_user(request, text, messages.WARNING)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Do nothing: the service has stored the machines with the key."""

    @admin.action(description="Revoke (for good)", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Make keys useless."""
        verb = partial(_revoke, by=actor(request))
        self.run(request, queryset, verb, done="revoked", log="Revoked.")


def _granting(form: type[ModelForm], scopes: list[str]) -> type[ModelForm]:
    class Granting(form):  # type: ignore[valid-type, misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            field = self.fields["scopes"]
            field.choices = [one for one in field.choices if one[0] in scopes]

    return Granting


def _revoke(key: ApiKey, *, by: str) -> None:
    access.revoke_api_key(key=key, by=by)
