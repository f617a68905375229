"""What is around an alert: its series' versions, what was tried, alerts that may belong to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.urls import reverse

from modelperf.admin.alerts_page_facts import IN_FLEET_ALERT
from modelperf.admin.alerts_words import level
from modelperf.drawing.metric_names import named
from modelperf.models import (
    ABTest,
    Alert,
    AlertMember,
    ModelActivation,
    ModelVersion,
    TrainingRun,
)
from modelperf.services.alerts_conditions import common_key

MOST_VERSIONS: Final = 12
MOST_TRIED: Final = 10
MOST_RELATED: Final = 8
MOST_TAKEN_OVER: Final = 50
ABOUT_THEN: Final = timedelta(days=1)
UNSHOWN = ("artefact", "feature_names", "hyperparameters", "metadata")


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of the alert's series, and how it came to serve."""

    version: ModelVersion
    activation: ModelActivation | None
    is_alerts: bool

    @property
    def has_served(self) -> bool:
        """Whether it serves the series, or did."""
        return self.version.is_active or self.activation is not None


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A machine of a fleet alert; its unit is told where others have another one."""

    series_page: str

    member: AlertMember
    before: str
    now: str
    unit: str


@dataclass(frozen=True, slots=True)
class Members:
    """The machines of a fleet alert, and what the levels are of, where there are any."""

    metric: str
    rows: Sequence[MemberRow]
    n_present: int
    has_levels: bool


@dataclass(frozen=True, slots=True)
class Related:
    """Another alert, and why it is shown here."""

    alert: Alert
    why: str


def series_page(machine_id: uuid.UUID, model_type: str) -> str:
    """Return where a series is shown with all its evaluations."""
    series = {"machine": machine_id, "type": model_type}
    return f"{reverse('model-performance')}?{urlencode(series)}"


def versions(alert: Alert) -> list[VersionRow]:
    """Return the newest versions of the alert's series, newest first."""
    if alert.machine_id is None:
        return []
    machine_id, model_type = alert.machine_id, alert.model_type
    activated = ModelActivation.objects.of_series(machine_id=machine_id, model_type=model_type)
    activations: dict[uuid.UUID, ModelActivation] = {}
    for one in activated[: 3 * MOST_VERSIONS]:  # newest first
        activations.setdefault(one.model_id, one)
    found = ModelVersion.objects.of_series(machine_id=machine_id, model_type=model_type)
    newest = found.defer(*UNSHOWN).order_by("-model_version")
    return [
        VersionRow(version, activations.get(version.pk), version.pk == alert.model_id)
        for version in newest[:MOST_VERSIONS]
    ]


def runs(alert: Alert) -> list[TrainingRun]:
    """Return the trainings that were meant to end the condition, or are it, newest first."""
    own = Q(alert=alert) | Q(pk=_named(alert, "training_run"))
    found = TrainingRun.objects.filter(own).defer("training_log", "error_traceback", "metadata")
    return list(found.order_by("-created_at", "-id")[:MOST_TRIED])


def tests(alert: Alert) -> list[ABTest]:
    """Return the A/B tests of what those trainings made, or that it is about, newest first."""
    own = Q(training_run__alert=alert) | Q(pk=_named(alert, "test_id"))
    found = ABTest.objects.filter(own).defer("evidence", "metadata")
    return list(found.order_by("-created_at", "-id")[:MOST_TRIED])


def members(alert: Alert) -> Members | None:
    """Return the machines of a fleet alert, those that have left last; None of other alerts."""
    found = list(alert.members.in_order().select_related("machine", "model"))
    if not found:
        return None
    metric = str(alert.alert_details.get("metric") or "")
    names = [named(metric, one.machine.metadata) for one in found]
    is_one = len({name.unit for name in names}) == 1
    heading = names[0].heading if is_one else names[0].label
    rows = [
        MemberRow(
            member=one,
            series_page=series_page(one.machine_id, alert.model_type),
            before=level(one.details.get("baseline")),
            now=level(one.details.get("current")),
            unit="" if is_one else name.unit,
        )
        for one, name in zip(found, names, strict=True)
    ]
    n_present = sum(one.left_at is None for one in found)
    return Members(heading, rows, n_present, any(one.details for one in found))


