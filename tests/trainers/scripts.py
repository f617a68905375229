"""Commands for tests: scripts that are really started, and what is left of them."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

from pytest_django import Settings

from modelperf.models import Machine
from modelperf.trainers import base
from modelperf.trainers.base import TrainedModel, TrainingRequest

START = datetime(2021, 1, 1, tzinfo=UTC)
GOOD = {
    "artefact": {"kind": "mean", "value": 1.5},
    "feature_names": ["hour_of_day"],
    "training_metrics": {"mae": 0.5},
    "validation_metrics": {"mae": 1},
    "training_samples": 48,
}
# Starts five processes that nothing asks to end: a child, one in a session of its own, a
# grandchild without parents, heirs who fork on and on, and itself. They ignore what can be
# ignored. Once all are there, `line` is written to by each, and held open.
FAMILY = """
    import os, signal, sys

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    line = os.open(sys.argv[2], os.O_WRONLY)
    reads, writes = os.pipe()

    def linger():
        signal.alarm(120)  # what a broken supervisor leaves ends by itself
        os.write(writes, b"x")
        signal.pause()

    def orphan():
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            linger()
        os._exit(0)

    def apart():
        os.setsid()
        linger()

    def heirs():
        os.write(writes, b"x")
        for _ in range(20_000):  # each lives only until the next one does
            if os.fork():
                os._exit(0)
        os._exit(0)

    for live in (linger, apart, orphan, heirs):
        if os.fork() == 0:
            live()
    missing = 4
    while missing:
        missing -= len(os.read(reads, missing))
    os.write(line, b"all are there\\n")
"""


class Told:
    """A watch that notes what it is told."""

    def __init__(self, wanted: Callable[[Told], bool] = lambda told: True) -> None:
        self.steps: list[tuple[float | None, str]] = []
        self._wanted = wanted

    def progress(self, percent: float | None, message: str) -> None:
        self.steps.append((percent, message))

    def is_wanted(self) -> bool:
        return self._wanted(self)


class Commands:
    """A folder of commands, and a folder in which they work."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.training = folder / "commands", folder / "training"
        self.folder.mkdir()
        settings.COMMAND_DIR, settings.TRAINING_DIR = self.folder.resolve(), self.training
        self.marker = f"marker-{uuid.uuid4()}"
        self.run_id = uuid.uuid4()

    def write(self, content: str, name: str = "train", shebang: str = sys.executable) -> None:
        """Store a command, by itself one in Python."""
        path = self.folder / name
        path.write_text(f"#!{shebang}\n{dedent(content)}")
        path.chmod(0o755)

    def train(
        self,
        content: str,
        *arguments: str,
        watch: Told | None = None,
        asked: dict[str, Any] | None = None,
        **limits: Any,
    ) -> TrainedModel:
        """Train by a command; its first argument is the marker."""
        self.write(content)
        document = {
            "kind": "command",
            "command": ["train", self.marker, *arguments],
            "timeout_seconds": 300,  # longer than any test
            **limits,
        }
        trained = base.find(document).train(self.request(**(asked or {})), watch or Told())
        assert isinstance(trained, TrainedModel)
        return trained

    def request(self, **changes: Any) -> TrainingRequest:
        """Return what is asked for."""
        asked = {
            "run_id": self.run_id,
            "machine": Machine(name="pump 7", metadata={"floor": 3}),
            "model_type": "baseline",
            "source": None,
            "data_start": START,
            "data_end": START + timedelta(days=2),
        }
        return TrainingRequest(**{**asked, **changes})

    def alive(self) -> list[int]:
        """Return the processes that have the marker among their arguments."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if self.marker.encode() in words:
                found.append(int(path.parent.name))
        return found

    def left(self) -> list[str]:
        """Return the files below the training folder."""
        return sorted(
            str(path.relative_to(self.training))
            for path in self.training.rglob("*")
            if path.parent != self.training
        )
