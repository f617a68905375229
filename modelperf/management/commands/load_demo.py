"""`manage.py load_demo`: six energy meters, tracked from training to A/B test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from modelperf.demo.figures import figures
from modelperf.demo.load import DemoError, Loaded, load, n_steps
from modelperf.demo.meters import METERS
from modelperf.services.errors import DomainError


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the progress bar stand for the events it is made of."""
    logger = logging.getLogger("modelperf")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


class Command(BaseCommand):
    """Load the demo."""

    help = "Load the demo of six energy meters. Loading it again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the report."""
        parser.add_argument(
            "--figures", action="store_true", help="print the figures of the loaded demo as tables"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Load with a progress bar, then print the login and the key, which are shown once."""
        try:
            with _quiet(), self._progress() as progress:
                task = progress.add_task("Loading the demo", total=n_steps())
                loaded = load(step=lambda _what: progress.advance(task))
                progress.update(task, visible=loaded is not None)
        except (DemoError, DomainError) as error:
            raise CommandError(str(error)) from error
        if options["figures"]:
            self.stdout.write(figures())
        elif loaded is None:
            self.stdout.write("The demo is loaded already; nothing was changed.")
        else:
            self._tell(loaded)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
        )

    def _tell(self, loaded: Loaded) -> None:
        simulated, real = (
            next(meter.key for meter in METERS if meter.is_simulated is kind)
            for kind in (True, False)
        )
        self.stdout.write(
            "Loaded six energy meters. Four are simulated on real weather (moved by"
            f" {loaded.shift_weeks[simulated]} weeks to the present), two are of a real home"
            f" (moved by {loaded.shift_weeks[real]} weeks)."
        )
        if loaded.login is None:
            self.stdout.write("The user demo was there already and is as it was.")
            return
        self.stdout.write(f"Login:    {loaded.login.username}")
        self.stdout.write(f"Password: {loaded.login.password}")
        self.stdout.write(f"API key:  {loaded.login.api_key}")
        self.stdout.write("Shown only this once; the key has all scopes.")
