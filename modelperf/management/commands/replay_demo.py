"""`manage.py replay_demo [--every SECONDS]`: record the demo's held-back days one by one."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modelperf.demo.load import DemoError
from modelperf.demo.replay import Replayed, replay, replayed_machine
from modelperf.demo.story import Story
from modelperf.services.errors import DomainError

EVERY = 5.0  # seconds; a worker that looks every minute is then two weeks behind, not a year


class Command(BaseCommand):
    """Replay the held-back days of the demo."""

    help = (
        "Record the demo's held-back days one by one, each with its verdict, and tell what becomes"
        " of the meter meanwhile. Stop it with Ctrl-C at any time: the next replay goes on from"
        " there."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the pause and the number of days."""
        parser.add_argument(
            "--every",
            type=float,
            default=EVERY,
            metavar="SECONDS",
            help=f"pause between two days ({EVERY:g})",
        )
        parser.add_argument("--days", type=int, metavar="N", help="stop after so many days")

    def handle(self, *args: Any, **options: Any) -> None:
        """Record and print; an interrupted replay ends between two evaluations."""
        pause, wanted = max(0.0, options["every"]), options["days"]
        days: set[str] = set()
        try:
            story = Story(replayed_machine())
            for n_steps, step in enumerate(replay(), start=1):
                days.update(line.data_day for line in step)
                self._tell(step, story)
                if n_steps == wanted:
                    break
                time.sleep(pause)
        except (DemoError, DomainError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stdout.write("Stopped. The next replay goes on from here.")
            return
        self.stdout.write(
            f"{len(days)} days recorded." if days else "Every day is recorded already."
        )

    def _tell(self, step: list[Replayed], story: Story) -> None:
        """Print the evaluations, then what happened up to now; it may be what they led to."""
        for line in step:
            self.stdout.write(_line(line))
        for news in story.news():
            self.stdout.write(f"  * {news}")
        self.stdout.flush()


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
