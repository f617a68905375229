"""How long a check of the whole fleet takes, how much memory, and how many SQL statements.

`check_drift` runs as a process of its own on generated series, each with noise of its own: once
on all there is, once after one more evaluation of each series.
`python -m benchmarks.check [--series N] [--evaluations T]`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.place import PLACE

MOST_SECONDS: Final = 30.0
MOST_MEGABYTES: Final = 512.0
MOST_STATEMENTS: Final = 20
ROOT: Final = Path(__file__).resolve().parents[1]


def main() -> None:
    """Generate, check twice and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--series", type=int, default=10_000)
    arguments.add_argument("--evaluations", type=int, default=200)
    arguments.add_argument("--fallen", type=float, default=0.02, help="share that gets worse")
    arguments.add_argument("--place", default=PLACE, help="where the database lies")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-", dir=given.place) as folder:
        prepare_environment(folder)
        import django

        django.setup()
        from config import postgres

        try:
            _measure(given)
        finally:
            from django.db import connection

            connection.close()
            if "DATABASE_URL" not in os.environ:
                postgres.release(Path(folder))


def prepare_environment(folder: str) -> None:
    """Let the settings find a database of its own in a folder."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "MODELPERF_SECRET_KEY": "only-for-benchmarks-" * 3,
        "MODELPERF_DATA_DIR": folder,
    }
    Path(folder, "static").mkdir()


def _measure(given: argparse.Namespace) -> None:
    from django.core.management import call_command

    from benchmarks.ingest import Fleet

    call_command("migrate", verbosity=0)
    started = time.perf_counter()
    Fleet(given.series)
    _evaluate(1, given.evaluations, given)
    print(
        f"{given.series:,} series x {given.evaluations} evaluations,"
        f" made in {time.perf_counter() - started:.0f} s; load {os.getloadavg()[0]:.1f}"
    )
    _check("all there is")
    _evaluate(given.evaluations + 1, given.evaluations + 1, given)
    _check("one more evaluation of each")


# Each series needs its own noise: volatile functions stand in the outermost SELECT, for a lateral
# subquery that names no column of the outer row would be computed once and repeated.
_EVALUATE: Final = """
    INSERT INTO model_performance_metrics (id, model_id, machine_id, model_type, model_version,
        evaluation_date, evaluation_start, evaluation_end, sample_count, metrics, mae,
        drift_detected, evaluation_notes, created_by, revision, metadata, created_at)
    SELECT gen_random_uuid(), model_id, machine_id, model_type, model_version, day, day - step, day,
        24, jsonb_build_object('mae', mae, 'rmse', 1.3 * mae), mae, false, '', 'bench', 1,
        '{}'::jsonb, now()
    FROM (
        SELECT v.id AS model_id, v.machine_id, v.model_type, v.model_version,
            interval '1 day' AS step,
            timestamptz '2020-01-01 00:00+00' + day.number * interval '1 day' AS day,
            round(exp(0.1 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())
                + CASE WHEN v.number <= %(fallen)s AND day.number > %(fall_at)s
                    THEN 0.2 ELSE 0 END)::numeric, 6)::float8 AS mae
        FROM (
            SELECT *, row_number() OVER (ORDER BY id) AS number FROM model_versions
        ) AS v
        CROSS JOIN generate_series(%(first)s, %(last)s) AS day (number)
        ORDER BY v.machine_id, day.number
    ) AS made
"""


def _evaluate(first: int, last: int, given: argparse.Namespace) -> None:
    """Store evaluations of every series; a share of them is worse in the last quarter."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            _EVALUATE,
            {
                "first": first,
                "last": last,
                "fallen": round(given.fallen * given.series),
                "fall_at": 3 * given.evaluations // 4,
            },
        )
        cursor.execute("ANALYZE model_performance_metrics, model_versions, model_series, machines")


# Runs the command as `manage.py` does, and tells how many statements it sent.
_COUNTED: Final = """
import sys
import django
django.setup()
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
with CaptureQueriesContext(connection) as captured:
    call_command("check_drift", "--format", "json", stdout=sys.stdout)
framing = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE SAVEPOINT")
sent = [one["sql"] for one in captured.captured_queries]
print(sum(not sql.lstrip().startswith(framing) for sql in sent))
"""


def _check(what: str) -> None:
    """Run the command, and print its time, memory and statements."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _COUNTED], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    said = process.stdout.read().splitlines() if process.stdout else []
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(process.returncode)
    report = json.loads(said[-2])
    print(f"\nA check of {what}: {report['n_judged']:,} judged, {report['summary']}")
    _line("seconds", seconds, MOST_SECONDS)
    print(f"  of CPU, without the server's {usage.ru_utime + usage.ru_stime:6.1f}")
    _line("peak megabytes", usage.ru_maxrss / 1024, MOST_MEGABYTES)
    _line("statements", int(said[-1]), MOST_STATEMENTS)


def _line(name: str, measured: float, target: float) -> None:
    mark = " " if measured <= target else "!"
    print(f"{mark} {name:<20} {measured:8.1f}   target <= {target:g}")


if __name__ == "__main__":
    main()
