"""What there is to tell of the alerts that a look has changed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from modelperf.models import Notice
from modelperf.services import alerts_waking, notices


@dataclass(slots=True)
class News:
    """What there is to tell of alerts, by what it is."""

    resolved: list[uuid.UUID] = field(default_factory=list)
    opened: list[uuid.UUID] = field(default_factory=list)
    reopened: list[uuid.UUID] = field(default_factory=list)
    snoozed: list[uuid.UUID] = field(default_factory=list)
    rose: list[uuid.UUID] = field(default_factory=list)

    def tell(self, now: datetime) -> None:
        """Write the notices; a rise that ends a snooze is told by that alone."""
        notices.tell(kind=Notice.Kind.RESOLVED, alert_ids=self.resolved, now=now)
        notices.tell(kind=Notice.Kind.OPENED, alert_ids=self.opened, now=now)
        notices.tell(kind=Notice.Kind.REOPENED, alert_ids=self.reopened, now=now)
        if self.snoozed:
            alerts_waking.wake_seen(alert_ids=self.snoozed, now=now)
        notices.tell(kind=Notice.Kind.ROSE, alert_ids=self.rose, now=now)
