"""The database backend on the embedded server: there when asked, there again after a crash."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config import postgres
from config.embedded.base import DatabaseWrapper
from tests.config.clients import kill_at_once, running, server_pid, wait_until
from tests.place import PLACE


@pytest.fixture
def wrapper() -> Iterator[DatabaseWrapper]:
    with tempfile.TemporaryDirectory(prefix="mp-", dir=PLACE) as name:
        yield wrapper_of(Path(name), "modelperf")
        postgres.release(Path(name))
        wait_until(lambda: not running(Path(name)))


def wrapper_of(folder: Path, database: str) -> DatabaseWrapper:
    settings = {"NAME": database, "DATA_DIR": folder, "OPTIONS": {}, "TIME_ZONE": None}
    access = {"USER": "", "PASSWORD": "", "HOST": "", "PORT": "", "CONN_HEALTH_CHECKS": True}
    return DatabaseWrapper({**settings, **access})


def fetch(wrapper: DatabaseWrapper, query: str) -> object:
    with wrapper.get_new_connection(wrapper.get_connection_params()) as connection:
        found = connection.execute(query)
        return found.fetchone()[0] if found.description else None


def test_first_connection_makes_the_database(wrapper: DatabaseWrapper) -> None:
    assert fetch(wrapper, "SELECT current_database()") == "modelperf"


def test_settings_are_those_measured(wrapper: DatabaseWrapper) -> None:
    expected = {
        "listen_addresses": "",
        "shared_buffers": "128MB",
        "max_connections": "100",
        "work_mem": "16MB",
        "jit": "off",
        "fsync": "on",
        "synchronous_commit": "on",
        "TimeZone": "UTC",
    }
    assert {name: fetch(wrapper, f"SHOW {name}") for name in expected} == expected


def test_killed_server_is_not_noticed_by_the_next_connections(wrapper: DatabaseWrapper) -> None:
    folder = wrapper.settings_dict["DATA_DIR"]
    for _ in range(5):
        fetch(wrapper, "SELECT 1")
        os.kill(server_pid(folder), signal.SIGKILL)  # may still die while we connect
        assert fetch(wrapper, "SELECT 1") == 1


def test_missing_database_is_not_waited_for(wrapper: DatabaseWrapper) -> None:
    missing = wrapper_of(wrapper.settings_dict["DATA_DIR"], "missing")
    with pytest.raises(psycopg.OperationalError, match='"missing" does not exist'):
        fetch(missing, "SELECT 1")


def test_shell_speaks_to_the_embedded_server(wrapper: DatabaseWrapper) -> None:
    fetch(wrapper, "CREATE TABLE here (x int)")
    command, environment = wrapper.client.settings_to_cmd_args_env(
        wrapper.settings_dict, ["--tuples-only", "--command", "SELECT count(*) FROM here"]
    )
    shown = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "0"


def test_acknowledged_rows_survive_a_kill_under_load(wrapper: DatabaseWrapper) -> None:
    """Writers that repeat what was not acknowledged lose nothing and store nothing twice."""
    folder = wrapper.settings_dict["DATA_DIR"]
    fetch(wrapper, "CREATE TABLE rows (writer int, number int, PRIMARY KEY (writer, number))")
    writers = [Writer(folder, number) for number in range(4)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(writer.acknowledged > 50 for writer in writers))
    killed = time.monotonic()
    kill_at_once([server_pid(folder)])
    before = [writer.acknowledged for writer in writers]
    wait_until(lambda: all(w.acknowledged > b for w, b in zip(writers, before, strict=True)))
    recovered = time.monotonic() - killed
    for writer in writers:
        writer.stop()
    counts = [
        fetch(wrapper, f"SELECT count(*) FROM rows WHERE writer = {writer.number}")
        for writer in writers
    ]
    assert counts == [writer.acknowledged for writer in writers]
    assert recovered < 10


class Writer(threading.Thread):
    """Inserts ascending numbers, one transaction each, repeating what failed."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.number = folder, number
        self.acknowledged = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            wrapper = wrapper_of(self.folder, "modelperf")
            connection = wrapper.get_new_connection(wrapper.get_connection_params())
            with contextlib.suppress(psycopg.OperationalError), contextlib.closing(connection):
                self.insert_on(connection)

    def insert_on(self, connection: "psycopg.Connection[Any]") -> None:
        connection.autocommit = True
        while not self.stopping.is_set():
            connection.execute(
                "INSERT INTO rows VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [self.number, self.acknowledged],
            )
            self.acknowledged += 1

    def stop(self) -> None:
        self.stopping.set()
        self.join(30)
        assert not self.is_alive()
