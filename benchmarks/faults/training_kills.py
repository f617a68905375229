"""Kill a worker at random moments of many runs: each is to end once, and soon enough.

`python -m benchmarks.faults.training_kills [--kills N] [--seed S]`; exits 1 where one does not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.check import prepare_environment
from tests.place import PLACE

QUIET = "ERROR"  # that workers died is no news here


def main() -> None:
    """Kill, and print what became of the runs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-", dir=PLACE) as folder:
        prepare_environment(folder)
        os.environ["MODELPERF_LOG_LEVEL"] = QUIET
        import django

        django.setup()
        from config import postgres

        try:
            problems = _measure(Path(folder), given.kills, given.seed)
        finally:
            from django.db import connection

            connection.close()
            if "DATABASE_URL" not in os.environ:
                postgres.release(Path(folder))
    sys.exit("\n".join(problems) if problems else 0)


def _measure(folder: Path, kills: int, seed: int) -> list[str]:
    from django.conf import settings
    from django.core.management import call_command

    from tests.commands.kills import killed
    from tests.commands.workers import Workers, environment_of
    from tests.trainers.scripts import Commands

    call_command("migrate", verbosity=0)
    place = folder / "commands-at-work"
    place.mkdir()
    commands = Commands(place, settings)
    environment = {**environment_of(place), "MODELPERF_LOG_LEVEL": QUIET}
    workers = Workers("--trainings", "2", **environment)
    try:
        outcome = killed(workers, commands, place, kills=kills, seed=seed)
    finally:
        workers.end()
    attempts = Counter(run.attempt for run in outcome.runs)
    states = Counter(run.training_status for run in outcome.runs)
    print(f"runs {len(outcome.runs)}: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    print("attempts: " + ", ".join(f"{n} x {often}" for n, often in sorted(attempts.items())))
    print(f"trained to the end {len(outcome.ended)} times, stored {len(outcome.completed)} times")
    print(f"longest from restart to end: {outcome.longest.total_seconds():.1f} s")
    left = commands.left()
    print(f"files left: {len(left)}; processes left: {len(commands.alive())}")
    return [*outcome.problems(), *(f"left: {name}" for name in left)]


if __name__ == "__main__":
    main()
