"""What is asked before alerts are resolved, snoozed, assigned, or spoken about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.contrib.auth.models import Group, User
from django.utils import timezone

from modelperf.services.alerts_verbs import (
    COMMENT_LENGTH,
    KEEP,
    MOST_OCCURRENCES,
    NOTES_LENGTH,
    RESOLUTIONS,
)
from modelperf.templatetags.presentation import moment, words

NOBODY: Final = "nobody"
MORNING: Final = time(9)
CUSTOM: Final = "custom"
_BACKEND: Final = "django.contrib.auth.backends.ModelBackend"


def _text(*, rows: int = 3) -> forms.Textarea:
    return forms.Textarea(attrs={"rows": rows})


class NoteForm(forms.Form):
    """A note, where there is something to say; it becomes a comment."""

    note = forms.CharField(required=False, max_length=COMMENT_LENGTH, widget=_text())

    def what(self) -> dict[str, Any]:
        """Return what the verb takes."""
        return {}


class ResolveForm(forms.Form):
    """What was done about the alerts."""

    action = forms.ChoiceField(
        label="What was done",
        choices=[("", "Choose…"), *((name, words(name)) for name in RESOLUTIONS)],
    )
    notes = forms.CharField(required=False, max_length=NOTES_LENGTH, widget=_text())

    def what(self) -> dict[str, Any]:
        """Return what the verb takes."""
        return {name: self.cleaned_data[name] for name in ("action", "notes")}


def endings(now: datetime) -> dict[str, datetime]:
    """Return the usual ends of a snooze, in the time zone of the pages."""
    local = timezone.localtime(now)
    today = local.replace(hour=MORNING.hour, minute=0, second=0, microsecond=0)
    monday = today + timedelta(days=7 - local.weekday())
    return {
        "hour": now + timedelta(hours=1),
        "tomorrow": today + timedelta(days=1),
        "monday": monday,
    }


class SnoozeForm(NoteForm):
    """Until when, until how often, or until worse: whichever comes first."""

    field_order = ("until", "at", "count", "worse", "note")
    until = forms.ChoiceField(label="Until", required=False)
    at = forms.DateTimeField(
        label="At another time, UTC",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
    )
    count = forms.IntegerField(
        label="After so many more occurrences",
        required=False,
        min_value=1,
        max_value=MOST_OCCURRENCES,
    )
    worse = forms.BooleanField(label="When it gets worse", required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ends = endings(timezone.now())
        field = self.fields["until"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 -- as declared above
        field.choices = [
            ("", "No time"),
            ("hour", f"1 hour: {moment(ends['hour'])}"),
            ("tomorrow", f"Tomorrow 9:00: {moment(ends['tomorrow'])}"),
            ("monday", f"Monday 9:00: {moment(ends['monday'])}"),
            (CUSTOM, "Another time, given below"),
        ]

    def clean(self) -> dict[str, Any]:
        """Refuse a snooze without an end, and a time that is in doubt."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        until, at = data.get("until"), data.get("at")
        if until == CUSTOM and at is None and "at" not in self.errors:
            self.add_error("at", "Give the time.")
        if until not in ("", CUSTOM) and at is not None:
            self.add_error("at", "Choose “Another time” for this, or leave it empty.")
        if not self.errors and not (until or at or data.get("count") or data.get("worse")):
            raise forms.ValidationError("Say when the snooze ends: a time, a number, or worse.")
        return data

    def what(self) -> dict[str, Any]:
        """Return what the verb takes."""
        data = self.cleaned_data
        until = endings(timezone.now()).get(data["until"], data["at"])
        return {"until": until, "count": data["count"], "worse": data["worse"]}


class AssignForm(NoteForm):
    """To whom: a person, a team, each by itself."""

    field_order = ("person", "team", "note")
    person = forms.ChoiceField(required=False)
    team = forms.ChoiceField(required=False)

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._people = {str(one.pk): one for one in _people()}
        self._teams = {str(one.pk): one for one in Group.objects.order_by("name")}
        own = str(user.pk)
        others = [(pk, one.username) for pk, one in self._people.items() if pk != own]
        me = [(own, f"Me, {user.get_username()}")] if own in self._people else []
        self._offer("person", [*me, (NOBODY, "Nobody"), *others])
        self._offer("team", [(NOBODY, "No team"), *((k, t.name) for k, t in self._teams.items())])

    def _offer(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 -- as declared above
        field.choices = [("", "As it is"), *choices]

    def clean(self) -> dict[str, Any]:
        """Refuse an assignment to neither."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors and not (data.get("person") or data.get("team")):
            raise forms.ValidationError("Choose a person, a team, or both.")
        return data

    def what(self) -> dict[str, Any]:
        """Return what the verb takes."""
        return {
            "assignee": _chosen(self._people, self.cleaned_data["person"]),
            "team": _chosen(self._teams, self.cleaned_data["team"]),
        }


class CommentForm(forms.Form):
    """What there is to say."""

    text = forms.CharField(label="Comment", max_length=COMMENT_LENGTH, widget=_text(rows=4))


def _people() -> Any:
    """Return who may see alerts, by name."""
    return User.objects.with_perm("modelperf.view_alert", backend=_BACKEND).order_by("username")


def _chosen(found: Mapping[str, Any], value: str) -> Any:
    if not value:
        return KEEP
    return None if value == NOBODY else found[value]
