"""`manage.py run_training`: train the pending runs in the foreground, without a worker."""

from __future__ import annotations

import json
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modelperf.management import training_runs
from modelperf.models import Machine, TrainingRun
from modelperf.services import training, training_leases

BY: Final = "command:run_training"
_INTERRUPTED: Final = 130  # as shells call what Ctrl-C has ended
_WORDS: Final = {
    TrainingRun.Status.COMPLETED: "completed",
    TrainingRun.Status.FAILED: "failed",
    TrainingRun.Status.CANCELLED: "cancelled",
    TrainingRun.Status.RUNNING: "handed over",
    TrainingRun.Status.PENDING: "to be tried again",
}


class Command(BaseCommand):
    """Train what waits for it, once."""

    help = (
        "Train the pending runs in the foreground, one pass, oldest first; runs whose worker died"
        " go on or fail before. Exits with 1 where one failed. A worker does the same all the time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the machine and the form of the output."""
        parser.add_argument("--machine", type=uuid.UUID, metavar="ID", help="only runs of this one")
        parser.add_argument(
            "--format",
            choices=["table", "json"],
            default="table",
            help="json: one object at the end, progress on standard error",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Train and tell what became of each run."""
        machine = self._machine(options["machine"])
        self._is_json = options["format"] == "json"
        recovered = training_leases.recover(by=BY)
        for run in recovered:
            name, outcome = training_runs.series_name(run), training_runs.outcome(run)
            self._say(f"{name}: nobody was heard of, {outcome}")
        try:
            with _terminated_as_interrupted(), ExitStack() as self._watched:
                runs = training.run_pending(by=BY, machine=machine, progress=self._tell)
        except KeyboardInterrupt:
            said = "Stopped. What was being trained waits to be tried again."
            raise CommandError(said, returncode=_INTERRUPTED) from None
        if self._is_json:
            self.stdout.write(json.dumps(_document(recovered, runs)))
        failed = [run for run in runs if run.training_status == TrainingRun.Status.FAILED]
        if failed:
            raise CommandError(f"{len(failed)} of {len(runs)} training runs failed.")
        if not self._is_json:
            self.stdout.write(_sentence(runs))

    def _machine(self, id: uuid.UUID | None) -> Machine | None:
        if id is None:
            return None
        machine = Machine.objects.filter(pk=id).first()
        if machine is None:
            raise CommandError("Machine not found")
        return machine

    def _tell(self, run: TrainingRun) -> None:
        """Say that a run begins, how far it is, and what has become of it."""
        self._watched.close()
        name = training_runs.series_name(run)
        if run.training_status == TrainingRun.Status.RUNNING and run.lease_id is not None:
            self._say(f"{name}: training")
            self._watched.enter_context(training_runs.told(run, self._say))
        else:
            self._say(f"{name}: {training_runs.outcome(run)}")

    def _say(self, line: str) -> None:
        stream = self.stderr if self._is_json else self.stdout
        stream.write(line, lambda text: text)  # not in the colour of errors
        stream.flush()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, also where a script has that ignored.

    Other threads than the first hear no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _document(recovered: Sequence[TrainingRun], runs: Sequence[TrainingRun]) -> dict[str, Any]:
    failed = sum(run.training_status == TrainingRun.Status.FAILED for run in runs)
    return {
        "recovered": [training_runs.document(run) for run in recovered],
        "trained": [training_runs.document(run) for run in runs],
        "n_failed": failed,
    }


def _sentence(runs: Sequence[TrainingRun]) -> str:
    if not runs:
        return "Nothing to train."
    counts = Counter(_WORDS[TrainingRun.Status(run.training_status)] for run in runs)
    told = ", ".join(f"{n} {word}" for word, n in counts.items())
    if len(counts) > 1:
        return f"{len(runs)} training runs: {told}."
    counted = "1 training run" if len(runs) == 1 else f"{len(runs)} training runs"
    return f"{counted} {next(iter(counts))}."
