"""Notices become messages: for each route it is decided and kept what it tells of, and why not."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F, OuterRef, Subquery

from modelperf.models import Alert, Delivery, Message, Notice, Route
from modelperf.services import matching
from modelperf.services.database import execute
from modelperf.services.notifications_deciding import Decided, Deciding
from modelperf.services.notifications_quiet import waits_until

AT_ONCE: Final = 500
_TOLD: Final = Delivery.Decision.TOLD


def route_notices(*, now: datetime) -> int:
    """Decide about every notice that nobody has decided about; return how many those were.

    One pass at a time: whoever comes second leaves it to the first.
    """
    routed = 0
    while some := _route_some(now):
        routed += some
    return routed


@transaction.atomic
def _route_some(now: datetime) -> int:
    if not is_alone():
        return 0
    found = list(Notice.objects.filter(routed_at__isnull=True).order_by("id")[:AT_ONCE])
    if not found:
        return 0
    deciding, gathering = Deciding(found, now), _Gathering(now)
    Delivery.objects.bulk_create(
        _delivery(notice, route, decided, gathering, now)
        for notice in found
        for route, decided in deciding.decide(notice)
    )
    _keep_members(found, deciding.alerts)
    Notice.objects.filter(pk__in=[notice.pk for notice in found]).update(routed_at=now)
    return len(found)


def is_alone() -> bool:
    """Take the turn of deciding until the transaction ends; whether nobody else has it."""
    sql = "SELECT pg_try_advisory_xact_lock(hashtextextended('route_notices', 0))"
    return bool(execute(sql).fetchone()[0])  # type: ignore[index]


def _delivery(
    notice: Notice, route: Route, decided: Decided, gathering: _Gathering, now: datetime
) -> Delivery:
    is_told = decided.decision == _TOLD
    return Delivery(
        notice=notice,
        route=route,
        route_name=route.name,
        decision=decided.decision,
        reason=decided.reason,
        silence=decided.silence,
        message=gathering.message(route, notice.says["severity"]) if is_told else None,
        decided_at=now,
    )


class _Gathering:
    """The messages that still gather, one of a route and one more that waits for quiet hours."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._messages: dict[tuple[uuid.UUID, bool], Message] = {}

    def message(self, route: Route, severity: str) -> Message:
        """Return the message that takes what a route tells now; nobody seals it meanwhile."""
        until = waits_until(route, severity, self._now)
        is_urgent = until is None and severity == Alert.Severity.CRITICAL
        place = (route.pk, until is not None)
        if place not in self._messages:
            # One that was sealed while it was waited for may have left a rest to another.
            found = self._found(*place) or self._found(*place)
            self._messages[place] = found or self._new(route, until)
            self._follow(self._messages[place], route)
        if is_urgent:
            self._hasten(self._messages[place], route)
        return self._messages[place]

    @staticmethod
    def _found(route_id: uuid.UUID, is_held: bool) -> Message | None:
        gathering = Message.objects.filter(status=Message.Status.WAITING, sealed_at__isnull=True)
        of_route = gathering.filter(route_id=route_id, is_held=is_held)
        return of_route.select_for_update().first()

    def _hasten(self, message: Message, route: Route) -> None:
        """Let no limit by the hour hold a message back that tells of something critical."""
        soon = self._now + timedelta(seconds=route.group_seconds)
        if message.due_at > soon:
            message.due_at = soon
            message.save(update_fields=["due_at"])

    def _new(self, route: Route, until: datetime | None) -> Message:
        soon = self._now + timedelta(seconds=route.group_seconds)
        return Message.objects.create(
            route=route,
            channel=route.channel,
            is_held=until is not None,
            due_at=max(soon, until or soon),
        )

    @staticmethod
    def _follow(message: Message, route: Route) -> None:
        """Let a message go where its route leads by now."""
        if message.channel_id != route.channel_id:
            message.channel = route.channel
            message.save(update_fields=["channel"])


def _keep_members(found: Iterable[Notice], alerts: dict[uuid.UUID, Alert]) -> None:
    """Keep the names of a fleet alert's machines, so that each attempt names the same."""
    changed = []
    for notice in found:
        alert = alerts[notice.alert_id]
        if alert.machine_id is None:
            names = [machine.name for machine in matching.machines(alert)]
            notice.says = {**notice.says, "members": names, "n_members": len(names)}
            changed.append(notice)
    if changed:
        Notice.objects.bulk_update(changed, ["says"])


def follow_routes(*, now: datetime) -> int:
    """Let what waits go where its route leads by now; return how many messages those are.

    What somebody is sending stays until that is over.
    """
    waiting = Message.objects.filter(status=Message.Status.WAITING, route__isnull=False)
    free = waiting.exclude(leased_until__gt=now)
    elsewhere = free.exclude(route__channel=F("channel"))
    leads_to = Route.objects.filter(pk=OuterRef("route")).values("channel")[:1]
    return elsewhere.update(channel=Subquery(leads_to))
