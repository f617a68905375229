"""How a command may end badly, as sentences that say what to set."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from modelperf.trainers.base import TrainingError, UnavailableError

_LAST_WORDS: Final = 200  # characters
_OF_SHORT_MEMORY: Final = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a command may use."""

    seconds: float
    memory_bytes: int
    output_bytes: int


class Report(Struct):
    """What a supervisor tells: how the command ended, and how many processes withstood.

    `code` is an exit status, or a signal as a negative number; None where it had to be ended.
    `errno` says why it could not be started.
    """

    code: int | None = None
    left: int = 0
    errno: int | None = None


def bad_end(reported: bytes, limits: Limits, put_out: str) -> TrainingError | None:
    """Return what was wrong with an end, None where it was a good one."""
    try:
        report = msgspec.json.decode(reported.split(b"\n")[0], type=Report)
    except msgspec.DecodeError:
        return TrainingError("What supervises the command was killed; so was the command.")
    if report.errno is not None:
        return not_started(report.errno)
    if report.left:
        return TrainingError(f"{report.left} processes of the command could not be killed.")
    if report.code is None:
        return UnavailableError("The command was ended from outside by a signal.")
    return _bad_code(report.code, limits, put_out)


def _bad_code(code: int, limits: Limits, put_out: str) -> TrainingError | None:
    if code < 0:
        return TrainingError(_killed(-code, limits))
    if code == 0:
        return None
    return TrainingError(f"The command ended with exit status {code}.{_last_words(put_out)}")


def _last_words(put_out: str) -> str:
    """Return the last line that a command put out: mostly it says why."""
    lines = [line.strip() for line in put_out.splitlines() if line.strip()]
    return f" The last it said: {lines[-1][:_LAST_WORDS]}" if lines else ""


def _killed(number: int, limits: Limits) -> str:
    known = {one.value: one.name for one in signal.Signals}
    said = f"The command was killed by signal {number} ({known.get(number, 'real-time')})."
    if number not in _OF_SHORT_MEMORY:
        return said
    return f"{said} Was memory short? memory_bytes is {limits.memory_bytes:,}."


def too_long(seconds: float) -> TrainingError:
    """Return what is said of a command that did not end in time."""
    return TrainingError(f"The command ran longer than {seconds:,g} s (timeout_seconds).")


def too_much(most: int) -> TrainingError:
    """Return what is said of a command that fills the disc."""
    return TrainingError(f"The command wrote more than {most:,} bytes (output_bytes).")


def not_started(number: int | None) -> TrainingError:
    """Return what is said of a command that the system refuses to start."""
    said = f"The command cannot be started: {os.strerror(number or errno.EIO)}."
    if number in {errno.ENOEXEC, errno.ENOENT}:
        said += " Does its first line name an interpreter that is there, such as #!/bin/sh?"
    return TrainingError(said)
