"""`manage.py check_drift`: judge the fleet, and let the alerts and retraining follow."""

from __future__ import annotations

import argparse
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

from modelperf.management import check_followed
from modelperf.models import Alert, Machine
from modelperf.models.registry import Series
from modelperf.services import checks, retraining
from modelperf.services.checks import Look, Report
from modelperf.services.errors import ConflictError
from modelperf.services.policies import Policies
from modelperf.stats.results import MetricKind

BY = "command:check_drift"
DRIFT_FOUND = 3


class Command(BaseCommand):
    """Check the fleet."""

    help = (
        "Judge what was recorded since the last check, ration the alerts of the whole fleet, and"
        " find series whose evaluations stopped. A check of the whole fleet that stores is followed"
        " by retraining, where policies ask for it: tests that are over are decided, and runs asked"
        " for that a worker or run_training takes. Exits with 0 when done (also where another check"
        " is running already, which it says), 1 on an error, such as"
        " an unknown machine or type, 2 on wrong arguments, and 3 with"
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
            machine = _machine(options["machine"])
            _refuse_unknown(options["model_type"], machine)
            with _progress() as progress:
                report = checks.run(
                    by=BY,
                    model_type=options["model_type"],
                    machine=machine,
                    as_of=options["as_of"],
                    dry_run=options["dry_run"],
                    progress=progress,
                )
        except ConflictError as error:
            self._tell_busy(str(error), options["format"])
            return
        followed = retraining.follow(by=BY) if _is_whole(options) else None
        if options["format"] == "json":
            told = {
                **_document(report),
                "retraining": followed and check_followed.document(followed),
            }
            self.stdout.write(msgspec.json.encode(told).decode())
        else:
            self._print(report)
            for line in check_followed.lines(followed) if followed else ():
                self.stdout.write(line)
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
        for line in _fleet_alerts(report):
            self.stdout.write(line)
        self.stdout.write(_sentence(report))


def _is_whole(options: dict[str, Any]) -> bool:
    """Whether the whole fleet was judged as it is now, which is what retraining goes by."""
    is_part = options["model_type"] or options["machine"]
    return not (is_part or options["as_of"] or options["dry_run"])


def _document(report: Report) -> dict[str, Any]:
    fields = {name: getattr(report, name) for name in report.__slots__}
    looks = [look._asdict() for look in report.looks]
    return {"status": "done", **fields, "has_drift": report.has_drift, "looks": looks}


def _is_notable(look: Look) -> bool:
    """Whether there is an alert to tell of; the others are counted."""
    has_alert = any(decision != "above_cut_off" for decision in look.decisions)
    return has_alert or bool(look.drifted_features) or look.is_stale


def _table(looks: list[Look]) -> Table:
    known = Policies.load()
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
            _effect(look, known),
            ", ".join(dict.fromkeys(one.replace("_", " ") for one in look.decisions)),
        )
    return table


def _effect(look: Look, known: Policies) -> str:
    """Return a change in percent; of a metric that should be zero in its own unit."""
    if look.effect is None or look.metric is None:
        return ""
    kind = known.of(look.machine_id, look.model_type).kind(look.metric)
    return f"{look.effect:+.3g}" if kind is MetricKind.TARGET_ZERO else f"{look.effect:+.0%}"


def _fleet_alerts(report: Report) -> Iterator[str]:
    """Yield a line on each alert of the fleet that there is now; or would be, in a dry run."""
    keys = report.summary["fleet_alerts"]
    found = Alert.objects.unresolved().filter(condition_key__in=keys)
    said = dict(found.values_list("condition_key", "alert_message"))
    for key in keys:
        _, model_type, alert_type, metric = key.split(":", 3)
        kind = " ".join([metric, alert_type.replace("_", " ")]).strip()
        yield f"Fleet alert: {said.get(key) or f'{model_type}: {kind} on machines together.'}"


def _sentence(report: Report) -> str:
    counted = [
        f"{n} {status.replace('_', ' ')}" for status, n in report.summary["by_status"].items()
    ]
    n_inactive = sum(not look.is_active for look in report.looks)
    if n_inactive:
        counted.append(f"{n_inactive} not active")
    stored = "" if report.check_run_id else " Nothing was stored."
    skipped = f", {report.n_skipped} left to the next check" if report.n_skipped else ""
    seconds = (report.finished_at - report.started_at).total_seconds()
    return (
        f"{len(report.looks)} model versions checked, {report.n_judged} judged anew"
        f"{skipped}, in {seconds:.1f} s: {', '.join(counted) or 'none'}."
        f" Alerts: {report.summary['opened']} opened, {report.summary['cleared']} cleared,"
        f" {report.summary['above_cut_off']} within the fleet's false alarm budget.{stored}"
    )


def _moment(text: str) -> datetime:
    try:
        moment = parse_datetime(text)
    except ValueError:  # such as the 30th of February
        moment = None
    if moment is None or moment.tzinfo is None:
        msg = f"{text!r} is not RFC 3339 with an offset, like 2026-01-01T00:00:00Z"
        raise argparse.ArgumentTypeError(msg)
    return moment


def _machine(id: uuid.UUID | None) -> Machine | None:
    if id is None:
        return None
    machine = Machine.objects.filter(pk=id).first()
    if machine is None:
        raise CommandError(f"There is no machine {id}.")
    return machine


def _refuse_unknown(model_type: str, machine: Machine | None) -> None:
    """Refuse a model type that is misspelt, before nothing at all is checked."""
    found = Series.objects.filter(model_type=model_type)
    if model_type and not (found.filter(machine=machine) if machine else found).exists():
        where = f" on the machine {machine.name}" if machine else ""
        raise CommandError(f"There is no series of the model type {model_type}{where}.")


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
