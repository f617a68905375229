"""`manage.py check_drift`: judge every series of the fleet, and let the alerts follow."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, cast

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_datetime
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from modelperf.models import Machine
from modelperf.services import checks
from modelperf.services.checks import Look, Report
from modelperf.services.errors import ConflictError

BY = "command:check_drift"
DRIFT_FOUND = 3


class Command(BaseCommand):
    """Check the fleet."""

    help = (
        "Judge what was recorded since the last check, ration the alerts of the whole fleet, and"
        " find series whose evaluations stopped. Exits with 0 when done (also where another check"
        " is running already, which it says), 1 on an error, 2 on wrong arguments, and 3 with"
        " --fail-on-drift where something is wrong with an active version."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the scope, the moment, and the form of the answer."""
        parser.add_argument("--model-type", default="", metavar="TYPE", help="only this type")
        parser.add_argument("--machine", type=uuid.UUID, metavar="ID", help="only this machine")
        parser.add_argument(
            "--as-of",
            type=_moment,
            metavar="TIME",
            help="judge as if it were then (RFC 3339 with an offset); stores nothing",
        )
        parser.add_argument("--format", choices=["table", "json"], default="table")
        parser.add_argument("--dry-run", action="store_true", help="store nothing, open no alert")
        parser.add_argument("--fail-on-drift", action="store_true", help="exit with 3 on drift")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and report."""
        try:
            with _progress() as progress:
                report = checks.run(
                    by=BY,
                    model_type=options["model_type"],
                    machine=_machine(options["machine"]),
                    as_of=options["as_of"],
                    dry_run=options["dry_run"],
                    progress=progress,
                )
        except ConflictError as error:
            self._tell_busy(str(error), options["format"])
            return
        if options["format"] == "json":
            self.stdout.write(msgspec.json.encode(_document(report)).decode())
        else:
            self._print(report)
        if options["fail_on_drift"] and report.has_drift:
            sys.exit(DRIFT_FOUND)

    def _tell_busy(self, msg: str, form: str) -> None:
        if form == "json":
            self.stdout.write(json.dumps({"status": "busy", "detail": msg}))
        else:
            self.stdout.write(f"{msg} Nothing was done.")

    def _print(self, report: Report) -> None:
        console = Console(
            file=cast("IO[str]", self.stdout), width=None if sys.stdout.isatty() else 160
        )
        notable = [look for look in report.looks if _is_notable(look)]
        if notable:
            console.print(_table(notable))
        self.stdout.write(_sentence(report))


def _document(report: Report) -> dict[str, Any]:
    fields = {name: getattr(report, name) for name in report.__slots__}
    looks = [look._asdict() for look in report.looks]
    return {"status": "done", **fields, "has_drift": report.has_drift, "looks": looks}


def _is_notable(look: Look) -> bool:
    """Whether there is an alert to tell of; the others are counted."""
    has_alert = any(decision != "above_cut_off" for decision in look.decisions)
    return has_alert or bool(look.drifted_features) or look.is_stale


def _table(looks: list[Look]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("machine", "type", "version", "status", "metric", "since", "Z", "effect", "alert"):
        table.add_column(name, justify="right" if name in {"Z", "effect", "version"} else "left")
    for look in looks:
        status = ", ".join(
            [
                "stale" if look.is_stale else look.status.replace("_", " "),
                *(f"{name} moved" for name in look.drifted_features[:3]),
            ]
        )
        table.add_row(
            look.machine_name,
            look.model_type,
            f"{look.model_version}{'' if look.is_active else ' (not active)'}",
            status,
            look.metric or "",
            (look.changed_at or "")[:10],
            "" if look.statistic is None else f"{look.statistic:.1f}",
            "" if look.effect is None else f"{look.effect:+.0%}",
            ", ".join(dict.fromkeys(one.replace("_", " ") for one in look.decisions)),
        )
    return table


def _sentence(report: Report) -> str:
    counted = [
        f"{n} {status.replace('_', ' ')}" for status, n in report.summary["by_status"].items()
    ]
    stored = "" if report.check_run_id else " Nothing was stored."
    skipped = f", {report.n_skipped} left to the next check" if report.n_skipped else ""
    seconds = (report.finished_at - report.started_at).total_seconds()
    return (
        f"{len(report.looks)} model versions checked, {report.n_judged} with new evaluations"
        f"{skipped}, in {seconds:.1f} s: {', '.join(counted) or 'none active'}."
        f" Alerts: {report.summary['opened']} opened, {report.summary['cleared']} cleared,"
        f" {report.summary['above_cut_off']} within the fleet's false alarm budget.{stored}"
    )


def _moment(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None or moment.tzinfo is None:
        raise ValueError(text)
    return moment


def _machine(id: uuid.UUID | None) -> Machine | None:
    if id is None:
        return None
    machine = Machine.objects.filter(pk=id).first()
    if machine is None:
        raise CommandError("Machine not found")
    return machine


@contextmanager
def _progress() -> Iterator[checks.Progress]:
    """Show a bar on a terminal; elsewhere nothing."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    hidden = not console.is_terminal
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=hidden
    ) as bar:
        task = bar.add_task("Checking", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
