"""The `command` trainer: a program of one's own on this machine, started without a shell."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from django.conf import settings
from msgspec import Meta

from modelperf.trainers import command_folders, command_input, command_process, command_result
from modelperf.trainers.base import (
    TrainedModel,
    Trainer,
    TrainingError,
    TrainingRequest,
    Watch,
    register,
)
from modelperf.trainers.command_ends import Limits
from modelperf.trainers.sources import PLACEHOLDERS as OF_THE_SERIES
from modelperf.trainers.sources import Asked, filled, refuse_unknown_placeholders

PLACEHOLDERS: Final = ("input", "result", "artefacts", "run_id", *OF_THE_SERIES)
LONGEST_SECONDS: Final = 7 * 86400.0
_MIB: Final = 1024**2
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS: Final = re.compile(r"DATABASE_URL|PG[A-Z]+|MODELPERF_.*")
_SET_BY_US: Final = ("HOME", "TMPDIR")

Words = Annotated[tuple[str, ...], Meta(min_length=1, max_length=1000)]
Seconds = Annotated[float, Meta(ge=1, le=LONGEST_SECONDS)]
Memory = Annotated[int, Meta(ge=32 * _MIB, le=2**50)]
Size = Annotated[int, Meta(ge=1, le=2**50)]


@register("command")
class Command(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A program below MODELPERF_COMMAND_DIR and its arguments, which may hold placeholders.

    `memory_bytes` limits each process of it, `output_bytes` what it puts out and writes to its
    folders together. `environment` names variables that are passed on.
    """

    command: Words
    timeout_seconds: Seconds = 3600.0
    memory_bytes: Memory = 2048 * _MIB
    output_bytes: Size = 256 * _MIB
    environment: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse what may not be started, and what it may not be given."""
        if platform.system() != "Linux":
            raise TrainingError("The trainer 'command' needs Linux, which ends all it starts.")
        self._program()
        for argument in self.command[1:]:
            refuse_unknown_placeholders(argument, PLACEHOLDERS, of="trainer")
            _refuse_what_is_no_argument(argument)
        self._passed()

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        """Start the command, wait for its end and read its result."""
        with command_folders.opened(run_id=request.run_id, attempt=request.attempt) as folders:
            result = folders.work / "result.json"
            places = {
                "input": str(command_input.write(request, folders.work, watch)),
                "result": str(result),
                "artefacts": str(folders.artefacts),
            }
            log = command_process.run(
                (str(self._program()), *self._arguments(request, places)),
                folders=folders,
                environment=command_process.environment_for(folders.work, self._passed()),
                limits=Limits(
                    seconds=self.timeout_seconds,
                    memory_bytes=self.memory_bytes,
                    output_bytes=self.output_bytes,
                ),
                watch=watch,
            )
            try:
                return command_result.read(result, hyperparameters=request.hyperparameters, log=log)
            except TrainingError as error:
                error.log = log
                raise

    def _program(self) -> Path:
        """Return the program, links followed."""
        folder, name = _folder(), self.command[0]
        _refuse_what_is_no_argument(name)
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise TrainingError(f"The trainer's command {name!r} is not in MODELPERF_COMMAND_DIR.")
        if not path.is_file():
            msg = f"The trainer's command {name!r} is no file in MODELPERF_COMMAND_DIR."
            raise TrainingError(msg)
        if not os.access(path, os.X_OK):
            raise TrainingError(f"The trainer's command {name!r} is not executable: chmod +x.")
        return path

    def _arguments(self, request: TrainingRequest, places: dict[str, str]) -> list[str]:
        asked = Asked(
            machine=request.machine,
            model_type=request.model_type,
            start=request.data_start,
            end=request.data_end,
        )
        of_the_series = {name: _text(value) for name, value in asked.values.items()}
        texts = {**places, "run_id": str(request.run_id), **of_the_series}
        return [_filled(argument, texts) for argument in self.command[1:]]

    def _passed(self) -> dict[str, str]:
        """Return the variables that are passed on."""
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise TrainingError(f"The trainer's environment names no variable: {name!r}.")
            if _OURS.fullmatch(name) or name in _SET_BY_US:
                raise TrainingError(f"The trainer's environment may not hold {name}.")
            if name not in os.environ:
                raise TrainingError(
                    f"The trainer's environment names {name}, which is not set here. Set it for"
                    " the web server and the worker."
                )
        return {name: os.environ[name] for name in self.environment}


def _folder() -> Path:
    folder: Path | None = settings.COMMAND_DIR
    if folder is None:
        raise TrainingError(
            "Trainers of the kind command are off. Set MODELPERF_COMMAND_DIR to the folder of the"
            " programs they may start."
        )
    if settings.TRAINING_DIR.resolve().is_relative_to(folder):
        raise TrainingError(
            "MODELPERF_TRAINING_DIR lies in MODELPERF_COMMAND_DIR, so that a command could write"
            " another one. Keep them apart."
        )
    return folder


def _refuse_what_is_no_argument(text: str) -> None:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise TrainingError("The trainer's command has a character that no argument can hold.")


def _filled(template: str, texts: dict[str, str]) -> str:
    """Return an argument with its placeholders replaced; a name does not become an option."""
    argument = filled(template, texts)
    if argument.startswith("-") and not template.startswith("-"):
        raise TrainingError(
            f"The trainer's argument {template!r} would become the option {argument!r}. Write it"
            f" as --name={template}."
        )
    return argument


def _text(value: object) -> str:
    return f"{value.astimezone(UTC):%FT%TZ}" if isinstance(value, datetime) else str(value)
