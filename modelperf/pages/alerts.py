"""The alerts that the page of a series shows."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q
from django.db.models.fields.json import KT
from django.utils.dateparse import parse_datetime

from modelperf.models import Alert, UnresolvedAlert
from modelperf.pages.fleet import Row
from modelperf.services import alerts
from modelperf.services.alerts_conditions import JUDGED_TYPES

MOST_ALERTS = 50


def unresolved(row: Row) -> list[UnresolvedAlert]:
    """Return what is unresolved of the series and of its type's fleet, with the `rule` behind."""
    own = Q(machine_id=row.machine.pk, model_type=row.model_type)
    of_fleet = Q(machine_id__isnull=True, model_type=row.model_type)
    return list(
        UnresolvedAlert.objects.filter(own | of_fleet)
        .annotate(rule=KT("alert_details__rule"))
        .defer("alert_details")
        .worst_first()[:MOST_ALERTS]
    )


def resolved(row: Row, others: Sequence[UnresolvedAlert]) -> Alert | None:
    """Return the alert of the present change where a person has resolved it."""
    verdict = row.verdict
    if verdict is None or verdict.state.css != "degraded" or verdict.changed_at is None:
        return None
    if any(alert.machine_id and alert.alert_type in JUDGED_TYPES for alert in others):
        return None
    found = (
        Alert.objects.filter(machine_id=row.machine.pk, model_type=row.model_type)
        .filter(is_resolved=True, model_version=verdict.version, alert_type__in=JUDGED_TYPES)
        .exclude(resolved_by=alerts.SYSTEM)
        .order_by("-resolved_at", "-id")
        .first()
    )
    told = found.alert_details.get("changed_at") if found else None
    changed = parse_datetime(told) if isinstance(told, str) else None
    # A later change than that opens an alert of its own.
    return found if changed is not None and verdict.changed_at <= changed else None
