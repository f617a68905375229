"""Runs one command and leaves no process of it behind.

`command_process` starts this file as a script of its own, isolated, so it knows the standard
library only. Its standard input is a lifeline: nothing is sent on it, and once it closes, because
the command shall end or because the worker was killed, everything is killed and the folders of
the attempt are removed. What became of the command is told on a pipe, after all of it is dead.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

LIFELINE: Final = 0
_SET_PARENT_DEATH_SIGNAL: Final = 1  # linux/prctl.h
_SET_CHILD_SUBREAPER: Final = 36
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PATIENCE_SECONDS: Final = 5.0  # what was killed is gone in milliseconds, or belongs to another
_CANNOT_START: Final = 127


def main(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name, and tell on a pipe what became of it."""
    report, memory, output, *rest = arguments
    folders, command = rest[:2], rest[2:]
    told = _Report(int(report))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):  # orphans become children of this process
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    woken = _woken_by_signals()

    def become() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        _become(command, memory=int(memory), output=int(output))

    status = _wait(_start(become, told), woken)
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    left = end_descendants()
    if status is None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    told.end(status, left)


class _Report:
    """The pipe on which it is told what became of the command; its first line counts."""

    def __init__(self, pipe: int) -> None:
        os.set_inheritable(pipe, False)
        self._pipe = pipe

    def not_started(self, error: OSError) -> None:
        self._tell({"errno": error.errno or errno.EIO})

    def end(self, status: int | None, left: int) -> None:
        code = None if status is None else os.waitstatus_to_exitcode(status)
        self._tell({"code": code, "left": left})

    def _tell(self, what: dict[str, int | None]) -> None:
        with suppress(BrokenPipeError):
            os.write(self._pipe, json.dumps(what).encode() + b"\n")


def _woken_by_signals() -> int:
    """Return a pipe that has a byte for every signal that came, the end of a child included."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    os.set_blocking(reads, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_ENDING):
        signal.signal(number, lambda number, frame: None)
    return reads


def _start(become: Callable[[], None], told: _Report) -> int:
    """Return the process of the command."""
    child = os.fork()
    if child:
        return child
    try:
        become()
    except OSError as error:
        told.not_started(error)
    finally:
        os._exit(_CANNOT_START)


def _become(command: Sequence[str], *, memory: int, output: int) -> None:
    """Become the command: a session of its own, within the limits."""
    os.setsid()
    with suppress(OSError):  # where memory runs short it goes first, not the worker
        Path("/proc/self/oom_score_adj").write_text("500")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that is inherited
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), LIFELINE)
    limits = ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, output))
    for kind, most in (*limits, (resource.RLIMIT_AS, memory)):
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
    os.execv(command[0], list(command))  # noqa: S606 - no shell is the point


def _wait(child: int, woken: int) -> int | None:
    """Return how the command ended, None where it shall be ended."""
    poll = select.poll()
    poll.register(LIFELINE, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if LIFELINE in ready:
            return None
        if not set(_ENDING).isdisjoint(os.read(woken, 4096)):
            return None
        for process, status in _reaped():
            if process == child:
                return status


def _reaped() -> Iterator[tuple[int, int]]:
    """Yield children that have ended, and how."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found


def end_descendants() -> int:
    """Kill every descendant of this process; return how many withstood.

    A group is killed at once, so none of it can fork in between; what has left its group is
    found by its parents. Orphans are children of this process: without children, none is left.
    """
    over = time.monotonic() + _PATIENCE_SECONDS
    while _has_children():
        found = descendants(os.getpid())
        if time.monotonic() > over:
            return len(found)
        for process, group in found:
            if group != os.getpgrp():  # one that has only just been forked is still in this one
                kill(-group)
            kill(process)
        time.sleep(0.002)
    return 0


def _has_children() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return False
    return True


def descendants(ancestor: int) -> list[tuple[int, int]]:
    """Return the processes that come of one, each with its group."""
    children: dict[int, list[tuple[int, int]]] = {}
    for process in processes():
        with suppress(OSError):  # it has ended meanwhile
            line = (Path("/proc") / str(process) / "stat").read_bytes()
            # The second field, the name, is in brackets and may hold anything.
            _, parent, group = line.rpartition(b")")[2].split()[:3]
            children.setdefault(int(parent), []).append((process, int(group)))
    found = list(children.get(ancestor, ()))
    for process, _ in found:  # grows while it is walked
        found.extend(children.get(process, ()))
    return found


def processes() -> list[int]:
    """Return the processes there are."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def kill(process: int) -> None:
    """Kill a process, or a group where the number is negative."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
