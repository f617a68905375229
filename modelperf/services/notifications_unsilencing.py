"""When a silence is over, what it kept quiet and what is still so is told once."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from modelperf.models import Alert, Delivery, Notice
from modelperf.services import matching, notices
from modelperf.services.matching import Matched, Place
from modelperf.services.notifications_routing import is_alone
from modelperf.services.silences import InForce

_TOLD: Final = Delivery.Decision.TOLD
_COMPARED: Final = (
    *("pk", "alert_type", "severity", "model_type"),
    *("machine_id", "machine__name", "machine__location"),
)


@transaction.atomic
def unsilence(*, now: datetime) -> int:
    """Note that there is to tell of alerts whose silence is over; return how many those are.

    Once, and only of what nobody was told of since. Of alerts that somebody took note of only
    that they got worse since then.
    """
    if not is_alone():
        return 0
    unresolved = Alert.objects.unresolved()
    is_open = Q(state=Alert.State.OPEN) & Exists(_silenced())
    got_worse = _silenced().filter(
        notice__kind=Notice.Kind.ROSE, notice__says__state=Alert.State.ACKNOWLEDGED
    )
    is_known = Q(state=Alert.State.ACKNOWLEDGED) & Exists(got_worse)
    candidates = _matched(unresolved.filter(is_open | is_known))
    in_force = InForce(now)
    over = [pk for pk, matched in candidates.items() if in_force.over(matched) is None]
    return notices.tell(kind=Notice.Kind.UNSILENCED, alert_ids=over, now=now)


def _silenced() -> QuerySet[Delivery]:
    """Return the silenced deliveries of an alert after which nothing was told of it.

    That a machine joined is told to those only whom nothing was kept from.
    """
    told = Delivery.objects.filter(notice=OuterRef("pk"), decision=_TOLD)
    ends = [Notice.Kind.UNSILENCED, Notice.Kind.RESOLVED]
    since = Notice.objects.filter(
        Q(kind__in=ends) | Q(routed_at__isnull=True) | Exists(told) & ~Q(says__has_key="joined"),
        alert=OuterRef("notice__alert"),
        id__gt=OuterRef("notice_id"),
    )
    silenced = Delivery.objects.filter(decision=Delivery.Decision.SILENCED)
    return silenced.filter(~Exists(since), notice__alert=OuterRef("pk"))


def _matched(alerts: QuerySet[Alert]) -> dict[uuid.UUID, Matched]:
    """Return what alerts are compared by; only those of the fleet are loaded, with members."""
    of_machines = alerts.filter(machine__isnull=False).values_list(*_COMPARED)
    found = {
        pk: Matched(kind, severity, model_type, (Place(*place),))
        for pk, kind, severity, model_type, *place in of_machines
    }
    of_fleet = matching.load(alerts.filter(machine__isnull=True))
    return found | {pk: matching.matched(alert) for pk, alert in of_fleet.items()}