def related(alert: Alert) -> list[Related]:
    """Return other alerts by how near they are: each once, with the first reason there is."""
    seen = {alert.pk}
    found = []
    for why, alerts in _near(alert):
        for one in alerts:
            if one.pk not in seen:
                seen.add(one.pk)
                found.append(Related(one, why))
    return found


def _near(alert: Alert) -> Iterator[tuple[str, Iterable[Alert]]]:
    others = Alert.objects.exclude(pk=alert.pk).select_related("machine")
    others = others.defer("alert_details", "auto_action_result", "metadata")
    unresolved = others.filter(is_resolved=False)
    cause = _named(alert, "alert")
    if cause is not None:
        yield "What it is about", others.filter(pk=cause)
    if alert.machine_id is not None:
        of_fleet = AlertMember.objects.present().filter(machine_id=alert.machine_id)
        fleet = unresolved.filter(
            machine__isnull=True,
            model_type=alert.model_type,
            pk__in=of_fleet.values("alert_id"),
        )
        if alert.resolution_action == IN_FLEET_ALERT:
            yield "Took this one over", _newest(_took_over(others, alert, alert.machine_id))
        yield "Fleet alert with this machine", _newest(fleet)
        yield "Same machine", _newest(unresolved.filter(machine_id=alert.machine_id))
    else:
        yield "Taken over by this one", _taken_over(others, alert)
    yield "Same condition", _newest(others.filter(condition_key=alert.condition_key))
    yield "Same type, about then", _newest(_of_then(unresolved, alert.alert_timestamp, alert))


def _took_over(alerts: QuerySet[Alert], alert: Alert, machine_id: uuid.UUID) -> QuerySet[Alert]:
    """Keep the fleet alert that an alert of one machine became a part of."""
    is_there = Q(resolved_at__isnull=True) | Q(resolved_at__gte=alert.resolved_at)
    joined = AlertMember.objects.filter(
        machine_id=machine_id,
        condition_key=common_key(alert.condition_key),
        joined_at__lte=alert.resolved_at,
    )
    return alerts.filter(is_there, machine__isnull=True, pk__in=joined.values("alert_id"))


def _taken_over(alerts: QuerySet[Alert], alert: Alert) -> QuerySet[Alert]:
    """Keep what became a part of a fleet alert: there is one of its condition at a time."""
    joined = list(alert.members.order_by("joined_at").values_list("condition_key", "joined_at"))
    found = alerts.filter(
        condition_key__in=[one for key, _ in joined for one in _own_keys(key)],
        resolution_action=IN_FLEET_ALERT,
    )
    if joined:
        found = found.filter(resolved_at__gte=joined[0][1])
    if alert.resolved_at is not None:
        found = found.filter(resolved_at__lte=alert.resolved_at)
    return found.order_by("-resolved_at", "-id")[:MOST_TAKEN_OVER]


def _own_keys(key: str) -> tuple[str, str]:
    """Return the conditions of a series that one key of a member stands for."""
    degradation, drift = Alert.Type.PERFORMANCE_DEGRADATION.value, Alert.Type.DRIFT_DETECTED.value
    return key, key.replace(f":{drift}:", f":{degradation}:", 1)


def _named(alert: Alert, name: str) -> uuid.UUID | None:
    """Return the id of something that an alert's details name."""
    try:
        return uuid.UUID(str(alert.alert_details.get(name)))
    except ValueError:
        return None


def _of_then(alerts: QuerySet[Alert], then: datetime, alert: Alert) -> QuerySet[Alert]:
    return alerts.filter(
        model_type=alert.model_type,
        alert_timestamp__gte=then - ABOUT_THEN,
        alert_timestamp__lte=then + ABOUT_THEN,
    )


def _newest(alerts: QuerySet[Alert]) -> QuerySet[Alert]:
    return alerts.order_by("-alert_timestamp", "-id")[:MOST_RELATED]
