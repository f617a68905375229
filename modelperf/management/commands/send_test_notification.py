"""`manage.py send_test_notification`: see whether a channel's messages arrive."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modelperf.services import notifications
from modelperf.services.errors import DomainError


class Command(BaseCommand):
    """Send a message that says it is a test."""

    help = (
        "Send a message that says it is a test over a channel, or over that of a route, by the way"
        " that alerts go. Exits with 1 and says why where it was not taken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare which channel or route."""
        parser.add_argument("name", metavar="NAME", help="of a channel, or of a route")

    def handle(self, *args: Any, **options: Any) -> None:
        """Send it, and tell what was answered."""
        try:
            answered = notifications.send_test(name=options["name"])
        except DomainError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"The test was sent. {answered}")
