"""`manage.py complete_ab_tests`: end the A/B tests whose time is over."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modelperf.models import ABTest
from modelperf.services import ab_tests

BY = "command:complete_ab_tests"
COLUMNS = ("machine", "type", "test", "versions", "winner", "confidence")


class Command(BaseCommand):
    """End what is over."""

    help = (
        "End the A/B tests whose end has passed and store what came of them for good."
        " Exits with 0, also where there was none, and with 1 where one could not be ended."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the form of the output."""
        parser.add_argument("--format", choices=["table", "json"], default="table")

    def handle(self, *args: Any, **options: Any) -> None:
        """End them and tell what came of each."""
        expired = ab_tests.complete_expired(by=BY)
        ended = [_told(test) for test in expired.ended]
        if options["format"] == "json":
            self.stdout.write(json.dumps(ended, indent=2))
        elif ended:
            self._table(ended)
        elif not expired.failed:
            self.stdout.write("No test to end.")
        if expired.failed:
            names = ", ".join(f"“{test.test_name}”" for test in expired.failed)
            raise CommandError(f"Not ended, the log says why: {names}.")

    def _table(self, ended: list[dict[str, Any]]) -> None:
        rows = [COLUMNS, *(_cells(one) for one in ended)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


def _told(test: ABTest) -> dict[str, Any]:
    found = ab_tests.results(test=test)
    return {
        "test_id": str(test.pk),
        "test_name": test.test_name,
        "machine_id": str(test.machine_id),
        "machine_name": test.machine.name,
        "model_type": test.model_type,
        "model_a_version": test.model_a_version,
        "model_b_version": test.model_b_version,
        "outcome": found.evidence["outcome"],
        "winner": found.winner,
        "confidence": found.confidence,
        "recommendation": found.recommendation,
    }


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    versions = f"v{one['model_a_version']} · v{one['model_b_version']}"
    winner = one["winner"]
    won = f"v{one[f'{winner}_version']}" if winner in ("model_a", "model_b") else "none"
    # Never rounded up to certainty.
    confidence = f"{min(one['confidence'], 0.999):.1%}"
    return (one["machine_name"], one["model_type"], one["test_name"], versions, won, confidence)
