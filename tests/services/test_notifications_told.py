"""Why somebody was told of an alert or not, in sentences; and what is forgotten in the end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from modelperf.models import Alert, Channel, Delivery, Message, Notice, Silence
from modelperf.services import notifications_told, silences
from modelperf.services.notifications_told import deliveries_of, why
from tests.factories import AlertFactory
from tests.services.notifying import (  # noqa: F401 -- a fixture
    DOWN,
    GROUPED,
    HOUR,
    NOW,
    OK,
    channel,
    reopen,
    resolve,
    route,
    send,
    site,
    tell,
    told,
)
from tests.sites import Site, answering

pytestmark = pytest.mark.django_db
OPENED = "Opened at 2026-05-04 12:00:00 UTC: "


def test_each_notice_and_route_has_its_sentence(site: Site) -> None:  # noqa: F811
    ops = route(site, name="ops-mail")
    route(name="night-pager", matchers={"severity": ["critical"]})
    alert = AlertFactory.create()
    told(alert)
    send(ops, NOW + GROUPED)
    silences.create(
        matchers={"machine": ["*"]},
        reason="Maintenance.",
        owner="Anna",
        ends_at=timezone.now() + HOUR,
        by="user:anna",
    )
    Alert.objects.update(severity="critical")
    told(alert, "severity_rose", now=timezone.now())
    first, second, third, fourth = why(alert)
    assert first == (f"{OPENED}Not told to night-pager: severity warning does not match critical.")
    assert second == f"{OPENED}Told to ops-mail at 2026-05-04 12:00:30 UTC (attempt 1)."
    assert third.startswith("Severity rose at ")
    assert "Not told to night-pager: silenced by Anna until " in third
    assert fourth.endswith(" UTC: Maintenance.")

    ended = silences.end(silence=Silence.objects.get(), by="user:anna")
    assert f"silenced by Anna until {ended.ends_at:%Y-%m-%d %H:%M} UTC" in why(alert)[2]


def test_what_waits_or_failed_says_so(site: Site) -> None:  # noqa: F811
    ops = route(site, name="ops")
    alert = AlertFactory.create()

    def said() -> str:
        [one] = deliveries_of(alert)
        return one.sentence

    tell(alert)
    assert said() == "Nothing is decided yet."
    Notice.objects.all().delete()
    told(alert)
    assert said() == "To be told to ops at 2026-05-04 12:00:30 UTC."
    Message.objects.update(is_held=True)
    assert said() == ("To be told to ops at 2026-05-04 12:00:30 UTC, when its quiet hours end.")
    site.answer = DOWN
    send(ops, NOW + GROUPED)
    assert said().startswith("Not told to ops yet (attempt 1), again at 2026-05-04 12:00:3")
    assert said().endswith("answered 503: no.")
    Message.objects.update(lease_id=alert.pk, leased_until=NOW)
    assert said() == "On its way to ops (attempt 1)."
    site.answer = answering(b"", status=410)
    send(ops, NOW + HOUR)
    assert said().startswith("Not told to ops: given up after 2 attempts. ")
    assert said().endswith("answered 410.")


def test_without_a_route_that_is_why() -> None:
    alert = AlertFactory.create()
    told(alert)
    assert why(alert) == [f"{OPENED}There was no route."]


def old(alert: Alert, days: int) -> None:
    """Let all of an alert have been so many days ago."""
    ago = timezone.now() - timedelta(days=days)
    Notice.objects.filter(alert=alert).update(occurred_at=ago)
    Message.objects.filter(deliveries__notice__alert=alert).update(ended_at=ago, status="sent")
    Alert.objects.filter(pk=alert.pk, is_resolved=True).update(resolved_at=ago)


def test_what_has_been_over_for_long_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    settings.NOTIFICATION_DAYS = 30
    monkeypatch.setattr(notifications_told, "AT_ONCE", 2)
    one = channel()
    gone, lasting, recent, waiting, late = AlertFactory.create_batch(5)
    for alert in (gone, lasting, recent, waiting, late):
        route(one, group_seconds=0)
        told(alert)
        Message.objects.filter(sealed_at__isnull=True).update(sealed_at=NOW)
        if alert is not lasting:
            resolve(alert)
        if alert is not waiting:
            old(alert, 29 if alert is recent else 31)
    Notice.objects.filter(alert=waiting).update(occurred_at=NOW - timedelta(days=999))
    Alert.objects.filter(pk=late.pk).update(resolved_at=timezone.now())

    counted = notifications_told.forget()
    kept = {lasting.pk, recent.pk, waiting.pk, late.pk}
    assert set(Notice.objects.values_list("alert", flat=True)) == kept
    assert set(Delivery.objects.values_list("notice__alert", flat=True)) == kept
    assert counted["notices"] == 1
    assert notifications_told.forget() == {"notices": 0, "messages": 0}
    assert Channel.objects.count() == 1


def test_much_is_forgotten_in_several_batches(
    monkeypatch: pytest.MonkeyPatch,
    site: Site,  # noqa: F811
) -> None:
    monkeypatch.setattr(notifications_told, "AT_ONCE", 2)
    ops = route(site)
    for alert in AlertFactory.create_batch(5):
        told(alert)
        send(ops, NOW + GROUPED)
        resolve(alert)
        Alert.objects.filter(pk=alert.pk).update(resolved_at=NOW)
    later = NOW + timedelta(days=91)
    assert notifications_told.forget(now=later) == {"notices": 5, "messages": 5}
    assert not Message.objects.exists()
