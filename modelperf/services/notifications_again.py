"""A message that was given up is sent again, since a person says so."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from modelperf.models import Message
from modelperf.services.errors import ConflictError
from modelperf.services.notifications_sending import kept

log = structlog.get_logger(__name__)

_LEASE: Final = {"lease_id": None, "leased_until": None}


@transaction.atomic
def send_again(*, message: Message, by: str, now: datetime | None = None) -> None:
    """Have a message that was given up sent, and tried for a day if need be.

    Raises
    ------
    ConflictError
        It was not given up.
    """
    moment = now or timezone.now()
    failed = Message.objects.filter(pk=message.pk, status=Message.Status.FAILED)
    stored = failed.select_for_update().first()
    if stored is None:
        raise ConflictError("Only a message that was given up is sent again.")
    entry = {
        "at": moment.isoformat(),
        "said": f"To be sent again, says {by.removeprefix('user:')}.",
        "is_sent": False,
        "is_again": True,
    }
    failed.update(
        status=Message.Status.WAITING,
        ended_at=None,
        due_at=moment,
        sealed_at=Coalesce(F("sealed_at"), moment),
        attempts_log=kept([*stored.attempts_log, entry]),
        **_LEASE,
    )
    log.info("notification_sent_again", message_id=str(message.pk), by=by)
