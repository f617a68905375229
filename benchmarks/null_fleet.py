"""The false alarms of a fleet through the product: recorded day by day, checked each day.

Beside it the same series in memory, as `statistics_fleet` simulates many fleets of them.
`python -m benchmarks.null_fleet [--series N] [--evaluations T] [--seed S]`.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.check import prepare_environment
from tests.place import PLACE

FIRST_CHECK = 30
SHARE_CHANGED = 0.02
START = datetime(2020, 1, 1, tzinfo=UTC)


def main() -> None:
    """Record and check a fleet, and print who was alerted."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--series", type=int, default=1_000)
    arguments.add_argument("--evaluations", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=1_000)
    arguments.add_argument("--place", default=PLACE, help="where the database lies")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-", dir=given.place) as folder:
        prepare_environment(folder)
        import django

        django.setup()
        from django.db import connection

        from config import postgres

        try:
            _run(given)
        finally:
            connection.close()
            if "DATABASE_URL" not in os.environ:
                postgres.release(Path(folder))


def _run(given: argparse.Namespace) -> None:
    from django.core.management import call_command

    from benchmarks.statistics_change_point import LEVEL, noise
    from benchmarks.statistics_fleet import CHANGE, _ever, alerts, folded

    call_command("migrate", verbosity=0)
    logging.disable(logging.INFO)
    rng = np.random.default_rng(given.seed)
    values = np.array([noise(rng, given.evaluations, "iid") for _ in range(given.series)])
    n_changed = round(SHARE_CHANGED * given.series)
    values[:n_changed, CHANGE:] -= 1
    started = time.perf_counter()
    alerted_at, n_fleet_alerts = _through_the_product(LEVEL + values)
    false = int(np.isfinite(alerted_at[n_changed:]).sum())
    delays = alerted_at[:n_changed] - CHANGE
    in_time = delays > 0
    print(
        f"{given.series:,} series, {given.evaluations - FIRST_CHECK} checks in"
        f" {time.perf_counter() - started:.0f} s: {false} of {given.series - n_changed:,} unchanged"
        f" series ever alerted, {int(in_time.sum())} of {n_changed} falls of 1 sigma found,"
        f" median delay {np.median(delays[in_time]):.0f} evaluations,"
        f" {n_fleet_alerts} fleet alerts"
    )
    alerted, _ = alerts(*folded(LEVEL + values))
    found = int(alerted[:n_changed, CHANGE:].any(axis=1).sum())
    print(f"in memory: {_ever(alerted[n_changed:])} and {found}")


def _through_the_product(values: Any) -> tuple[Any, int]:
    """Record a column of values a day and check; return the day of each series' first alert."""
    from benchmarks.ingest import Fleet
    from modelperf.models import Alert
    from modelperf.services import checks, policies

    models = Fleet(len(values)).models
    policies.set_policy(
        model_type="bench",
        values={
            "primary_metric": "score",
            "directions": {"score": "higher"},
            "min_effect": 0.0,
        },
        by="benchmark",
    )
    row_of = {model.machine_id: row for row, model in enumerate(models)}
    alerted_at = np.full(len(values), np.inf)
    for day in range(values.shape[1]):
        _record(models, values[:, day], day)
        if day + 1 < FIRST_CHECK:
            continue
        checks.run(by="benchmark")
        for machine_id in Alert.objects.unresolved().values_list("machine_id", flat=True):
            if machine_id is not None:
                row = row_of[machine_id]
                alerted_at[row] = min(alerted_at[row], day + 1)
    return alerted_at, Alert.objects.filter(machine__isnull=True).count()


def _record(models: list[Any], values: Any, day: int) -> None:
    from modelperf.services import metrics

    start = START + timedelta(days=day)
    evaluations = [
        metrics.Evaluation(
            model_id=model.pk,
            model_type="bench",
            machine_id=model.machine_id,
            evaluation_start=start,
            evaluation_end=start + timedelta(days=1),
            metrics={"score": float(value)},
        )
        for model, value in zip(models, values, strict=True)
    ]
    for first in range(0, len(evaluations), metrics.LARGEST_BATCH):
        batch = evaluations[first : first + metrics.LARGEST_BATCH]
        metrics.record_batch(evaluations=batch, by="benchmark")


if __name__ == "__main__":
    main()
