"""Real processes that use an embedded server, and conditions to wait for."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from config.postgres_cluster import Cluster

PROJECT = Path(__file__).resolve().parents[2]

# Answers each line with the server's process id after a query, holding its lease until stdin ends.
CLIENT = """
import os
import sys
from pathlib import Path
import psycopg
from config import postgres
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
for line in sys.stdin:
    try:
        place = postgres.ensure(Path(sys.argv[1]))
        with psycopg.connect(
            host=place.host, port=place.port, user=place.user, dbname=place.dbname, autocommit=True
        ) as session:
            print(session.execute("SELECT pg_postmaster_start_time()::text").fetchone()[0])
    except postgres.PostgresError as error:
        print("REFUSED", " ".join(str(error).split()))
    sys.stdout.flush()
"""


class Client:
    """A process that connects whenever asked."""

    def __init__(
        self, folder: Path, *, become: int | None = None, path: Path = PROJECT, **env: str
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(folder), *([str(become)] if become else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{path}:{PROJECT}", **env},
        )

    def ask(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self, seconds: float = 70.0) -> str:
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        assert readable, f"no answer within {seconds} s"
        return self.process.stdout.readline().strip()

    def connect(self) -> str:
        self.ask()
        return self.answer()

    def leave(self) -> None:
        if self.process.stdout.closed:
            return
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.leave()


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.01)


def running(folder: Path) -> dict[int, str]:
    """Process ids and command lines of the folder's guards and server."""
    shown = subprocess.run(
        ["ps", "-wwaxo", "pid=,command="], capture_output=True, text=True, check=True
    )
    found = (line.split(maxsplit=1) for line in shown.stdout.splitlines())
    return {
        int(pid): command
        for pid, command in found
        if f"{folder}" in command and ("postgres_guard" in command or "/postgres -D" in command)
    }


def guards(folder: Path) -> list[int]:
    return [pid for pid, command in running(folder).items() if "postgres_guard" in command]


def kill_at_once(pids: Iterable[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def is_alive(pid: int) -> bool:
    shown = subprocess.run(
        ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip()[:1] not in {"", "Z"}


def server_pid(folder: Path) -> int | None:
    return Cluster(folder.resolve()).server_pid()
