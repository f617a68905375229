"""Kill a notifier before, while and after it sends, many times: nothing is to be lost.

`python -m benchmarks.faults.notifier_kills [--kills N] [--seed S]`; exits 1 where something is,
or where more comes twice than there were kills.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.check import prepare_environment
from tests.place import PLACE


def main() -> None:
    """Kill, and print what arrived."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-", dir=PLACE) as folder:
        prepare_environment(folder)
        os.environ["MODELPERF_LOG_LEVEL"] = "CRITICAL"
        import django

        django.setup()
        from config import postgres

        try:
            problems = _measure(given.kills, given.seed)
        finally:
            from django.db import connection

            connection.close()
            if "DATABASE_URL" not in os.environ:
                postgres.release(Path(folder))
    sys.exit("\n".join(problems) if problems else 0)


def _measure(kills: int, seed: int) -> list[str]:
    from django.core.management import call_command

    from modelperf.models import Message, Notice
    from tests.commands.notifier_kills import Notifiers, killed
    from tests.sites import Site

    call_command("migrate", verbosity=0)
    notifiers = Notifiers()
    began = time.monotonic()
    try:
        with Site().served() as sink:
            outcome = killed(sink, notifiers, kills=kills, seed=seed)
    finally:
        notifiers.end()
    attempts = Message.objects.filter(attempts__gt=1).count()
    print(f"{kills} kills in {time.monotonic() - began:.0f} s, {Notice.objects.count()} events")
    print(f"messages that arrived: {len(outcome.bodies)}, of them again: {outcome.duplicates}")
    print(f"messages that were tried more than once: {attempts}")
    return outcome.problems()


if __name__ == "__main__":
    main()
