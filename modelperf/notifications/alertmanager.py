"""The `alertmanager` channel: alerts as Prometheus' Alertmanager takes them, by its API v2.

Prometheus repeats each alert every minute and Alertmanager takes one for over that is not repeated
within `resolve_timeout`. modelperf tells of a condition once and of its end once. So a condition
that lasts is sent with an end that is far away, which takes the place of `resolve_timeout`; the
end that is sent later brings it forward. Severity is a label, and labels are what an alert is known
by there: where it may have been told with another one, that other one is ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from modelperf.notifications.base import (
    Envelope,
    Item,
    Kind,
    Says,
    SettingsError,
    register,
)
from modelperf.notifications.posting import check_url, post
from modelperf.notifications.rendering import foot, headline, line, news

_SEVERITIES: Final = ("critical", "warning", "normal")
_CALL: Final = "/api/v2/alerts"
_TEST_LASTS: Final = timedelta(minutes=5)

Alerts = list[dict[str, Any]]
Days = Annotated[int, Meta(ge=1, le=366)]


@register("alertmanager")
class Alertmanager(Kind, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An Alertmanager: `{"url": ".."}` is its address without `/api/v2`.

    An alert whose end is never told is over there after `lasts_days`.
    """

    url: str
    lasts_days: Days = 30
    example: ClassVar[Mapping[str, Any]] = {"url": "https://alertmanager.example.org"}

    def check(self) -> None:
        """Refuse what is no address, and the address of one call."""
        place = check_url(self.url)
        if place.path.rstrip("/").endswith(_CALL):
            raise SettingsError(
                f"The channel's url is Alertmanager's own address: leave {_CALL} off, it is added."
            )

    def send(self, envelope: Envelope, at: datetime) -> str:
        """Send it."""
        address = f"{self.url.rstrip('/').removesuffix('/api/v2')}{_CALL}"
        lasts = timedelta(days=self.lasts_days)
        content = msgspec.json.encode(alerts(envelope, at=at, lasts=lasts))
        return post(address, content, at=at, headers={})


def alerts(envelope: Envelope, *, at: datetime, lasts: timedelta) -> Alerts:
    """Return what is told as Alertmanager takes it."""
    if envelope.is_test:
        return [_test(envelope, at)]
    return [alert for item in news(envelope) for alert in _alerts(item, at, lasts)]


def _test(envelope: Envelope, at: datetime) -> dict[str, Any]:
    return {
        "labels": {"alertname": "modelperf_test", "severity": "normal"},
        "annotations": {"summary": foot(envelope)},
        "startsAt": at,
        "endsAt": at + _TEST_LASTS,
    }


def _alerts(item: Item, at: datetime, lasts: timedelta) -> Alerts:
    says = item.read()
    is_over = item.kind == "resolved"
    ends = item.occurred_at if is_over else at + lasts
    told = [_alert(item, says, says.severity, ends)]
    if item.kind != "opened":
        others = [one for one in _SEVERITIES if one != says.severity]
        told.extend(_alert(item, says, other, item.occurred_at) for other in others)
    return told


def _alert(item: Item, says: Says, severity: str, ends: datetime) -> dict[str, Any]:
    starts = min(says.changed_at or says.opened_at or item.occurred_at, item.occurred_at)
    alert = {
        "labels": _labels(item, says, severity),
        "annotations": _annotations(item, says),
        "startsAt": starts,
        "endsAt": ends,
    }
    return alert | ({"generatorURL": item.link} if item.link else {})


def _labels(item: Item, says: Says, severity: str) -> dict[str, str]:
    labels = {
        "alertname": says.alert_type,
        "severity": severity,
        "model_type": line(says.model_type),
        "machine": line(says.machine_name or ""),
        "condition": line(says.metric or ""),
        "alert_id": str(item.alert_id),
    }
    return {name: value for name, value in labels.items() if value}


def _annotations(item: Item, says: Says) -> dict[str, str]:
    notes = {
        "summary": headline(item),
        "description": line(says.message),
        "machines": ", ".join(line(name) for name in item.members),
    }
    return {name: value for name, value in notes.items() if value}
