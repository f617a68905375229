"""Which alerts a verb was chosen for, and which of them allow it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Final

from django.contrib.admin import helpers
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from modelperf.admin.alerts_filters import identified
from modelperf.models import Alert
from modelperf.services.alerts_bulk import MOST_AT_ONCE, Refusals
from modelperf.services.alerts_verbs import Verb

CHOSEN: Final = "chosen"
Alerts = QuerySet[Alert]


def ids(request: HttpRequest, matching: Alerts) -> list[uuid.UUID]:
    """Return what was chosen: on the page before, all that match, or row by row."""
    if CHOSEN in request.POST:
        return _read(request.POST[CHOSEN].split())
    if request.POST.get("select_across") == "1":
        return list(matching.values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
    return _read(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))


def _read(texts: Iterable[str]) -> list[uuid.UUID]:
    return [pk for pk in map(identified, texts) if pk]


def in_order(queryset: Alerts) -> list[Alert]:
    """Return them worst first, without the documents that nobody asks for here."""
    heavy = ("alert_details", "auto_action_result", "metadata")
    found = queryset.select_related("machine", "assignee", "team").defer(*heavy)
    return list(found.worst_first())  # type: ignore[attr-defined]  # the model's own queryset


def allowing(found: Sequence[Alert], verb: Verb) -> tuple[list[Alert], Refusals]:
    """Return which alerts allow a verb as they are now, and why the others do not."""
    now = timezone.now()
    refused = [(alert, says) for alert in found if (says := verb.refusal(alert, now))]
    others = {alert.pk for alert, _ in refused}
    return [alert for alert in found if alert.pk not in others], refused


def of_series(found: Sequence[Alert]) -> tuple[list[Alert], Refusals]:
    """Return the worst alert of each series that can be trained, and why others are none."""
    chosen: dict[tuple[uuid.UUID, str], Alert] = {}
    refused: Refusals = []
    for alert in found:
        if alert.machine is None:
            refused.append((alert, "It is about the fleet: retrain machines from their list."))
        elif not alert.machine.is_active:
            refused.append((alert, f"{alert.machine} is retired."))
        elif alert.is_resolved:
            refused.append((alert, "The alert is resolved."))
        elif (alert.machine.pk, alert.model_type) in chosen:
            refused.append((alert, "One training of its series is asked for already."))
        else:
            chosen[alert.machine.pk, alert.model_type] = alert
    return list(chosen.values()), refused
