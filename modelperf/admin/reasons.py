"""The page between choosing an action and doing it: what will happen, and the reason for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django import forms
from django.contrib.admin import helpers
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from modelperf.admin.base import ModelAdmin

TEMPLATE: Final = "admin/modelperf/reason.html"
LONGEST_REASON: Final = 2000


class ReasonForm(forms.Form):
    """Why something is done: kept with it, and told in the history."""

    reason = forms.CharField(
        max_length=LONGEST_REASON, widget=forms.Textarea(attrs={"rows": 3, "cols": 60})
    )


class OptionalReasonForm(ReasonForm):
    """Why, where there is something to say."""

    reason = forms.CharField(
        required=False,
        max_length=LONGEST_REASON,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
    )


def answered(request: HttpRequest) -> dict[str, Any] | None:
    """Return what was sent from the page; None where the action was only chosen."""
    return request.POST.dict() if "confirm" in request.POST else None


def ask(
    model_admin: ModelAdmin,
    request: HttpRequest,
    *,
    form: forms.Form,
    action: str,
    title: str,
    label: str,
    says: str,
    will: Sequence[Any],
    will_not: Sequence[Any] = (),
    template: str = TEMPLATE,
    more: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """Ask once more: `will` is what changes, `will_not` what does not and why.

    `more` is what a template of its own shows besides.
    """
    _focus(form)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "opts": model_admin.opts,
        "form": form,
        "action": action,
        "label": label,
        "says": says,
        "will": will,
        "will_not": will_not,
        "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
        "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
        "select_across": request.POST.get("select_across", "0"),
        **(more or {}),
    }
    return TemplateResponse(request, template, context)


def _focus(form: forms.Form) -> None:
    """Let the page begin at the field that is wrong, else at the first."""
    for name in [*(name for name in form.fields if name in form.errors), *form.fields][:1]:
        form.fields[name].widget.attrs["autofocus"] = True
