"""The database backend on the embedded server: there when asked, there again after a crash."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config import postgres
from config.embedded.base import DatabaseWrapper
from tests.config.clients import PLACE, running, server_pid, wait_until


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
        return connection.execute(query).fetchone()[0]


def test_first_connection_makes_the_database(wrapper: DatabaseWrapper) -> None:
    assert fetch(wrapper, "SELECT current_database()") == "modelperf"


def test_settings_are_those_measured(wrapper: DatabaseWrapper) -> None:
    expected = {
        "listen_addresses": "",
        "shared_buffers": "128MB",
        "max_connections": "50",
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
