"""Matchers in the admin: typed as an object, refused with a sentence, shown by what they match."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from django import forms
from django.db.models import Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from modelperf.models import Alert
from modelperf.services import matching
from modelperf.services.errors import InvalidError
from modelperf.templatetags.presentation import actor, moment

MOST_SHOWN: Final = 50
EVERY: Final = "every alert"
_DOCUMENTS: Final = ("alert_details", "auto_action_result", "metadata")
STYLES: Final = {"all": ("css/notifications.css",)}
HELP: Final = (
    "An object of lists; an alert matches where each field that is there has an entry that fits:"
    ' {"severity": ["critical"], "machine": ["pump-*"]}. Fields: alert_type, severity, model_type,'
    " machine (name or id) and location; in the last three * stands for anything."
)


class DocumentField(forms.JSONField):
    """An object, shown a field a line; nothing is an empty one."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["widget"] = forms.Textarea(attrs={"rows": 6, "cols": 60, "spellcheck": "false"})
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Show it as it is typed."""
        if not isinstance(value, dict) or not value:
            return super().prepare_value(value)
        lines = [f"  {_written(name)}: {_written(held)}" for name, held in value.items()]
        return "{\n" + ",\n".join(lines) + "\n}"

    def clean(self, value: Any) -> dict[str, Any]:
        """Refuse what is no object."""
        found = super().clean(value)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise forms.ValidationError('Write an object, such as {"severity": ["critical"]}.')
        return found


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class MatchersField(DocumentField):
    """Matchers as they are stored."""

    def clean(self, value: Any) -> dict[str, Any]:
        """Refuse what can match nothing, with all that is wrong."""
        try:
            return dict(matching.read(super().clean(value)).document())
        except InvalidError as error:
            raise forms.ValidationError([one.msg for one in error.errors]) from None


def asked_for(text: Any) -> dict[str, Any]:
    """Return the matchers that an address asks to fill in; what are none fill in nothing."""
    try:
        return dict(matching.read(json.loads(text or "{}")).document())
    except (ValueError, InvalidError, RecursionError):
        return {}


def in_words(document: Any) -> str:
    """Return matchers in a few words; what is stored and cannot be read as it is."""
    try:
        known = matching.read(document).document()
    except InvalidError:
        return f"unreadable: {_written(document)}"
    return "; ".join(f"{name}: {', '.join(some)}" for name, some in known.items()) or EVERY


def of_route(matchers: dict[str, Any]) -> list[Alert]:
    """Return the unresolved alerts that a route with these matchers tells of, worst first.

    Their documents are not read.
    """
    wanted = matching.read(matchers)
    found = Alert.objects.unresolved().worst_first().defer(*_DOCUMENTS)
    return [
        alert
        for alert in matching.load(found).values()
        if matching.matches(wanted, matching.matched(alert), every=False)
    ]


def now(request: HttpRequest, find: Callable[[], Sequence[Alert]]) -> SafeString:
    """Return which alerts stored matchers match, or why they can match none."""
    try:
        return shown(request, find())
    except InvalidError as error:
        return format_html("Unreadable. {}", error.detail)


def shown(request: HttpRequest, alerts: Sequence[Alert]) -> SafeString:
    """Return how many alerts match, and the worst of them to those who may see them."""
    may_see = request.user.has_perm("modelperf.view_alert")
    context = {
        "n": len(alerts),
        "alerts": alerts[:MOST_SHOWN] if may_see else [],
        "n_more": max(len(alerts) - MOST_SHOWN, 0) if may_see else 0,
    }
    return render_to_string("admin/modelperf/matches.html", context)


def changes(events: Iterable[Any], fields: Sequence[str]) -> SafeString:
    """Return the changes of something, newest first: when, by whom, and what became what."""
    steps: list[tuple[str, str, str]] = []
    before: Any = None
    for event in events:
        by = actor(str((event.pgh_context or {}).get("actor", ""))) or "unknown"
        steps.append((moment(event.pgh_created_at), by, _step(before, event, fields)))
        before = event
    if not steps:
        return format_html("{}", "–")
    return format_html(
        '<ul class="changes">{}</ul>',
        format_html_join("", "<li>{} · {}: {}</li>", reversed(steps)),
    )


def _step(before: Model | None, event: Any, fields: Sequence[str]) -> str:
    if before is None:
        return "set"
    changed = [
        f"{name.replace('_', ' ')} {_told(getattr(before, name))} → {_told(getattr(event, name))}"
        for name in fields
        if getattr(before, name) != getattr(event, name)
    ]
    return "; ".join(changed) or "saved as it was"


def _told(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return _written(value) if value else EVERY
    return moment(value) if hasattr(value, "astimezone") else str(value)
