"""Channels and routes: who is told of which alerts, by which way, and when."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from modelperf.admin import matchers
from modelperf.admin.base import ModelForm, ServiceAdmin, actor
from modelperf.models import Channel, Route, RouteEvent
from modelperf.notifications import SettingsError, find, kinds, masked
from modelperf.services import notifications
from modelperf.services.errors import DomainError
from modelperf.services.recorded import recorded

_ROUTE_FIELDS: Final = (
    "name",
    "channel",
    "matchers",
    "is_enabled",
    "tells_resolved",
    "group_seconds",
    "most_per_hour",
    "quiet_from",
    "quiet_until",
    "quiet_timezone",
    "quiet_severity",
)
_KEPT: Final = "Switch it off instead of deleting it: it is kept for the record."
_LONGEST_WAIT: Final = 86_400


def _examples() -> SafeString:
    told = [(name, json.dumps(kind.example)) for name, kind in kinds().items()]
    return format_html(
        'What the kind needs to know: <span class="examples">{}</span>',
        format_html_join("", "<br>{}: <code>{}</code>", told),
    )


class ChannelForm(ModelForm):
    """A place messages go; its settings are those of its kind."""

    kind = forms.ChoiceField(choices=[("", "Choose…"), *((name, name) for name in kinds())])

    class Meta:
        model = Channel
        fields = ("name", "kind", "settings", "is_enabled")
        field_classes: ClassVar = {"settings": matchers.DocumentField}
        help_texts: ClassVar = {"is_enabled": _KEPT}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "settings" in self.fields:  # not where it is only shown
            self.fields["settings"].help_text = _examples()

    def clean(self) -> dict[str, Any] | None:
        """Refuse settings that can never work."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "kind" in cleaned and "settings" in cleaned:
            try:
                find(cleaned["kind"], cleaned["settings"])
            except SettingsError as error:
                self.add_error("settings", str(error))
        return cleaned


