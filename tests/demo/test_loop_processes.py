"""The loop as processes: `make run` serves and works, a replay feeds, nobody else does anything."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from config import postgres
from tests.config.clients import PROJECT, running, wait_until
from tests.place import PLACE

EVERY_SECOND = "* * * * * *"
LONG = 600.0  # on a busy machine too
SERVES = re.compile(r"modelperf serves http://")
DAYS_UNTIL_FOUND = 73
DAYS_UNTIL_WON = 155


@dataclass
class Installation:
    """A data folder, and what is run on it."""

    folder: Path
    environment: dict[str, str]

    @contextmanager
    def serving(self) -> Iterator[list[str]]:
        """Serve and work from the moment that it is said; what is said comes in a list."""
        launcher = subprocess.Popen(
            [sys.executable, "-m", "config.run"],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        said: list[str] = []

        def listen() -> None:
            while line := launcher.stdout.readline():
                said.append(line)

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            wait_until(lambda: launcher.poll() is not None or any(map(SERVES.match, said)), LONG)
            assert launcher.poll() is None, "".join(said)
            yield said
        finally:
            launcher.send_signal(signal.SIGINT)
            launcher.wait(120)
            listener.join()
            launcher.stdout.close()

    def replay(self, days: int) -> list[str]:
        """Replay some days at once, and return what was printed."""
        command = [sys.executable, "manage.py", "replay_demo", "--every", "0", "--days", str(days)]
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the installation's own server."""
        place = postgres.ensure(self.folder)
        try:
            with psycopg.connect(
                host=place.host, port=place.port, user=place.user, dbname=place.dbname
            ) as session:
                return session.execute(sql).fetchall()
        finally:
            postgres.release(self.folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def installation() -> Iterator[Installation]:
    """Run everything on a folder of its own; all of it has ended afterwards."""
    ours = ("MODELPERF_", "DJANGO_", "DATABASE_URL")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    with tempfile.TemporaryDirectory(prefix="mp-", dir=PLACE) as name:
        folder = Path(name) / "var"
        environment = {
            **inherited,
            "PORT": str(free_port()),
            "MODELPERF_DEMO": "1",
            "MODELPERF_DATA_DIR": str(folder),
            "MODELPERF_CHECK_SCHEDULE": EVERY_SECOND,
            "MODELPERF_FOLLOW_SCHEDULE": EVERY_SECOND,
        }
        yield Installation(folder, environment)
        wait_until(lambda: not running(Path(name)))


def test_make_run_and_a_replay_alone_lead_from_a_change_to_a_better_version(
    installation: Installation,
) -> None:
    with installation.serving() as said:
        found = installation.replay(DAYS_UNTIL_FOUND)
        assert any(line.startswith("  * Alert: ") for line in found)
        # The worker is to see the change before the replay goes on: how late it is decides on
        # what it trains.
        of_runs = "SELECT test_status FROM model_ab_tests WHERE training_run_id IS NOT NULL"
        wait_until(lambda: installation.rows(of_runs) == [("running",)], LONG)

        installation.replay(DAYS_UNTIL_WON)
        promoted = "SELECT model_version, activated_by FROM model_activations WHERE kind='promoted'"
        wait_until(lambda: installation.rows(promoted), LONG)
        assert installation.rows(promoted) == [(2, "system:retraining")]
        assert installation.rows(
            "SELECT r.training_status, r.trigger_type, a.state, a.resolution_action, t.decision"
            " FROM model_training_history r JOIN model_alerts a ON a.id = r.alert_id"
            " JOIN model_ab_tests t ON t.training_run_id = r.id"
        ) == [("completed", "drift_detected", "resolved", "retrained_model", "promote_b")]
    assert "Traceback" not in "".join(said)
