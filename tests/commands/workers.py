"""Real workers on the tests' database: started, told to stop, and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from django.db import connection

from tests.config.clients import PROJECT, is_alive, wait_until

QUICK: Final = {
    "MODELPERF_TRAINING_LEASE_SECONDS": "2",
    "MODELPERF_RECOVERY_SCHEDULE": "* * * * * *",
    "MODELPERF_CHECK_SCHEDULE": "never",
    "MODELPERF_FOLLOW_SCHEDULE": "never",
    "MODELPERF_LOG_LEVEL": "WARNING",
}
_SET_UP: Final = """
import os, signal, sys
import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
django.setup()
from django.core.management import call_command
import tests.services.trainers
"""
_ONE: Final = _SET_UP + 'call_command("worker", *sys.argv[2:])'
# What is imported once is not imported for each: the child of a fork becomes a worker at once.
_MANY: Final = (
    _SET_UP
    + """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in iter(sys.stdin.readline, ""):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        call_command("worker", *sys.argv[2:])
        os._exit(0)
    print("worker", child, flush=True)
"""
)


def _started(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(connection.settings_dict["NAME"]), *arguments],
        cwd=PROJECT,
        env={**os.environ, **QUICK, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class Worker:
    """A worker that is started and, at the latest at the end of a test, killed."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = _started(_ONE, *arguments, **environment)

    def wait_until_it_works(self) -> None:
        assert "works" in self.process.stdout.readline()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Workers:
    """One worker at a time, of which the next is at work in no time."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.nursery = _started(_MANY, "--verbosity", "0", *arguments, **environment)
        self.pid = 0

    def start(self) -> None:
        self.nursery.stdin.write("\n")
        self.nursery.stdin.flush()
        self.pid = int(self.nursery.stdout.readline().removeprefix("worker "))

    def kill(self) -> None:
        if self.pid and is_alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(self.pid))

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(self.pid), seconds=60)

    def end(self) -> None:
        self.kill()
        self.nursery.kill()
        self.nursery.communicate()


def environment_of(folder: Path) -> dict[str, str]:
    """Return what lets a worker start the commands of a test."""
    (folder / "training").mkdir()
    return {
        "MODELPERF_COMMAND_DIR": str(folder / "commands"),
        "MODELPERF_TRAINING_DIR": str(folder / "training"),
    }
