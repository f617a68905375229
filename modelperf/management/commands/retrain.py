"""`manage.py retrain`: ask for a training of one series, and wait for it where that is wanted."""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import Any, Final, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modelperf.management import training_runs
from modelperf.models import Machine, TrainingRun
from modelperf.services import training
from modelperf.services.errors import DomainError
from modelperf.services.training import Triggered
from modelperf.trainers import EXTERNAL

BY: Final = "command:retrain"
PATIENCE_SECONDS: Final = 10.0  # without anybody who takes the run, until that is said
NOBODY: Final = (
    "no worker has taken it yet. Start one with manage.py worker, or train it in another terminal"
    " with manage.py run_training."
)


class Command(BaseCommand):
    """Ask for a training."""

    help = (
        "Ask for a training of a machine's models of a type. Exits with 1 where a training is"
        " under way already, where it cannot be asked for, and with --wait also where the run"
        " failed, was cancelled, or was not over in time; 2 on wrong arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the series, the reason, and whether to wait."""
        parser.add_argument("--model-type", required=True, metavar="TYPE")
        parser.add_argument("--machine", type=uuid.UUID, required=True, metavar="ID")
        parser.add_argument("--reason", required=True, help="why: it is kept with the run")
        parser.add_argument("--wait", action="store_true", help="until the run is over")
        parser.add_argument(
            "--timeout", type=float, metavar="S", help="wait so many seconds at most; it goes on"
        )
        parser.add_argument(
            "--format",
            choices=["table", "json"],
            default="table",
            help="json: one object at the end, progress on standard error",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Trigger, wait, tell."""
        self._is_json = options["format"] == "json"
        answer = _trigger(_machine(options["machine"]), options["model_type"], options["reason"])
        if answer.training_job_id is None:
            self._end_busy(answer)
        run = TrainingRun.objects.select_related("machine").get(pk=answer.training_job_id)
        if not options["wait"]:
            self._tell(run, answer)
            return
        self._say(f"{training_runs.series_name(run)}: training {run.pk} asked for")
        run = self._watch(run, options["timeout"])
        self._tell(run, answer)
        if run.training_status != TrainingRun.Status.COMPLETED:
            sys.exit(1)

    def _end_busy(self, answer: Triggered) -> NoReturn:
        if not self._is_json:
            raise CommandError(answer.reason)
        self.stdout.write(json.dumps({"triggered": False, "detail": answer.reason}))
        sys.exit(1)

    def _watch(self, run: TrainingRun, timeout: float | None) -> TrainingRun:
        """Return a run once it is over, or as it stands when the time is up."""
        began = time.monotonic()
        last, is_told = "", False
        while run.training_status in TrainingRun.UNFINISHED:
            waited = time.monotonic() - began
            if timeout is not None and waited >= timeout:
                return run
            line = training_runs.progress(run)
            if line != last:
                self._say(f"{training_runs.series_name(run)}: {line}")
                last = line
            if not is_told and waited >= PATIENCE_SECONDS and _is_untouched(run):
                self._say(f"{training_runs.series_name(run)}: {NOBODY}")
                is_told = True
            time.sleep(training_runs.PAUSE_SECONDS)
            run = training_runs.seen(run)
        return run

    def _tell(self, run: TrainingRun, answer: Triggered) -> None:
        """Say what there is to say at the end."""
        if self._is_json:
            due = answer.estimated_completion
            told = {"triggered": True, **training_runs.document(run)}
            told["estimated_completion"] = due.isoformat() if due else None
            self.stdout.write(json.dumps(told))
            return
        line = f"{training_runs.series_name(run)}: {training_runs.outcome(run)}"
        if run.training_status in TrainingRun.UNFINISHED:
            line = f"{line.rstrip('.')}. It goes on as {run.pk}{_expected(answer)}"
        self._say(line)

    def _say(self, line: str) -> None:
        stream = self.stderr if self._is_json else self.stdout
        stream.write(line, lambda text: text)  # not in the colour of errors
        stream.flush()


def _machine(id: uuid.UUID) -> Machine:
    machine = Machine.objects.filter(pk=id).first()
    if machine is None:
        raise CommandError(f"There is no machine {id}.")
    return machine


def _trigger(machine: Machine, model_type: str, reason: str) -> Triggered:
    try:
        return training.trigger(machine=machine, model_type=model_type, reason=reason, by=BY)
    except DomainError as error:
        raise CommandError(error.detail) from error


def _is_untouched(run: TrainingRun) -> bool:
    """Whether a run waits that some worker should have taken by now."""
    is_waiting = run.training_status == TrainingRun.Status.PENDING and run.retry_at is None
    return is_waiting and run.attempt == 0 and run.trainer != EXTERNAL


def _expected(answer: Triggered) -> str:
    due = answer.estimated_completion
    if due is None:
        return "; no estimate, since no past run of the series was completed."
    return f", done by about {due:%Y-%m-%d %H:%M} UTC."
