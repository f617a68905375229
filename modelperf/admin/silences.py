"""Silences: looked at before they are set, changed while they hold, ended early, never deleted."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from modelperf.admin import matchers
from modelperf.admin.base import REFUSAL, ModelForm, ServiceAdmin, actor
from modelperf.models import Silence
from modelperf.services import silences
from modelperf.templatetags.presentation import actor as by_name
from modelperf.templatetags.presentation import moment, words

_FIELDS: Final = ("matchers", "reason", "owner", "starts_at", "ends_at")
_SHOWN: Final = ("is_for", "reason", "owner", "begins", "ends")  # where nothing can be typed
_OF_ONE: Final = ("matches_now", "set_by", "changes")


def _moment() -> forms.DateTimeInput:
    """Return one field for a day and a time: with two of them each would need its own name."""
    return forms.DateTimeInput(
        attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"
    )


class SilenceForm(ModelForm):
    """For what, why, whose, and until when."""

    class Meta:
        model = Silence
        fields = _FIELDS
        field_classes: ClassVar = {
            "matchers": matchers.MatchersField,
            "starts_at": forms.DateTimeField,
            "ends_at": forms.DateTimeField,
        }
        widgets: ClassVar = {
            "reason": forms.Textarea(attrs={"rows": 3, "cols": 60}),
            "starts_at": _moment(),
            "ends_at": _moment(),
        }
        help_texts: ClassVar = {
            "matchers": matchers.HELP + " A fleet alert is silent where every machine matches.",
            "reason": "Why nobody needs to be told.",
            "owner": "Who answers for it.",
            "starts_at": "UTC. Empty: now.",
            "ends_at": "UTC. It ends by itself then.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "starts_at" in self.fields:  # not where it is only shown
            self.fields["starts_at"].required = False

    def clean_starts_at(self) -> Any:
        """Begin now where nothing else is said."""
        return self.cleaned_data["starts_at"] or self.instance.starts_at or timezone.now()

    def clean(self) -> dict[str, Any] | None:
        """Refuse an end that is before the beginning, or past, before it is looked at."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        ends, starts = cleaned.get("ends_at"), cleaned.get("starts_at")
        if ends is not None and ends <= timezone.now():
            self.add_error("ends_at", "A silence ends later than now.")
        elif ends is not None and starts is not None and ends <= starts:
            self.add_error("ends_at", "A silence ends after it starts.")
        if cleaned.get("matchers") == {}:
            self.add_error("matchers", 'Name what it is for. {"machine": ["*"]} is every machine.')
        return cleaned


