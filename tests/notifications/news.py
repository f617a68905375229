"""What there is to tell, for the tests of every channel."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from modelperf.notifications import Envelope, Item

AT = datetime(2017, 1, 7, 9, 30, tzinfo=UTC)
PUBLIC = "https://models.example.org"


def item(n: int = 1, **changes: Any) -> Item:
    """Return something that is told of alert `n`; fields of Item, or of what it says."""
    says = {
        "alert_type": "drift_detected",
        "severity": "critical",
        "state": "open",
        "message": f"pump {n} · baseline: bias is worse since 2017-01-06.",
        "model_type": "baseline",
        "machine_id": str(uuid.UUID(int=500 + n)),
        "machine_name": f"pump {n}",
        "model_version": 3,
        "metric": "nmbe",
        "current": 18.6,
        "baseline": -1.25,
        "threshold": 15.0,
        "threshold_of": "metric",
        "count": 42,
        "opened_at": "2017-01-07T09:00:00+00:00",
        "changed_at": "2017-01-06T00:00:00Z",
        "n_members": None,
    }
    known: dict[str, Any] = {
        "event_id": uuid.UUID(int=1000 + n),
        "alert_id": uuid.UUID(int=n),
        "kind": "opened",
        "occurred_at": AT,
        "link": f"{PUBLIC}/admin/modelperf/alert/{n}/",
        "members": (),
        "first_message_id": None,
    }
    of_the_item = {name: value for name, value in changes.items() if name in known}
    said = says | {name: value for name, value in changes.items() if name not in known}
    return Item(**known | {"says": said} | of_the_item)


def over(n: int = 1, **changes: Any) -> Item:
    """Return the end of alert `n`."""
    ended = {"kind": "resolved", "resolved_by": "system", "resolution_action": "recovered"}
    return item(n, **ended | changes)


def fleet(n_machines: int) -> Item:
    """Return a fleet alert of so many machines."""
    return item(
        900,
        machine_id=None,
        machine_name=None,
        current=11.5,
        baseline=None,
        threshold=10.0,
        threshold_of="z",
        message=f"baseline: {n_machines} of 300 machines at once: bias is worse.",
        members=tuple(f"machine-{number:03}" for number in range(n_machines)),
        n_members=n_machines,
    )


def envelope(*items: Item, **changes: Any) -> Envelope:
    """Return a message that tells of these."""
    known: dict[str, Any] = {
        "message_id": uuid.UUID(int=77),
        "route": "operators",
        "public_url": PUBLIC,
        "items": items,
    }
    return Envelope(**known | changes)