@admin.register(Channel)
class ChannelAdmin(ServiceAdmin):
    """Channels are switched off, not deleted: messages went over them."""

    form = ChannelForm
    list_display = ("name", "kind", "goes_to", "is_enabled")
    list_filter = ("kind", "is_enabled")
    search_fields = ("name",)
    actions = ("send_test",)

    class Media:
        css = matchers.STYLES

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Show what is secret to those only who may change it."""
        if self._may_write(request, obj):
            return ChannelForm.Meta.fields
        return ("name", "kind", "shown_settings", "is_enabled")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Keep a kind: another one is another channel."""
        if not self._may_write(request, obj):
            return ("shown_settings",)
        return ("kind",) if obj else ()

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm]:
        """Judge the settings of a channel that exists by the kind it has."""
        form = super().get_form(request, obj, change, **kwargs)
        return _of_kind(form, obj.kind) if obj else form

    def _may_write(self, request: HttpRequest, obj: Model | None) -> bool:
        return self.has_change_permission(request, obj) if obj else self.has_add_permission(request)

    @admin.display(description="settings")
    def shown_settings(self, channel: Channel) -> SafeString:
        """Return the settings without what is secret."""
        told = json.dumps(masked(channel.kind, channel.settings), ensure_ascii=False)
        return format_html("<code>{}</code>", told)

    @admin.display(description="goes to")
    def goes_to(self, channel: Channel) -> str:
        """Return the addresses of people, of others host and port."""
        to = channel.settings.get("to")
        if isinstance(to, list):
            return ", ".join(map(str, to[:3])) + (f" and {len(to) - 3} more" if to[3:] else "")
        return urlsplit(str(channel.settings.get("url", ""))).netloc.rpartition("@")[2] or "–"

    @admin.action(description="Send a test", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        """Send a message that says it is a test, at once, and tell what was answered."""
        for channel in queryset:
            try:
                answered = notifications.send_test(name=channel.name)
            except DomainError as error:
                self.message_user(request, f"Test of {channel}: {error.detail}", messages.ERROR)
                continue
            self.log_change(request, channel, "Sent a test.")
            self.message_user(request, f"Test of {channel}: {answered}.", messages.SUCCESS)


def _of_kind(form: type[ModelForm], kind: str) -> type[ModelForm]:
    class OfKind(form):  # type: ignore[valid-type, misc]
        def clean(self) -> dict[str, Any] | None:
            self.cleaned_data["kind"] = kind
            cleaned: dict[str, Any] | None = super().clean()
            return cleaned

    return OfKind


class RouteForm(ModelForm):
    """Which alerts a channel is told of, and when."""

    class Meta:
        model = Route
        fields = _ROUTE_FIELDS
        field_classes: ClassVar = {"matchers": matchers.MatchersField}
        help_texts: ClassVar = {
            "matchers": matchers.HELP + " Empty: every alert.",
            "is_enabled": _KEPT,
            "tells_resolved": "Whether it tells of the end of what it told the beginning of.",
            "group_seconds": "So long a notice waits for others to go with it; up to a day.",
            "most_per_hour": "More messages are gathered until the hour allows another.",
            "quiet_from": "In quiet hours messages wait for their end. They may go past midnight."
            " Empty: none.",
            "quiet_timezone": "Such as Europe/Berlin.",
            "quiet_severity": "This and what is less waits; what is worse is told at once.",
        }

    def clean_group_seconds(self) -> int:
        """Refuse a longer wait than the database keeps."""
        seconds = int(self.cleaned_data["group_seconds"])
        if seconds > _LONGEST_WAIT:
            raise forms.ValidationError(f"At most {_LONGEST_WAIT}, a day.")
        return seconds

    def clean_most_per_hour(self) -> int:
        """Refuse a route that may never tell anything."""
        most = int(self.cleaned_data["most_per_hour"])
        if most < 1:
            raise forms.ValidationError("At least 1. Switch the route off to have none.")
        return most

    def clean_quiet_timezone(self) -> str:
        """Refuse what is no time zone."""
        name = str(self.cleaned_data["quiet_timezone"])
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # not there, no name, a folder of them
            raise forms.ValidationError(
                "This is no time zone. Write such as Europe/Berlin, or UTC."
            ) from None
        return name

    def clean(self) -> dict[str, Any] | None:
        """Refuse quiet hours of which half is said."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        begin, end = cleaned.get("quiet_from"), cleaned.get("quiet_until")
        if not {"quiet_from", "quiet_until"} & set(self.errors):
            if (begin is None) != (end is None):
                self.add_error(
                    "quiet_until", "Quiet hours need both when they begin and when they end."
                )
            elif begin is not None and begin == end:
                self.add_error("quiet_until", "Quiet hours end at another time than they begin.")
        return cleaned


@admin.register(Route)
class RouteAdmin(ServiceAdmin):
    """Routes are switched off, not deleted; every change of one is kept."""

    form = RouteForm
    list_display = ("name", "channel_name", "told_of", "tells_resolved", "is_enabled")
    list_filter = ("is_enabled",)
    list_select_related = ("channel",)
    search_fields = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "channel", "is_enabled")}),
        ("What it tells of", {"fields": ("matchers", "matches_now", "tells_resolved")}),
        ("How often", {"fields": ("group_seconds", "most_per_hour")}),
        (
            "Quiet hours",
            {"fields": ("quiet_from", "quiet_until", "quiet_timezone", "quiet_severity")},
        ),
        ("Changes", {"fields": ("changes",)}),
    )
    readonly_fields = ("matches_now", "changes")

    class Media:
        css = matchers.STYLES

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what only a route that exists has, and the way to what may not be seen."""
        found: Any = super().get_fieldsets(request, obj)
        left_out: dict[str, str] = {}
        if obj is None:
            left_out = dict.fromkeys(self.readonly_fields, "")
        else:
            obj.asked_by = request
            if not self.has_change_permission(request, obj):
                left_out = {"channel": "channel_name", "matchers": "told_of"}
        shown = [(name, [left_out.get(one, one) for one in has["fields"]]) for name, has in found]
        return [
            (name, {"fields": [one for one in fields if one]})
            for name, fields in shown
            if any(fields)
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Show the channel by name to those who may not choose another."""
        return (*self.readonly_fields, "channel_name", "told_of")

    @admin.display(description="channel")
    def channel_name(self, route: Route) -> str:
        """Return the channel's name: not everybody may see more of it."""
        return route.channel.name

    @admin.display(description="tells of")
    def told_of(self, route: Route) -> str:
        """Return the matchers in a few words."""
        return matchers.in_words(route.matchers)

    @admin.display(description="matches now")
    def matches_now(self, route: Any) -> SafeString:
        """Return which unresolved alerts the stored matchers match."""
        return matchers.now(route.asked_by, partial(matchers.of_route, route.matchers))

    @admin.display(description="changes")
    def changes(self, route: Route) -> SafeString:
        """Return every change, and by whom."""
        found = RouteEvent.objects.filter(pgh_obj=route.pk).select_related("channel")
        return matchers.changes(found.order_by("pgh_id"), _ROUTE_FIELDS)

    def save_model(self, request: HttpRequest, obj: Route, form: Any, change: bool) -> None:
        """Keep who did it, and tell what it matches, and that it does not tell of the past."""
        with recorded(by=actor(request), verb="change" if change else "create"):
            super().save_model(request, obj, form, change)
        n = len(matchers.of_route(obj.matchers))
        told = (
            f"It matches {n:,} unresolved alert{'' if n == 1 else 's'} now."
            " It tells only of what happens from now on."
        )
        self.message_user(request, told, messages.INFO)
