"""`manage.py create_api_key NAME --scopes read,write`: print a new key, and nothing else."""

from __future__ import annotations

import argparse
import uuid
from datetime import UTC, datetime, time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_date, parse_datetime

from modelperf.models import ApiKey
from modelperf.services import access
from modelperf.services.errors import DomainError


def scope_list(text: str) -> list[str]:
    """Read a comma-separated list of scopes."""
    return [part.strip() for part in text.split(",") if part.strip()]


def moment(text: str) -> datetime:
    """Read a day (its end in UTC) or a time with an offset."""
    try:
        day, instant = parse_date(text), parse_datetime(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a date: {error}") from error
    if instant is not None and (day is None or len(text) > len("2026-12-31")):
        if instant.tzinfo is None:
            raise argparse.ArgumentTypeError(f"{text} has no offset; write {text}Z for UTC")
        return instant
    if day is None:
        raise argparse.ArgumentTypeError(f"{text} is not a date; write 2026-12-31")
    return datetime.combine(day, time.max, tzinfo=UTC)


class Command(BaseCommand):
    """Create an API key."""

    help = "Create an API key and print it. It is shown once: only its hash is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the name, the scopes, the expiry and the machines."""
        parser.add_argument("name", help="who uses the key, e.g. nightly-batch")
        parser.add_argument(
            "--scopes",
            type=scope_list,
            required=True,
            metavar="SCOPE,..",
            help="comma-separated: " + ", ".join(ApiKey.Scope.values),
        )
        parser.add_argument(
            "--expires",
            type=moment,
            metavar="DATE",
            help="last day in UTC (2026-12-31), or a time with an offset; default: never",
        )
        parser.add_argument(
            "--machine",
            type=uuid.UUID,
            action="append",
            default=[],
            dest="machines",
            metavar="ID",
            help="limit the key to this machine; may be repeated",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the key; its plain text is the only output."""
        try:
            _, plain = access.create_api_key(
                name=options["name"],
                scopes=options["scopes"],
                expires_at=options["expires"],
                machines=options["machines"],
            )
        except DomainError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(plain)
