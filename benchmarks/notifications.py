"""How much slower evaluations are recorded while those who are to be told do not answer.

The evaluations open alerts, and a notifier runs beside in a process of its own. In turns, in one
run: nobody is to be told; receivers answer; receivers hang; receivers are away.
`python -m benchmarks.notifications [--rounds N]`; exits 1 where the ratio is above its target.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.check import prepare_environment
from tests.place import PLACE

MOST: Final = 1.2
WINDOWS: Final = 70  # of which the last 25 are worse: each series opens an alert
CASES: Final = ("nobody", "answering", "hanging", "away")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=30)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-", dir=PLACE) as folder:
        prepare_environment(folder)
        os.environ["MODELPERF_LOG_LEVEL"] = "CRITICAL"
        import django

        django.setup()
        from config import postgres

        try:
            ratio = _measure(given.rounds)
        finally:
            from django.db import connection

            connection.close()
            if "DATABASE_URL" not in os.environ:
                postgres.release(Path(folder))
    sys.exit(0 if ratio <= MOST else 1)


def _measure(rounds: int) -> float:
    from django.core.management import call_command

    from tests.commands.notifier_kills import Notifiers
    from tests.services.notifying import OK, channel
    from tests.sites import Site, closed_port, silent

    call_command("migrate", verbosity=0)
    notifiers = Notifiers()
    took: dict[str, list[float]] = {name: [] for name in CASES}
    with Site().served() as answering, Site().served() as hanging:
        answering.answer, hanging.answer = OK, silent
        away = {"settings": {"url": f"http://127.0.0.1:{closed_port()}/hook"}}
        channels = {
            "nobody": None,
            "answering": channel(answering),
            "hanging": channel(hanging),
            "away": channel(**away),
        }
        notifiers.start()
        try:
            for number in range(rounds + 2):
                for name, over in channels.items():
                    took[name].append(_recorded(over, seed=number))
        finally:
            notifiers.end()
    return _tell({name: seconds[2:] for name, seconds in took.items()})


def _recorded(over: Any, *, seed: int) -> float:
    """Return what it takes to record a series that gets worse, told over a channel."""
    from modelperf.models import Notice, Route
    from modelperf.services import metrics
    from tests.factories import ModelVersionFactory
    from tests.services.builders import noisy, series

    model = ModelVersionFactory.create(is_active=True)
    matchers = {"machine": [str(model.machine_id)]}
    if over is not None:
        name = str(model.pk)
        Route.objects.create(name=name, channel=over, matchers=matchers, group_seconds=0)
    sent = series(model, noisy(seed, WINDOWS, fall_at=45))
    began = time.perf_counter()
    for evaluation in sent:
        metrics.record(evaluation=evaluation, by="bench")
    seconds = time.perf_counter() - began
    if not Notice.objects.filter(alert__machine=model.machine).exists():
        sys.exit("The series opened no alert: nothing was measured.")
    return seconds


def _tell(took: dict[str, list[float]]) -> float:
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    for name, median in medians.items():
        print(f"  {name:<10} {median / WINDOWS * 1e3:8.2f} ms an evaluation")
    ratios = {name: medians[name] / medians["answering"] for name in ("hanging", "away")}
    worst = max(ratios.values())
    for name, ratio in ratios.items():
        print(f"receivers {name}, times those that answer: {ratio:.2f} (target <= {MOST})")
    return worst


if __name__ == "__main__":
    main()
