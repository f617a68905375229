"""`manage.py profile FILE.. --reference ID`: count files of any size, and record the counts."""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from modelperf.management.commands.create_api_key import moment
from modelperf.models import FeatureReference, ModelVersion
from modelperf.services import profiles
from modelperf.services.errors import DomainError
from modelperf.services.profiles import FEATURE, Recorded
from modelperf.services.profiles_columns import DataError
from modelperf.services.profiles_files import Piece
from modelperf.services.profiles_workers import (
    Workers,
    WorkersError,
    columns_of,
    cut,
    profile_files,
    reference_files,
)
from modelperf.stats.profiles import FeatureKind, Profile

BY: Final = "command:profile"
REFUSED, WORKERS_LOST = 1, 3
_SHOWN: Final = ("feature", "role", "kind", "n", "missing", "mean", "minimum", "maximum", "status")
_WIDTHS: Final = (24, 10, 11, 14, 10, 12, 12, 12, 9)


def names(text: str) -> list[str]:
    """Read a comma-separated list of columns."""
    return [part.strip() for part in text.split(",") if part.strip()]


class Command(BaseCommand):
    """Profile files."""

    help = (
        "Count the columns of CSV and Parquet files of any size in the cells of a model version's"
        " references, and record them as a window of it; or make the references themselves."
        " Exits with 0 when it is recorded, 1 where the data or the request is refused, 2 for wrong"
        " arguments, 3 where workers were lost or the cluster does not answer."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the files, whose they are, and who counts."""
        add = parser.add_argument
        add("files", nargs="+", type=Path, metavar="FILE", help=".csv or .parquet")
        add(
            "--reference",
            type=uuid.UUID,
            required=True,
            metavar="ID",
            help="the model version whose references the files are counted by",
        )
        add("--window-start", type=moment, metavar="TIME", help="with an offset")
        add("--window-end", type=moment, metavar="TIME", help="with an offset, or a day's end")
        add(
            "--columns", type=names, metavar="A,B", help="only these; default: all with a reference"
        )
        add("--part", metavar="NAME", help="add to the window's other parts, once for each name")
        add("--make-reference", action="store_true", help="make the files what is compared with")
        add(
            "--role",
            action="append",
            default=[],
            type=_role,
            metavar="COLUMN=ROLE",
            help="prediction or target of --make-reference; default: feature; may be repeated",
        )
        add("--categorical", type=names, default=[], metavar="A,B", help="numbers that are names")
        add("--jobs", type=int, default=1, metavar="N", help="processes that count; default: 1")
        add("--dask", metavar="tcp://HOST:PORT", help="a Dask cluster that counts, which sees FILE")
        add("--dry-run", action="store_true", help="count and print, record nothing")
        add("--format", choices=["table", "json"], default="table", help="of what is printed")

    def handle(self, *args: Any, **options: Any) -> None:
        """Count, record and print."""
        _check(options)
        model = ModelVersion.objects.filter(pk=options["reference"]).first()
        if model is None:
            raise CommandError("Model not found", returncode=REFUSED)
        try:
            verb = self._make_reference if options["make_reference"] else self._profile
            verb(model, options)
        except (DataError, DomainError) as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        except WorkersError as error:
            raise CommandError(str(error), returncode=WORKERS_LOST) from error

    def _profile(self, model: ModelVersion, options: dict[str, Any]) -> None:
        held = profiles.current_references(model=model)
        pieces = cut(options["files"])
        there = [name for name in pieces[0].names if all(name in one.names for one in pieces)]
        if not options["columns"]:
            _refuse_uneven(pieces, held)
        wanted = options["columns"] or [name for name in there if name in held]
        _expect(wanted, there)
        if unknown := [name for name in wanted if name not in held]:
            raise DataError(f"{unknown[0]} has no reference. See --make-reference.")
        references = {name: held[name].profile for name in wanted}
        with self._progress(pieces, passes=1) as advance:
            found = profile_files(pieces, references, workers=_workers(options), progress=advance)
        recorded: list[Recorded] = []
        if not options["dry_run"]:
            recorded = profiles.record_profiles(
                model=model,
                window=(options["window_start"], options["window_end"]),
                profiles=found,
                part=options["part"],
                by=BY,
            )
        described = [(name, held[name].role, held[name].kind) for name in found]
        self._print(options, described, found, recorded)

    def _make_reference(self, model: ModelVersion, options: dict[str, Any]) -> None:
        pieces = cut(options["files"])
        if not options["columns"]:
            _refuse_uneven(pieces)
        kinds = columns_of(pieces)
        wanted = options["columns"] or list(kinds)
        roles, categorical = dict(options["role"]), options["categorical"]
        _expect([*wanted, *roles, *categorical], list(kinds))
        kinds = {name: kinds[name] or name in categorical for name in wanted}
        with self._progress(pieces, passes=2) as advance:
            made = reference_files(pieces, kinds, workers=_workers(options), progress=advance)
        recorded: list[Recorded] = []
        if not options["dry_run"]:
            start, end = options["window_start"], options["window_end"]
            recorded = profiles.record_references(
                model=model,
                references=made,
                roles=roles,
                window=(start, end) if start is not None and end is not None else None,
                by=BY,
            )
        described = [(name, roles.get(name, FEATURE), str(one.kind)) for name, one in made.items()]
        self._print(options, described, {n: one.profile for n, one in made.items()}, recorded)

    @contextmanager
    def _progress(self, pieces: Sequence[Piece], passes: int) -> Iterator[Callable[[Piece], None]]:
        console = Console(stderr=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress:
            total = passes * sum(piece.size for piece in pieces)
            task = progress.add_task("Profiling", total=total)
            yield lambda piece: progress.advance(task, piece.size)

    def _print(
        self,
        options: dict[str, Any],
        described: Sequence[tuple[str, str, str]],
        found: Mapping[str, Profile],
        recorded: Sequence[Recorded],
    ) -> None:
        statuses = {one.feature: one.status for one in recorded}
        rows = [
            _row(name, role, kind, found[name], statuses.get(name, "dry run"))
            for name, role, kind in sorted(described)
        ]
        if options["format"] == "json":
            document = {
                "model_id": str(options["reference"]),
                "role": "reference" if options["make_reference"] else "current",
                "window_start": _text(options["window_start"]),
                "window_end": _text(options["window_end"]),
                "features": rows,
            }
            self.stdout.write(json.dumps(document, indent=2))
            return
        self.stdout.write(_line(_SHOWN))
        for row in rows:
            self.stdout.write(_line([_cell(row[name]) for name in _SHOWN]))


def _check(options: dict[str, Any]) -> None:
    start, end = options["window_start"], options["window_end"]
    needs_window = not (options["make_reference"] or options["dry_run"])
    if (start is None) != (end is None) or (needs_window and start is None):
        raise CommandError("A window has --window-start and --window-end.", returncode=2)
    if start is not None and end <= start:
        raise CommandError("--window-end is after --window-start.", returncode=2)
    if options["jobs"] < 1:
        raise CommandError("--jobs is at least 1.", returncode=2)
    if options["make_reference"] and options["part"] is not None:
        raise CommandError("--part is of a window, not of a reference.", returncode=2)
    if not options["make_reference"] and (options["role"] or options["categorical"]):
        raise CommandError("--role and --categorical are of --make-reference.", returncode=2)


def _role(text: str) -> tuple[str, str]:
    name, _, role = text.rpartition("=")
    if not name or role not in FeatureReference.Role.values:
        known = ", ".join(FeatureReference.Role.values)
        raise argparse.ArgumentTypeError(f"{text} is not COLUMN=ROLE with a role of {known}")
    return name, role


def _workers(options: dict[str, Any]) -> Workers:
    return Workers(jobs=options["jobs"], cluster=options["dask"])


def _expect(wanted: Sequence[str], there: Sequence[str]) -> None:
    if not wanted:
        raise DataError("No column of the files has a reference. See --make-reference.")
    if missing := [name for name in wanted if name not in there]:
        raise DataError(f"There is no column {missing[0]} in every file that can be profiled.")


def _refuse_uneven(pieces: Sequence[Piece], held: Collection[str] | None = None) -> None:
    """Refuse files of which one lacks a column of another: nobody said that it may be left out."""
    by_file = {piece.path: piece.names for piece in pieces}
    for name in dict.fromkeys(name for piece in pieces for name in piece.names):
        without = [path for path, names in by_file.items() if name not in names]
        if without and (held is None or name in held):
            raise DataError(
                f"{without[0]} has no column {name} that can be profiled, other files have."
                " Name the columns that are wanted with --columns."
            )


def _row(name: str, role: str, kind: str, profile: Profile, status: str) -> dict[str, Any]:
    packed = profile.to_bytes()
    is_numeric = kind == FeatureKind.NUMERIC
    return {
        "feature": name,
        "role": role,
        "kind": kind,
        "n": profile.n,
        "missing": profile.missing,
        "mean": profile.mean if is_numeric else None,
        "minimum": profile.minimum,
        "maximum": profile.maximum,
        "status": status,
        "bytes": len(packed),
        "digest": blake2b(packed, digest_size=16).hexdigest(),
    }


def _line(cells: Sequence[str]) -> str:
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
