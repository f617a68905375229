"""`manage.py replay_demo [--every SECONDS]`: record the demo's held-back days one by one."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modelperf.demo.load import DemoError
from modelperf.demo.replay import Replayed, replay
from modelperf.services.errors import DomainError


class Command(BaseCommand):
    """Replay the held-back days of the demo."""

    help = (
        "Record the demo's 120 held-back days one by one, each with its verdict. Stop it with"
        " Ctrl-C at any time: the next replay goes on from there."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the pause and the number of days."""
        parser.add_argument(
            "--every", type=float, default=0.0, metavar="SECONDS", help="pause between two days"
        )
        parser.add_argument("--days", type=int, metavar="N", help="stop after so many days")

    def handle(self, *args: Any, **options: Any) -> None:
        """Record and print; an interrupted replay ends between two evaluations."""
        pause, wanted, n_days = max(0.0, options["every"]), options["days"], 0
        try:
            for step in replay():
                for line in step:
                    self.stdout.write(_line(line))
                self.stdout.flush()
                n_days += 1
                if n_days == wanted:
                    break
                time.sleep(pause)
        except (DemoError, DomainError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stdout.write("Stopped. The next replay goes on from here.")
            return
        self.stdout.write(
            f"{n_days} days recorded." if n_days else "Every day is recorded already."
        )


def _line(replayed: Replayed) -> str:
    verdict = replayed.recorded.verdict or {}
    bias = "-" if replayed.nmbe is None else f"{replayed.nmbe:+.1f} %"
    score = replayed.recorded.drift_score
    return (
        f"{replayed.evaluation_end:%Y-%m-%d %H:%M}Z (data of {replayed.data_day})"
        f"  {replayed.machine} v{replayed.model_version}"
        f"  bias {bias}  {verdict.get('status', 'not judged')}"
        + ("" if score is None else f"  Z {score:.2f}")
    )
