"""`manage.py send_notifications`: send what there is to tell of alerts, without a worker."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modelperf.models import Delivery
from modelperf.services import notifications
from modelperf.services.notifications_sending import Outcome


class Command(BaseCommand):
    """Send what is due, once."""

    help = (
        "Decide who is told of what there is to tell of alerts, and send the messages that are"
        " due, one pass. Exits with 1 where one was not taken; it is sent again. A worker does the"
        " same all the time; both at once do no harm."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the form of the output."""
        parser.add_argument("--json", action="store_true", help="one object instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Send, and tell what came of each message."""
        outcomes = notifications.one_pass()
        failed = [outcome for outcome in outcomes if not outcome.is_sent]
        if options["json"]:
            self.stdout.write(json.dumps({"messages": [_document(one) for one in outcomes]}))
            if failed:
                sys.exit(1)
            return
        for outcome in outcomes:
            self.stdout.write(_line(outcome))
        if failed:
            raise CommandError(f"{len(failed)} of {len(outcomes)} messages were not taken.")
        if not outcomes:
            self.stdout.write("No message is due.")


def _document(outcome: Outcome) -> dict[str, Any]:
    message = outcome.message
    return {
        "message_id": str(message.pk),
        "channel": message.channel.name,
        "route": message.route.name if message.route else None,
        "attempt": message.attempts,
        "events": _events(outcome),
        "is_sent": outcome.is_sent,
        "said": outcome.said,
    }


def _events(outcome: Outcome) -> list[str]:
    told = outcome.message.deliveries.filter(decision=Delivery.Decision.TOLD)
    return [str(pk) for pk in told.order_by("notice_id").values_list("notice_id", flat=True)]


def _line(outcome: Outcome) -> str:
    count = len(_events(outcome))
    what = f"{count} event{'' if count == 1 else 's'} in message {outcome.message.pk}"
    what += " sent" if outcome.is_sent else " not taken"
    return f"{outcome.message.channel.name}: {what}. {outcome.said}"
