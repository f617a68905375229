"""Silences and an alert: the one that is over it, and the way to a new one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from modelperf.models import Alert
from modelperf.services import matching
from modelperf.services.silences import InForce
from modelperf.templatetags.presentation import moment

ANYTHING: Final = "*"


@dataclass(frozen=True, slots=True)
class Silenced:
    """The silence over an alert: until when and whose; why, and where, for whom may see it."""

    told: str
    reason: str
    address: str


def silence_over(request: HttpRequest, alert: Alert) -> Silenced | None:
    """Return the silence in force over an unresolved alert that ends last."""
    if alert.is_resolved:
        return None
    loaded = matching.load(Alert.objects.filter(pk=alert.pk)).get(alert.pk)
    found = InForce(timezone.now()).over(matching.matched(loaded)) if loaded else None
    if found is None:
        return None
    told = f"Silenced until {moment(found.ends_at)} by {found.owner}"
    if not request.user.has_perm("modelperf.view_silence"):
        return Silenced(told, "", "")
    address = reverse("admin:modelperf_silence_change", args=[found.pk])
    return Silenced(told, found.reason, address)


def new_silence(alert: Alert) -> str:
    """Return the form of a new silence, filled in for what is alike; times are to be chosen."""
    matchers = {"alert_type": [alert.alert_type], "model_type": [alert.model_type]}
    if alert.machine is not None:
        name = alert.machine.name
        is_plain = ANYTHING not in name and len(name) <= matching.LONGEST_VALUE
        matchers["machine"] = [name if is_plain else str(alert.machine.pk)]
    asked = urlencode({"matchers": json.dumps(matchers)})
    return f"{reverse('admin:modelperf_silence_add')}?{asked}"
