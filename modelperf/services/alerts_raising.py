"""Alerts that no verdict asks for: of trainings that failed or do not help."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime

from django.db import transaction

from modelperf.models import Alert
from modelperf.services import alerts_writing
from modelperf.services.alerts_conditions import OpenAlert, Wanted
from modelperf.services.alerts_following import Changes, SeriesPlace
from modelperf.services.alerts_writing import Ended


def series_key(machine_id: uuid.UUID, model_type: str, alert_type: str) -> str:
    """Return the condition key of an alert that is about a series as a whole."""
    return f"series:{machine_id}:{model_type}:{alert_type}:"


def raise_alert(wanted: Wanted, place: SeriesPlace, *, now: datetime) -> None:
    """Open the alert of a condition, or say anew what an unresolved one has to say."""
    changes = Changes()
    there = Alert.objects.unresolved().filter(condition_key=wanted.condition_key).first()
    if there is None:
        changes.raised[wanted.condition_key] = (wanted, place)
    else:
        again = replace(wanted, occurrences=there.occurrences + 1)
        changes.kept[wanted.condition_key] = (_open(there), again, place)
    alerts_writing.carry_out(changes, now=now)


def _open(alert: Alert) -> OpenAlert:
    return OpenAlert(
        id=alert.pk,
        model_id=alert.model_id,
        condition_key=alert.condition_key,
        alert_type=alert.alert_type,
        severity=alert.severity,
        occurrences=alert.occurrences,
        details=alert.alert_details,
        opened_at=alert.alert_timestamp,
        seen_through=alert.seen_through,
    )


@transaction.atomic
def end_alert(condition_key: str, *, action: str, now: datetime) -> None:
    """Resolve the alert of a condition that is over, where there is one."""
    found = Alert.objects.unresolved().filter(condition_key=condition_key).order_by()
    ended = [Ended(id=pk, action=action) for pk in found.values_list("pk", flat=True)]
    alerts_writing.resolve(ended, now=now)
