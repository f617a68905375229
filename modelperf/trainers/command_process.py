"""A command at work: started under its supervisor, listened to, and ended where it must be."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from modelperf.trainers import command_supervisor
from modelperf.trainers.base import NoLongerWantedError, TrainingError, Watch
from modelperf.trainers.command_ends import Limits, bad_end, not_started, too_long, too_much
from modelperf.trainers.command_folders import Folders, written
from modelperf.trainers.command_output import Output
from modelperf.trainers.command_supervisor import kill, processes

_TICK_SECONDS: Final = 0.5  # how often it is looked whether it shall go on
_PATIENCE_SECONDS: Final = 15.0  # how long a supervisor may take to end what it supervises
_CHUNK: Final = 64 * 1024
_READING_PAUSE: Final = 9  # times as long as a look at the folders took until the next one


def run(
    command: Sequence[str],
    *,
    folders: Folders,
    environment: Mapping[str, str],
    limits: Limits,
    watch: Watch,
) -> str:
    """Run a command in its folder until all of it has ended, and return what it put out.

    Raises
    ------
    TrainingError
        It did not end well; the sentence says how, and `log` is what it put out.
    """
    at_work = _AtWork(folders=folders, limits=limits, watch=watch)
    try:
        at_work.start(command, environment)
        at_work.follow()
    finally:
        at_work.end()
    at_work.output.tell(watch)
    problem = at_work.problem()
    if problem is not None:
        problem.log = at_work.output.text()
        raise problem
    return at_work.output.text()


class _AtWork:
    """A command and its supervisor, from start to end."""

    def __init__(self, *, folders: Folders, limits: Limits, watch: Watch) -> None:
        self.output = Output()
        self._folders, self._limits, self._watch = folders, limits, watch
        self._there_before = written(folders.all, most=sys.maxsize)
        self._look_again = 0.0
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._report, self._reported, self._put_out = -1, b"", -1
        self._deadline = float("inf")
        self._why: TrainingError | None = None  # why it is ended before it ends by itself

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the command under its supervisor."""
        self._report, report = os.pipe()
        place = (str(self._folders.work), str(self._folders.artefacts))
        # One byte more than allowed, so that too much is told from just enough.
        limits = (str(self._limits.memory_bytes), str(self._limits.output_bytes + 1))
        supervise = (sys.executable, "-I", "-S", command_supervisor.__file__)
        try:
            self._supervisor = subprocess.Popen(  # noqa: S603 - a program of the folder allowed
                (*supervise, str(report), *limits, *place, *command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd=self._folders.work,
                env=dict(environment),
                pass_fds=(report,),
                start_new_session=True,
            )
        except OSError as error:
            raise not_started(error.errno) from error
        finally:
            os.close(report)
        if self._supervisor.stdout is not None:
            self._put_out = self._supervisor.stdout.fileno()
        self._deadline = time.monotonic() + self._limits.seconds

    def follow(self) -> None:
        """Listen until the supervisor has ended; it ends after everything that it supervises."""
        over = float("inf")
        with selectors.DefaultSelector() as selector:
            for pipe in (self._report, self._put_out):
                os.set_blocking(pipe, False)
                selector.register(pipe, selectors.EVENT_READ)
            while self._report in selector.get_map():
                for key, _ in selector.select(self._until_next_look()):
                    if self._take(key.fd) is False:
                        selector.unregister(key.fd)
                now = time.monotonic()
                if self._why is None:
                    self._why = self._reason_to_end(now)
                    if self._why is not None:
                        over = now + _PATIENCE_SECONDS
                        self._cut_lifeline()
                elif now > over:
                    return
        while self._take(self._put_out):  # what is left in the pipe; nobody writes any more
            continue

    def end(self) -> None:
        """See to it that neither the supervisor nor what it supervises is left."""
        if self._supervisor is not None:
            self._cut_lifeline()
            try:
                self._supervisor.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:  # it was stopped, or cannot end what it supervises
                self._supervisor.kill()
                self._supervisor.wait()
            if self._supervisor.stdout is not None:
                self._supervisor.stdout.close()
            if not self._reported.endswith(b"\n"):
                _end_all_of(self._folders.work)
        if self._report >= 0:
            os.close(self._report)

    def problem(self) -> TrainingError | None:
        """Return why no result is to be expected, None where it ended well."""
        most = self._limits.output_bytes
        if self._why is None and self._written(most) > most:
            self._why = too_much(most)
        return self._why or bad_end(self._reported, self._limits, self.output.text())

    def _cut_lifeline(self) -> None:
        if self._supervisor is not None and self._supervisor.stdin is not None:
            self._supervisor.stdin.close()

    def _take(self, pipe: int) -> bool | None:
        """Read what a pipe holds; return whether more may come, None where there is none yet."""
        try:
            chunk = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return None
        if pipe == self._report:
            self._reported += chunk
        else:
            self.output.add(chunk)
        return bool(chunk)

    def _until_next_look(self) -> float:
        left = max(0.0, min(self._look_again, self._deadline) - time.monotonic())
        return _TICK_SECONDS if self._why is not None else min(_TICK_SECONDS, left)

    def _reason_to_end(self, now: float) -> TrainingError | None:
        if now >= self._deadline:
            return too_long(self._limits.seconds)
        if self.output.size > self._limits.output_bytes:
            return too_much(self._limits.output_bytes)
        if now < self._look_again:
            return None
        if not self._watch.is_wanted():
            return NoLongerWantedError("The run is no longer wanted; the command was ended.")
        self.output.tell(self._watch)
        most = self._limits.output_bytes
        is_too_much = self._written(most) > most
        took = time.monotonic() - now
        self._look_again = now + max(_TICK_SECONDS, took * _READING_PAUSE)
        return too_much(most) if is_too_much else None

    def _written(self, most: int) -> int:
        """Return how much was put out and written to the folders; where it is too much, so far."""
        enough = most + self._there_before
        return self.output.size + written(self._folders.all, most=enough) - self._there_before


def _end_all_of(folder: Path) -> None:
    """Kill what a killed supervisor left: every process whose HOME is the folder of the attempt."""
    mark = b"HOME=" + os.fsencode(folder)
    over = time.monotonic() + _PATIENCE_SECONDS
    while (found := _with_variable(mark)) and time.monotonic() < over:
        for process in found:
            kill(process)
        time.sleep(0.002)


def _with_variable(mark: bytes) -> list[int]:
    found = []
    for process in processes():
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            content = (Path("/proc") / str(process) / "environ").read_bytes()
            if mark in content.split(b"\0"):
                found.append(process)
    return found


def environment_for(folder: Path, passed: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a command: little, and nothing that is secret."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        **passed,
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
