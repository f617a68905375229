"""`manage.py run_training`: train the pending runs in the foreground."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modelperf.models import Machine, TrainingRun
from modelperf.services import training

BY = "command:run_training"


class Command(BaseCommand):
    """Train what waits for it."""

    help = "Train pending runs in the foreground. Exits with 1 where one failed."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the machine."""
        parser.add_argument("--machine", type=uuid.UUID, metavar="ID", help="only runs of this one")

    def handle(self, *args: Any, **options: Any) -> None:
        """Train and tell what became of each run."""
        machine = self._machine(options["machine"])
        runs = training.run_pending(by=BY, machine=machine, progress=self._tell)
        failed = [run for run in runs if run.training_status == TrainingRun.Status.FAILED]
        if failed:
            raise CommandError(f"{len(failed)} of {len(runs)} training runs failed.")
        counted = "1 training run" if len(runs) == 1 else f"{len(runs)} training runs"
        self.stdout.write(f"{counted} completed." if runs else "Nothing to train.")

    def _machine(self, id: uuid.UUID | None) -> Machine | None:
        if id is None:
            return None
        machine = Machine.objects.filter(pk=id).first()
        if machine is None:
            raise CommandError("Machine not found")
        return machine

    def _tell(self, run: TrainingRun) -> None:
        name = f"{run.machine.name} · {run.model_type}"
        if run.training_status == TrainingRun.Status.RUNNING:
            self.stdout.write(f"{name}: training")
        elif run.training_status == TrainingRun.Status.COMPLETED:
            self.stdout.write(
                f"{name}: completed version {run.model_version} on {run.training_samples:,}"
                f" readings in {run.training_duration_seconds:.1f} s"
            )
        else:
            self.stdout.write(f"{name}: {run.training_status}: {run.error_message}")
        self.stdout.flush()
