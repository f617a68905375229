"""How fast evaluations are recorded, against raw binary COPY and against the yardstick.

Everything runs on this machine in one run, in turns: ratios of neighbours, and their medians.
`python -m benchmarks.ingest [--rounds N] [--rows N]`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.place import PLACE

START = datetime(2020, 1, 1, tzinfo=UTC)
HISTORY = 100
CHANCE = random.Random(7)
API = "/api/v1/model-performance"


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--rows", type=int, default=1000)
    arguments.add_argument("--singles", type=int, default=40)
    arguments.add_argument(
        "--place",
        default=PLACE,
        help="where the database lies; in memory its disk does not blur ratios",
    )
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-", dir=given.place) as folder:
        _prepare_environment(folder)
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


def _prepare_environment(folder: str) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        "MODELPERF_SECRET_KEY": "only-for-benchmarks-" * 3,
        "MODELPERF_DEMO": "1",
        "MODELPERF_DATA_DIR": folder,
    }
    Path(folder, "static").mkdir()


def _measure(given: argparse.Namespace) -> None:
    from django.core.management import call_command

    from modelperf.services import access

    call_command("migrate", verbosity=0)
    key = access.create_api_key(name="bench", scopes=["read", "write"])[1]
    with _server() as port:
        client = Client(port, key)
        batches(client, given, windows=1)
        batches(client, given, windows=10)
        singles(client, given)


class Fleet:
    """Models, one a machine, and the evaluations they have not sent yet."""

    def __init__(self, size: int) -> None:
        """Register the machines, series and active models."""
        from modelperf.models import Machine, ModelVersion, Series

        self.machines = [Machine(name=f"bench {number}") for number in range(size)]
        Machine.objects.bulk_create(self.machines)
        Series.objects.bulk_create(
            [Series(machine=machine, model_type="bench") for machine in self.machines]
        )
        self.models = [
            ModelVersion(machine=machine, model_type="bench", model_version=1, is_active=True)
            for machine in self.machines
        ]
        ModelVersion.objects.bulk_create(self.models)
        self.day = 0

    def next(self, windows: int = 1) -> list[dict[str, Any]]:
        """Return the next windows of every model, as they are sent."""
        sent = []
        for _ in range(windows):
            self.day += 1
            start = START + timedelta(days=self.day)
            sent += [evaluation(model, start) for model in self.models]
        return sent


def evaluation(model: Any, start: datetime) -> dict[str, Any]:
    """Return one evaluation of an unchanged model as it is sent, with six metrics."""
    noise = [CHANCE.lognormvariate(0, 0.1) for _ in range(6)]
    return {
        "model_id": str(model.pk),
        "model_type": model.model_type,
        "machine_id": str(model.machine_id),
        "evaluation_start": start.isoformat(),
        "evaluation_end": (start + timedelta(days=1)).isoformat(),
        "sample_count": 24,
        "metrics": {
            "r_squared": round(1 - 0.1 * noise[0], 6),
            "rmse": round(1.5 * noise[1], 6),
            "mae": round(noise[2], 6),
            "mape": round(12 * noise[3], 6),
            "cv_rmse": round(20 * noise[4], 6),
            "nmbe": round(noise[5] - 1, 6),
        },
    }


class Client:
    """One persistent connection with a key, as thin as can be: its own work would blur ratios."""

    def __init__(self, port: int, key: str) -> None:
        """Connect."""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = (
            f" HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Api-Key {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )

    def post(self, path: str, body: bytes) -> float:
        """Send a body and return the seconds until its answer was read."""
        request = f"POST {path}{self.head}{len(body)}\r\n\r\n".encode() + body
        started = time.perf_counter()
        self.socket.sendall(request)
        answer = self._answer()
        seconds = time.perf_counter() - started
        if not answer.startswith(b"HTTP/1.1 200"):
            sys.exit(f"{path}: {answer[:800]!r}")
        return seconds

    def _answer(self) -> bytes:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        missing = length - len(body)
        while missing > 0:
            missing -= len(self._more())
        return head

    def _more(self) -> bytes:
        received = self.socket.recv(1 << 20)
        if not received:
            sys.exit("the server closed the connection")
        return received


def batches(client: Client, given: argparse.Namespace, *, windows: int) -> None:
    """Compare raw COPY, the bulk endpoint and the yardstick on batches of new evaluations."""
    series = given.rows // windows
    raw, ours, yardstick = (Fleet(series) for _ in range(3))
    took: dict[str, list[float]] = {"raw": [], "ours": [], "yardstick": []}
    for _ in range(given.rounds + 2):
        took["raw"].append(_raw_copy(raw, windows))
        body = json.dumps(ours.next(windows)).encode()
        took["ours"].append(client.post(f"{API}/metrics/record/bulk", body))
        body = json.dumps(yardstick.next(windows)).encode()
        took["yardstick"].append(client.post("/yardstick", body))
    took = {name: seconds[2:] for name, seconds in took.items()}
    print(f"\nBatches of {given.rows} new evaluations, {windows} of each of {series} series")
    for name, seconds in took.items():
        print(f"  {name:<12} {statistics.median(seconds) * 1e3:8.1f} ms")
    _ratio("bulk record, share of raw binary COPY", took["raw"], took["ours"], 0.3)
    _ratio("bulk record, times the yardstick", took["yardstick"], took["ours"], 5.0)


def _raw_copy(fleet: Fleet, windows: int) -> float:
    """Return what binary COPY of a batch into the table takes, with its commit and nothing else."""
    import msgspec
    import psycopg
    from django.db import connection

    from modelperf.services import metrics_store
    from modelperf.services.metrics_rows import Evaluation, build

    evaluations = msgspec.convert(fleet.next(windows), list[Evaluation])
    subjects = metrics_store.subjects([model.pk for model in fleet.models])
    now = datetime.now(UTC)
    rows = [
        metrics_store.binary_params(build(one, subject=subjects[one.model_id], by="raw", now=now))
        for one in evaluations
    ]
    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection)
    started = time.perf_counter()
    with cursor.copy(metrics_store.COPY) as stream:
        stream.set_types(metrics_store.TYPES)
        for row in rows:
            stream.write_row(row)
    return time.perf_counter() - started


def singles(client: Client, given: argparse.Namespace) -> None:
    """Compare single records, judged and unjudged, with the yardstick's, after some history."""
    judged, unjudged, yardstick = Fleet(given.singles), Fleet(given.singles), Fleet(given.singles)
    for _ in range(HISTORY):
        for fleet in (judged, unjudged):
            client.post(f"{API}/metrics/record/bulk", json.dumps(fleet.next()).encode())
        client.post("/yardstick", json.dumps(yardstick.next()).encode())
    judge = f"{API}/metrics/record/bulk?judge=true"
    client.post(judge, json.dumps(judged.next()).encode())
    took: dict[str, list[float]] = {"judged": [], "unjudged": [], "yardstick": []}
    for _ in range(given.rounds):
        sent = zip(judged.next(), unjudged.next(), yardstick.next(), strict=True)
        for one, other, third in sent:
            took["judged"].append(client.post(f"{API}/metrics/record", json.dumps(one).encode()))
            alone = json.dumps([other]).encode()
            took["unjudged"].append(client.post(f"{API}/metrics/record/bulk", alone))
            took["yardstick"].append(client.post("/yardstick", json.dumps(third).encode()))
    print(f"\nSingle evaluations, {HISTORY} evaluations of history, {len(took['judged'])} each")
    for name, seconds in took.items():
        print(f"  {name:<12} {statistics.median(seconds) * 1e3:8.2f} ms")
    _ratio(
        "single record with verdict, times the yardstick", took["yardstick"], took["judged"], 1.0
    )
    _ratio("single record without, times the yardstick", took["yardstick"], took["unjudged"], 2.0)


def _ratio(name: str, slow: list[float], fast: list[float], target: float) -> None:
    ratio = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
    mark = " " if ratio >= target else "!"
    print(f"{mark} {name:<52} {ratio:6.2f}   target >= {target}")


@contextlib.contextmanager
def _server() -> Iterator[int]:
    """Serve as `make run` does: gunicorn, two workers of four threads."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}"]
    command += ["--worker-class", "gthread", "--workers", "2", "--threads", "4"]
    process = subprocess.Popen(
        [*command, "--log-level", "warning"], env=os.environ, stdout=subprocess.DEVNULL
    )
    try:
        _wait(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("the server did not become ready")


if __name__ == "__main__":
    main()
