"""What the database itself holds of alerts, of silences and of what people are told."""

from __future__ import annotations

import uuid
from datetime import time, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from modelperf.models import Alert, UnresolvedAlert
from modelperf.models.alerts import LIFE
from tests.factories import AlertFactory, UserFactory
from tests.models.telling import (
    AlertMemberFactory,
    CommentFactory,
    DeliveryFactory,
    MessageFactory,
    NoticeFactory,
    RouteFactory,
    SilenceFactory,
)

pytestmark = pytest.mark.django_db

NOW = timezone.now()
BROKEN: list[tuple[Any, dict[str, Any]]] = [
    (AlertFactory, {"state": "snoozed"}),
    (AlertFactory, {"snoozed_until": NOW}),
    (AlertFactory, {"snoozed_until_count": 9}),
    (AlertFactory, {"snoozed_until_worse": True}),
    (AlertFactory, {"snoozed_peak": 1.5}),
    (AlertFactory, {"acknowledged_at": NOW}),
    (AlertFactory, {"acknowledged_by": "a"}),
    (AlertFactory, {"reopened_at": NOW}),
    (AlertFactory, {"reopened_by": "a"}),
    (AlertMemberFactory, {"left_at": NOW - timedelta(days=9999)}),
    (CommentFactory, {"text": ""}),
    (SilenceFactory, {"reason": ""}),
    (SilenceFactory, {"owner": ""}),
    (SilenceFactory, {"ends_at": NOW - timedelta(days=9999)}),
    (RouteFactory, {"quiet_from": time(22)}),
    (RouteFactory, {"quiet_until": time(6)}),
    (RouteFactory, {"group_seconds": 86_401}),
    (RouteFactory, {"most_per_hour": 0}),
    (NoticeFactory, {"kind": "rumour"}),
    (MessageFactory, {"status": "sent"}),
    (MessageFactory, {"ended_at": NOW}),
    (MessageFactory, {"lease_id": uuid.uuid4()}),
    (MessageFactory, {"leased_until": NOW}),
    (DeliveryFactory, {"message": None}),
]


@pytest.mark.parametrize(
    ("factory", "values"), BROKEN, ids=[f"{f.__name__}-{'-'.join(v)}" for f, v in BROKEN]
)
def test_a_row_that_contradicts_itself_is_refused(factory: Any, values: dict[str, Any]) -> None:
    factory.create()
    with pytest.raises(IntegrityError, match="check constraint"), transaction.atomic():
        factory.create(**values)


FIRST_ALERTS: dict[str, QuerySet[Any]] = {
    "view": UnresolvedAlert.objects.all()[:1],
    "unresolved": Alert.objects.unresolved().worst_first()[:1],
    "open": Alert.objects.unresolved().filter(state="open").worst_first()[:1],
}


@pytest.mark.parametrize("name", FIRST_ALERTS)
def test_first_unresolved_alerts_come_in_the_order_of_an_index(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_sort = off")
    plan = FIRST_ALERTS[name].explain()
    assert "Sort" not in plan
    assert "model_alerts_worst_first" in plan or "model_alerts_of_state" in plan


def test_one_notice_is_decided_once_a_route_and_one_message_gathers() -> None:
    told = DeliveryFactory.create()
    with pytest.raises(IntegrityError, match="deliveries_once"), transaction.atomic():
        DeliveryFactory.create(notice=told.notice, route=told.route, message=told.message)
    with pytest.raises(IntegrityError, match="one_gathers"), transaction.atomic():
        MessageFactory.create(route=told.route)
    MessageFactory.create(route=told.route, is_held=True)
    MessageFactory.create(route=told.route, sealed_at=NOW)


RESOLVED = {
    "state": "resolved",
    "is_resolved": True,
    "resolved_at": NOW,
    "resolved_by": "a",
    "resolution_action": "fixed",
}
SNOOZED = {"state": "snoozed", "snoozed_until": NOW}
STEPS: list[dict[str, Any]] = [
    {"state": "acknowledged"},
    {"severity": "critical"},
    {"acknowledged_by": "a", "acknowledged_at": NOW},
    SNOOZED,
    {"state": "snoozed", "snoozed_until_count": 9},
    {"state": "snoozed", "snoozed_until_worse": True},
    {"alert_timestamp": NOW - timedelta(days=1)},
    RESOLVED,
    {**RESOLVED, "resolution_notes": "New bearings."},
    {"model_version": 9},
]


@pytest.mark.parametrize("values", STEPS, ids=["-".join(values) for values in STEPS])
def test_each_step_of_a_life_is_a_revision_and_an_event(values: dict[str, Any]) -> None:
    alert = AlertFactory.create()
    assert_step(alert, values)


def test_a_change_of_who_has_an_alert_is_a_step_and_a_mere_occurrence_is_none() -> None:
    alert, team = AlertFactory.create(), Group.objects.create(name="Pumps")
    assert_step(alert, {"assignee": UserFactory.create()})
    assert_step(alert, {"team": team})
    Alert.objects.update(occurrences=9, current_metric_value=2.0, last_seen_at=NOW)
    assert [event.revision for event in alert.events.order_by("pgh_id")] == [1, 2, 3]
    stepped = {name for values in STEPS for name in values} | {"assignee", "team"}
    assert not set(LIFE) - stepped


def assert_step(alert: Alert, values: dict[str, Any]) -> None:
    before = alert.events.count()
    Alert.objects.filter(pk=alert.pk).update(**values)
    alert.refresh_from_db()
    event = alert.events.latest("pgh_id")
    assert (alert.events.count(), event.revision) == (before + 1, alert.revision)
    assert alert.revision == before + 1
    assert all(getattr(alert, name) == value for name, value in values.items())
