"""`make run` as a process: serves, says where, and leaves nothing behind however it is stopped."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config import env, postgres, run
from tests import factories
from tests.config.clients import PROJECT, is_alive, running, wait_until
from tests.place import PLACE

Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One data directory for all launches: the first one fills it."""
    with tempfile.TemporaryDirectory(prefix="mp-", dir=PLACE) as name:
        yield Path(name) / "var"
        wait_until(lambda: not running(Path(name)))


@pytest.fixture
def launch(folder: Path) -> Iterator[Launch]:
    """Start the launcher without the demo; it is stopped at the end."""
    launchers: list[subprocess.Popen[str]] = []

    def launched(port: int | str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        ours = ("MODELPERF_", "DJANGO_", "DATABASE_URL")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        place = {"PORT": str(port), "MODELPERF_DATA_DIR": str(folder)}
        launcher = subprocess.Popen(
            [sys.executable, "-m", "config.run", "--empty", *arguments],
            cwd=PROJECT,
            env={**inherited, **place, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        launchers.append(launcher)
        return launcher

    yield launched
    for launcher in launchers:
        launcher.terminate()
        launcher.communicate(timeout=60)


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving_at(launcher: "subprocess.Popen[str]", seconds: float = 120.0) -> str:
    """The address that the launcher says, after whatever else is logged."""
    deadline = threading.Timer(seconds, launcher.kill)
    deadline.start()
    said = []
    try:
        for line in launcher.stdout:
            said.append(line)
            if found := re.fullmatch(r"modelperf serves (http://\S+) - Ctrl-C stops it\.\n", line):
                return found[1]
    finally:
        deadline.cancel()
    raise AssertionError(f"not served within {seconds} s: {''.join(said)}")


def readiness(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
        return int(answer.status)


def web_processes(port: int) -> list[str]:
    shown = subprocess.run(["ps", "-wwaxo", "command="], capture_output=True, text=True, check=True)
    return [line for line in shown.stdout.splitlines() if f":{port} " in line]


def children(launcher: "subprocess.Popen[str]", word: str) -> list[int]:
    """The processes that a launcher has started with a word in their command lines."""
    shown = subprocess.run(
        ["ps", "-wwaxo", "pid=,ppid=,command="], capture_output=True, text=True, check=True
    )
    rows = (line.split(maxsplit=2) for line in shown.stdout.splitlines())
    return [
        int(pid) for pid, parent, command in rows if int(parent) == launcher.pid and word in command
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_serves_until_told_to_stop_and_leaves_no_process(
    launch: Launch, folder: Path, port: int, number: int
) -> None:
    launcher = launch(port)
    assert serving_at(launcher) == f"http://127.0.0.1:{port}/"
    assert readiness(port) == 200
    assert web_processes(port)
    (worker,) = children(launcher, "manage.py worker")
    launcher.send_signal(number)
    said, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    assert "Traceback" not in said
    assert web_processes(port) == []
    assert not is_alive(worker)
    assert not running(folder)


def test_worker_that_dies_is_started_again_and_said_so(
    launch: Launch, folder: Path, port: int
) -> None:
    serving_at(launcher := launch(port))
    (worker,) = children(launcher, "manage.py worker")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: set(children(launcher, "manage.py worker")) - {worker})
    assert readiness(port) == 200
    launcher.terminate()
    said, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    assert "The worker ended with status -9; see above. It starts again in 5 s.\n" in said
    assert not running(folder)


def test_web_server_that_dies_ends_the_worker_too(launch: Launch, folder: Path, port: int) -> None:
    serving_at(launcher := launch(port))
    (worker,) = children(launcher, "manage.py worker")
    os.kill(*children(launcher, "gunicorn"), signal.SIGKILL)
    said, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert "modelperf: the web server ended with status -9; see above.\n" in said
    assert web_processes(port) == []
    assert not is_alive(worker)
    assert not running(folder)


def test_run_without_a_worker_starts_none(launch: Launch, port: int) -> None:
    serving_at(launcher := launch(port, "--no-worker"))
    assert len(children(launcher, "gunicorn")) == 1
    assert children(launcher, "manage.py worker") == []


def test_second_start_keeps_the_key(launch: Launch, folder: Path, port: int) -> None:
    serving_at(first := launch(port))
    first.terminate()
    first.communicate(timeout=60)
    key = folder / "secret_key"
    before = key.read_text()
    serving_at(launch(port))
    assert key.read_text() == before
    assert key.stat().st_mode & 0o777 == 0o600


def test_two_launchers_at_once_share_one_folder(launch: Launch, folder: Path) -> None:
    ports = [free_port(), free_port()]
    launchers = [launch(port) for port in ports]
    for launcher, port in zip(launchers, ports, strict=True):
        assert serving_at(launcher).endswith(f":{port}/")
    launchers[0].terminate()
    said, _ = launchers[0].communicate(timeout=60)
    assert "PostgreSQL goes on for other processes that use it.\n" in said
    assert readiness(ports[1]) == 200


def test_used_port_is_refused_in_one_line_with_the_remedy(launch: Launch, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said, _ = (launcher := launch(taken.getsockname()[1])).communicate(timeout=60)
    assert launcher.returncode == 1
    assert re.fullmatch(r"modelperf: cannot listen on .* choose .* `make run PORT=\d+`\.\n", said)


@pytest.mark.parametrize("port", ["eighty", "0", "70000"])
def test_port_that_is_none_is_refused_in_one_line(launch: Launch, port: str) -> None:
    said, _ = (launcher := launch(port)).communicate(timeout=60)
    assert launcher.returncode == 1
    assert said.startswith("modelperf: ")
    assert said.count("\n") == 1


def test_launcher_stopped_while_it_prepares_leaves_no_process(launch: Launch, folder: Path) -> None:
    launcher = launch(free_port())
    wait_until(lambda: running(folder), seconds=60)
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    assert not running(folder)


def test_setting_that_is_none_is_refused_without_a_traceback(launch: Launch, port: int) -> None:
    said, _ = (launcher := launch(port, MODELPERF_WEB_WORKERS="none")).communicate(timeout=60)
    assert launcher.returncode == 1
    assert "MODELPERF_WEB_WORKERS='none' is not a whole number." in said
    assert "Traceback" not in said


@pytest.fixture
def named_server(folder: Path) -> Iterator[str]:
    """The URL of a server that the launcher is not to know as embedded."""
    place = postgres.ensure(folder)
    yield f"postgres://{place.user}@/{place.host}/{place.dbname}"
    postgres.release(folder)


def test_named_server_is_used_and_none_is_started(
    launch: Launch, named_server: str, port: int, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    launcher = launch(port, DATABASE_URL=named_server, MODELPERF_DATA_DIR=str(own))
    serving_at(launcher)
    assert readiness(port) == 200
    launcher.terminate()
    launcher.communicate(timeout=60)
    assert sorted(path.name for path in own.iterdir()) == ["secret_key", "static"]


def test_named_server_that_does_not_answer_is_refused_without_a_traceback(
    launch: Launch, port: int
) -> None:
    url = f"postgres://nobody@127.0.0.1:{free_port()}/none"
    said, _ = (launcher := launch(port, DATABASE_URL=url)).communicate(timeout=60)
    assert launcher.returncode == 1
    assert re.match(r"modelperf: the database does not answer .*refused", said)
    assert "Traceback" not in said


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("filled", [False, True])
def test_demo_is_loaded_into_an_empty_database_only(
    monkeypatch: pytest.MonkeyPatch, filled: bool
) -> None:
    if filled:
        factories.MachineFactory.create()
    called: list[str] = []
    monkeypatch.setattr(run, "call_command", lambda name, **_: called.append(name))
    run._prepare(load_demo=True)
    assert called == ["migrate"] if filled else ["migrate", "load_demo"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment, of which nothing is set here, and which is as before at the end."""
    for name in ("MODELPERF_PUBLIC_URL", "MODELPERF_DEMO", *run.DEMO_SCHEDULES):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return os.environ


def test_demo_is_followed_every_ten_seconds_where_nothing_else_is_said(
    environment: dict[str, str],
) -> None:
    environment["MODELPERF_FOLLOW_SCHEDULE"] = "never"
    run._set_defaults("127.0.0.1", 8000, is_demo=True)
    assert environment["MODELPERF_CHECK_SCHEDULE"] == "* * * * * */10"
    assert environment["MODELPERF_FOLLOW_SCHEDULE"] == "never"


@pytest.mark.parametrize(("is_demo", "demo"), [(False, "1"), (True, "0")])
def test_other_installations_keep_their_schedules(
    environment: dict[str, str], is_demo: bool, demo: str
) -> None:
    environment["MODELPERF_DEMO"] = demo
    run._set_defaults("127.0.0.1", 8000, is_demo=is_demo)
    assert not set(run.DEMO_SCHEDULES) & set(environment)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8123"),
        ("0.0.0.0", ""),
        ("::", ""),
        ("::1", "http://[::1]:8123"),
        ("Models.Example.ORG", "http://models.example.org:8123"),
    ],
)
def test_reports_reach_the_address_that_is_served_where_there_is_one(
    environment: dict[str, str], host: str, url: str
) -> None:
    run._set_defaults(host, 8123, is_demo=False)
    assert env.address("MODELPERF_PUBLIC_URL") == url
    environment["MODELPERF_PUBLIC_URL"] = "https://models.example.org"
    run._set_defaults(host, 8123, is_demo=False)
    assert env.address("MODELPERF_PUBLIC_URL") == "https://models.example.org"