class StateFilter(admin.SimpleListFilter):
    """Those in force, those to come, and those that are over."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the states there are."""
        return [(name, words(name)) for name in ("in_force", "to_come", "over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep those of the state chosen."""
        now = timezone.now()
        chosen = {
            "in_force": {"starts_at__lte": now, "ends_at__gt": now},
            "to_come": {"starts_at__gt": now},
            "over": {"ends_at__lte": now},
        }
        return queryset.filter(**chosen.get(self.value() or "", {}))


@admin.register(Silence)
class SilenceAdmin(ServiceAdmin):
    """Every silence there was, those that hold longest first."""

    form = SilenceForm
    list_display = ("reason", "is_for", "state", "owner", "begins", "ends")
    list_filter = (StateFilter,)
    search_fields = ("reason", "owner")
    actions = ("end_now",)
    preview_template = "admin/modelperf/silence/preview.html"

    class Media:
        css = matchers.STYLES

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let nobody change what is over."""
        is_over = isinstance(obj, Silence) and obj.ends_at <= timezone.now()
        return not is_over and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Show of one that exists what it matches and what became of it."""
        if obj is None:
            return _FIELDS
        obj.asked_by = request
        own = _FIELDS if self.has_change_permission(request, obj) else _SHOWN
        return (*own, *_OF_ONE)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Keep what is not the form's."""
        return (*_OF_ONE, *_SHOWN[:1], *_SHOWN[3:]) if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Offer who asks as the owner, and the matchers of where one comes from."""
        given: dict[str, Any] = {**super().get_changeform_initial_data(request)}
        given["matchers"] = matchers.asked_for(given.get("matchers"))
        return {"owner": request.user.get_username()} | given

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show what a silence would match before it is saved."""
        if request.method == "POST":
            if "_edit" in request.POST:
                request.META[REFUSAL] = ["Not saved yet."]
            elif "confirm" not in request.POST:
                page = self._preview(request, object_id)
                if page is not None:
                    return page
        context = {"show_save_and_continue": False, "show_save_and_add_another": False}
        return super().changeform_view(
            request, object_id, form_url, context | (extra_context or {})
        )

    def _preview(self, request: HttpRequest, object_id: str | None) -> HttpResponse | None:
        """Return the page of what it would match; None where there is something to put right."""
        obj = None if object_id is None else self.get_object(request, unquote(object_id))
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        if object_id is not None and obj is None:
            return None
        if not may:
            raise PermissionDenied
        form = self.get_form(request, obj, change=obj is not None)(request.POST, instance=obj)
        if not form.is_valid():
            return None
        wanted = form.cleaned_data["matchers"]
        context = {
            **self.admin_site.each_context(request),
            "title": "What the silence is for",
            "opts": self.opts,
            "form": form,
            "says": {name: form.cleaned_data[name] for name in _FIELDS},
            "is_for": matchers.in_words(wanted),
            "matches": matchers.shown(request, silences.preview(matchers=wanted)),
        }
        return TemplateResponse(request, self.preview_template, context)

    @admin.display(description="is for")
    def is_for(self, silence: Silence) -> str:
        """Return the matchers in a few words."""
        return matchers.in_words(silence.matchers)

    @admin.display(description="state")
    def state(self, silence: Silence) -> str:
        """Return whether it holds."""
        now = timezone.now()
        if silence.ends_at <= now:
            return "Over"
        return "In force" if silence.starts_at <= now else "To come"

    @admin.display(description="starts at", ordering="starts_at")
    def begins(self, silence: Silence) -> str:
        """Return when it begins, as times are written everywhere."""
        return moment(silence.starts_at)

    @admin.display(description="ends at", ordering="ends_at")
    def ends(self, silence: Silence) -> str:
        """Return when it ends, or ended."""
        return moment(silence.ends_at)

    @admin.display(description="matches now")
    def matches_now(self, silence: Any) -> SafeString:
        """Return which unresolved alerts it is for."""
        find = partial(silences.preview, matchers=silence.matchers)
        return matchers.now(silence.asked_by, find)

    @admin.display(description="set by")
    def set_by(self, silence: Silence) -> str:
        """Return who set it."""
        return by_name(silence.created_by)

    @admin.display(description="changes")
    def changes(self, silence: Any) -> SafeString:
        """Return every change, and by whom."""
        return matchers.changes(silence.events.order_by("pgh_id"), _FIELDS)

    def save_model(self, request: HttpRequest, obj: Silence, form: Any, change: bool) -> None:
        """Write through the service, only what was changed."""
        data, by = form.cleaned_data, actor(request)
        if change:
            given = {name: data[name] for name in form.changed_data}
            silences.change(silence=obj, by=by, **given)
        else:
            obj.pk = silences.create(**{name: data[name] for name in _FIELDS}, by=by).pk

    @admin.action(description="End now", permissions=["change"])
    def end_now(self, request: HttpRequest, queryset: QuerySet[Silence]) -> None:
        """End silences before their time."""
        verb = partial(_end, by=actor(request))
        self.run(request, queryset, verb, done="ended", log="Ended before its time.")


def _end(silence: Silence, *, by: str) -> None:
    silences.end(silence=silence, by=by)
