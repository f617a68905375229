"""What all admin pages here have in common: verbs of services, their actor, their log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from modelperf.services.errors import DomainError, InvalidError
from modelperf.templatetags.presentation import words

Verb = Callable[..., Any]
REFUSAL = "modelperf.refusal"

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
else:  # generic for the type checker only
    ModelAdmin = admin.ModelAdmin
    ModelForm = forms.ModelForm


def actor(request: HttpRequest) -> str:
    """Return who acts, as services store it."""
    return f"user:{request.user.get_username()}"


class ObjectForm(ModelForm):
    """A form whose JSON fields hold objects."""

    def cleaned_object(self, name: str) -> dict[str, Any]:
        """Return the object of a field; an empty field is an empty one."""
        value = self.cleaned_data.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise forms.ValidationError('Write an object, such as {"unit": "kWh"}.')
        return value


def _sentences(error: DomainError) -> list[str]:
    """Return what is wrong with each field, else the refusal as a whole."""
    fields = error.errors if isinstance(error, InvalidError) else []
    return [field.msg for field in fields] or [error.detail]


def _refusing(form: type[ModelForm], refusal: list[str]) -> type[ModelForm]:
    class Refusing(form):  # type: ignore[valid-type, misc]
        def clean(self) -> dict[str, Any] | None:
            cleaned: dict[str, Any] | None = super().clean()
            self.add_error(None, forms.ValidationError(refusal))
            return cleaned

    return Refusing


def component(name: str, /, **context: Any) -> SafeString:
    """Return a piece of page that the web pages use too."""
    return render_to_string(f"components/{name}.html", context)


class WordsFilter(admin.ChoicesFieldListFilter):
    """A filter by choices that are written as on the pages: A/B test completed."""

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Write each choice in words."""
        for choice in super().choices(changelist):
            yield {**choice, "display": words(str(choice["display"]))}


class ServiceAdmin(ModelAdmin):
    """Nothing is deleted here, lists are not counted twice, and services' refusals are told."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    actions_on_top = True

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes: rows are history."""
        return False

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a service's refusal at the form, which keeps what was typed.

        Its transaction is rolled back by then, so the second pass only renders.
        """
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except DomainError as error:
            request.META[REFUSAL] = _sentences(error)
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm]:
        """Return the form; after a refusal one that says so and is never valid."""
        form: type[ModelForm] = super().get_form(request, obj, change, **kwargs)
        refusal: list[str] = request.META.get(REFUSAL, [])
        return _refusing(form, refusal) if refusal else form

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Name the list after what it lists."""
        title = capfirst(str(self.opts.verbose_name_plural))
        return super().changelist_view(request, {"title": title} | (extra_context or {}))

    def run(
        self, request: HttpRequest, objects: Iterable[Model], verb: Verb, *, done: str, log: str
    ) -> None:
        """Apply a verb to each object, log the changes, and tell how many and which not."""
        changed = 0
        for one in objects:
            try:
                verb(one)
            except DomainError as error:
                says = format_html("<bdi>{}</bdi>: {}", one, error.detail)
                self.message_user(request, says, messages.ERROR)
                continue
            self.log_change(request, one, log)
            changed += 1
        if changed:
            self.message_user(request, f"{changed:,} {done}.", messages.SUCCESS)


class ReadOnlyAdmin(ServiceAdmin):
    """Rows that only services write: shown, never edited; actions stay possible."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let the list offer its actions to those who may change; a single page only shows."""
        return obj is None and super().has_change_permission(request, obj)
