"""Messages: what was sent over a channel or is to be, each attempt, and what it tells."""

from __future__ import annotations

from typing import Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from modelperf.admin.base import ReadOnlyAdmin, WordsFilter, actor
from modelperf.admin.matchers import STYLES
from modelperf.models import Message
from modelperf.services.notifications_again import send_again
from modelperf.templatetags.presentation import moment, words

_MOST_EVENTS: Final = 200


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    """What was sent, or is to be: each attempt with what was answered, and what it tells."""

    list_display = ("begun", "route_name", "channel_name", "state", "attempts", "last_said")
    list_filter = (("status", WordsFilter), "channel", "route", "is_held")
    list_select_related = ("route", "channel")
    ordering = ("-created_at", "-id")
    actions = ("send_again",)
    fields = (
        "id",
        "route_name",
        "channel_name",
        "state",
        "is_held",
        "begun",
        "closed",
        "due",
        "ended",
        "attempts",
        "tries",
        "tells",
    )

    class Media:
        css = STYLES

    @admin.action(description="Send again", permissions=["change"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """Have messages that were given up sent, the oldest first."""
        self.run(
            request,
            queryset.order_by("sealed_at", "id"),
            lambda message: send_again(message=message, by=actor(request)),
            done="to be sent again",
            log="To be sent again.",
        )

    @admin.display(description="created at", ordering="created_at")
    def begun(self, message: Message) -> str:
        """Return when the first notice was put in."""
        return moment(message.created_at)

    @admin.display(description="closed to more at")
    def closed(self, message: Message) -> str:
        """Return when no more notices joined it."""
        return moment(message.sealed_at)

    @admin.display(description="due at")
    def due(self, message: Message) -> str:
        """Return when it is, or was, to be tried."""
        return moment(message.due_at)

    @admin.display(description="sent or given up at")
    def ended(self, message: Message) -> str:
        """Return when it was over with it."""
        return moment(message.ended_at)

    @admin.display(description="route")
    def route_name(self, message: Message) -> str:
        """Return the route's name."""
        return message.route.name if message.route else "–"

    @admin.display(description="channel")
    def channel_name(self, message: Message) -> str:
        """Return the channel's name: not everybody may see more of it."""
        return message.channel.name

    @admin.display(description="status", ordering="status")
    def state(self, message: Message) -> str:
        """Return what became of it."""
        return words(message.status)

    @admin.display(description="answer")
    def last_said(self, message: Message) -> str:
        """Return what was answered last."""
        return str(message.attempts_log[-1].get("said", "–")) if message.attempts_log else "–"

    @admin.display(description="last attempts")
    def tries(self, message: Message) -> SafeString:
        """Return when it was tried, and what was answered."""
        told = [
            (moment(parse_datetime(str(one.get("at", "")))), one.get("said", "–"))
            for one in message.attempts_log
        ]
        if not told:
            return format_html("{}", "None yet.")
        rows = format_html_join("", "<li>{}: {}</li>", told)
        return format_html('<ul class="tries">{}</ul>', rows)

    @admin.display(description="tells")
    def tells(self, message: Message) -> SafeString:
        """Return what is told, with a link to each alert."""
        found = message.deliveries.select_related("notice").order_by("notice_id")
        rows = [
            (
                words(one.notice.kind),
                reverse("admin:modelperf_alert_change", args=[one.notice.alert_id]),
                one.notice.says.get("message", "–"),
                "" if one.decision == "told" else f" ({words(one.decision).lower()})",
                one.notice_id,
            )
            for one in found[:_MOST_EVENTS]
        ]
        if not rows:
            return format_html("{}", "Nothing any more.")
        shown = format_html_join(
            "", '<li>{}: <a href="{}">{}</a>{} <small>event {}</small></li>', rows
        )
        return format_html('<ul class="tells">{}</ul>', shown)
