"""Whether a route tells of a notice, and why not."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import structlog
from django.db.models import Exists, OuterRef, Q

from modelperf.models import Alert, Delivery, Message, Notice, Route, Silence
from modelperf.services import matching
from modelperf.services.errors import InvalidError
from modelperf.services.matching import Matchers
from modelperf.services.silences import InForce

log = structlog.get_logger(__name__)

_RESOLVED: Final = Notice.Kind.RESOLVED
_Decision = Delivery.Decision


class Decided(NamedTuple):
    """What was decided of a notice for a route; the reason is a sentence."""

    decision: Delivery.Decision
    reason: str
    silence: Silence | None = None


class Deciding:
    """Decides about notices in their order, for every route; what it has to know is read once."""

    def __init__(self, notices: Sequence[Notice], now: datetime) -> None:
        ids = {notice.alert_id for notice in notices}
        self.routes = list(Route.objects.select_related("channel"))
        self.alerts = matching.load(Alert.objects.filter(pk__in=ids))
        self._matchers = {route.pk: _readable(route) for route in self.routes}
        self._silences = InForce(now)
        asking = {n.alert_id for n in notices if n.kind == _RESOLVED or _joined(n)}
        self._begun = _begun(asking)

    def decide(self, notice: Notice) -> list[tuple[Route, Decided]]:
        """Return what is decided of a notice for each route."""
        matched = matching.matched(self.alerts[notice.alert_id], notice.says)
        silence = self._silences.over(matched)
        decided = [(route, self._decided(notice, route, matched, silence)) for route in self.routes]
        for route, one in decided:
            if notice.kind == _RESOLVED:
                self._begun.discard((notice.alert_id, route.pk))
            elif one.decision == _Decision.TOLD:
                self._begun.add((notice.alert_id, route.pk))
        return decided

    def _decided(
        self, notice: Notice, route: Route, matched: matching.Matched, silence: Silence | None
    ) -> Decided:
        if unwanted := _unwanted(route):
            return Decided(_Decision.NOT_WANTED, unwanted)
        if notice.kind == _RESOLVED:
            return self._of_end(notice, route)
        matchers = self._matchers[route.pk]
        if isinstance(matchers, str):
            return Decided(_Decision.NOT_WANTED, matchers)
        if why_not := matching.why_not(matchers, matched, every=False):
            return Decided(_Decision.NOT_MATCHED, f"{why_not[:1].upper()}{why_not[1:]}.")
        if joined := _joined(notice):
            others = tuple(place for place in matched.machines if str(place.id) not in joined)
            before = matched._replace(machines=others)
            if self._knows(notice, route) or matching.matches(matchers, before, every=False):
                return Decided(_Decision.NOT_WANTED, "It matched before a machine joined.")
        return self._kept_back(notice, silence) or Decided(
            _Decision.TOLD, f"The route tells of {matchers}."
        )

    def _kept_back(self, notice: Notice, silence: Silence | None) -> Decided | None:
        """Return why nobody is to be told just now, whatever the route; None: they are."""
        if silence is not None:
            return Decided(_Decision.SILENCED, of_silence(silence), silence)
        if self._is_snoozed(notice):
            return Decided(_Decision.SNOOZED, "The alert was snoozed.")
        return None

    def _of_end(self, notice: Notice, route: Route) -> Decided:
        """Decide about an end: who was told of the beginning is told of it, whatever there is."""
        if not self._knows(notice, route):
            return Decided(_Decision.NEVER_TOLD, "The route had not told that it began.")
        if not route.tells_resolved:
            return Decided(_Decision.NOT_WANTED, "The route tells of no ends.")
        return Decided(_Decision.TOLD, "The route had told that it began.")

    def _knows(self, notice: Notice, route: Route) -> bool:
        return (notice.alert_id, route.pk) in self._begun

    def _is_snoozed(self, notice: Notice) -> bool:
        if notice.kind == Notice.Kind.WOKE:
            return False
        states = {self.alerts[notice.alert_id].state, notice.says.get("state")}
        return Alert.State.SNOOZED in states


def _begun(alert_ids: set[uuid.UUID]) -> set[tuple[uuid.UUID, uuid.UUID | None]]:
    """Return of which alerts which routes have told since they ended last, if they did."""
    ended_since = Notice.objects.filter(
        alert=OuterRef("notice__alert"),
        kind=_RESOLVED,
        routed_at__isnull=False,
        id__gt=OuterRef("notice_id"),
    )
    told = Delivery.objects.filter(came(), notice__alert__in=alert_ids, decision=_Decision.TOLD)
    begun = told.exclude(notice__kind=_RESOLVED).filter(~Exists(ended_since))
    return set(begun.values_list("notice__alert_id", "route_id"))


def came() -> Q:
    """Return what deliveries are like that came to somebody, may have, or may yet."""
    failed = Q(message__status=Message.Status.FAILED)
    return ~failed | Q(message__attempts_log__contains=[{"may_have_come": True}])


def _joined(notice: Notice) -> list[str]:
    """Return the machines that joined a fleet alert, where that is all there is to tell."""
    found: list[str] = notice.says.get("joined", [])
    return found


def _unwanted(route: Route) -> str:
    if not route.is_enabled:
        return "The route is off."
    if not route.channel.is_enabled:
        return f"The route's channel {route.channel.name} is off."
    return ""


def _readable(route: Route) -> Matchers | str:
    """Return a route's matchers, or why there are none: nothing it is for can be known."""
    try:
        return matching.read(route.matchers)
    except InvalidError as error:
        log.error("route_unreadable", route=route.name, reason=error.detail)  # noqa: TRY400
        return f"What the route is for cannot be read. {error.detail}"


def of_silence(silence: Silence) -> str:
    """Return who keeps something back, until when and why."""
    return (
        f"Silenced by {silence.owner} until {silence.ends_at:%Y-%m-%d %H:%M} UTC: {silence.reason}"
    )
