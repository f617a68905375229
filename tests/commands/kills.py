"""A worker that is killed at any moment of a run, and what becomes of the runs."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from django.utils import timezone

from modelperf.models import ModelVersion, TrainingRun
from modelperf.services import training
from tests.commands.workers import Workers
from tests.config.clients import wait_until
from tests.factories import MachineFactory, PolicyFactory
from tests.trainers.scripts import Commands

LONGEST_MOMENT_SECONDS: Final = 1.2  # a run takes about half of it
TERMINAL_SECONDS: Final = 60.0
MOST_UNFINISHED: Final = 6  # what is measured is how soon runs go on, not a queue
# Leaves a child behind that nothing asks to end, and tells of its end in a file.
STEPS: Final = """
    import json, os, sys, time
    from pathlib import Path

    result, ended = sys.argv[2:4]
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    for step in range(1, 11):
        time.sleep(0.02)
        print("step", step, flush=True)
    found = {
        "artefact": {"mean": 1.0},
        "feature_names": [],
        "training_metrics": {"rmse": 1.0},
        "validation_metrics": {"rmse": 2.0},
        "training_samples": 10,
    }
    Path(result).write_text(json.dumps(found))
    with open(ended, "a") as stream:
        stream.write(sys.argv[4] + chr(10))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The runs, when the worker was started again after each, and which commands had ended."""

    runs: tuple[TrainingRun, ...]
    restarted: dict[UUID, datetime]
    ended: tuple[str, ...]

    @property
    def completed(self) -> set[str]:
        return {str(run.pk) for run in self.runs if run.training_status == "completed"}

    @property
    def tried_again(self) -> int:
        return sum(run.attempt > 1 for run in self.runs)

    @property
    def longest(self) -> timedelta:
        """How long after the restart the last of them was over."""
        return max(run.training_end - self.restarted[run.pk] for run in self.runs)

    def problems(self) -> list[str]:
        """Return what must not be."""
        found = []
        for run in self.runs:
            died = run.error_message.startswith("The worker that trained it died")
            if run.training_status != "completed" and not died:
                found.append(f"{run.pk} is {run.training_status}: {run.error_message}")
            if run.lease_id is not None:
                found.append(f"{run.pk} is over and leased")
        registered = Counter(ModelVersion.objects.values_list("metadata__training_run", flat=True))
        if registered != Counter(self.completed):
            found.append(f"versions {registered}, completed runs {self.completed}")
        if not self.completed <= set(self.ended):
            found.append("a version was registered that no command had trained")
        if self.longest.total_seconds() > TERMINAL_SECONDS:
            found.append(f"a run took {self.longest} after the restart")
        return found


def killed(workers: Workers, commands: Commands, place: Path, *, kills: int, seed: int) -> Outcome:
    """Kill the worker at a random moment of each of some runs, and start the next at once."""
    ended, moments = place / "ended", random.Random(seed)
    commands.write(STEPS)
    trainer = {
        "kind": "command",
        "command": ["train", commands.marker, "{result}", str(ended), "{run_id}"],
        "timeout_seconds": 300,
    }
    PolicyFactory.create(trainer=trainer, training_retries=3)
    restarted: dict[UUID, datetime] = {}
    workers.start()
    for _ in range(kills):
        wait_until(lambda: TrainingRun.objects.unfinished().count() < MOST_UNFINISHED)
        run = _asked_for()
        over = timezone.now() + timedelta(seconds=moments.uniform(0, LONGEST_MOMENT_SECONDS))
        wait_until(lambda over=over: timezone.now() >= over)
        workers.kill()
        workers.start()
        restarted[run] = timezone.now()
    wait_until(lambda: not TrainingRun.objects.unfinished().exists(), seconds=TERMINAL_SECONDS)
    workers.stop()
    wait_until(lambda: not commands.alive())
    runs = tuple(TrainingRun.objects.order_by("created_at"))
    return Outcome(runs=runs, restarted=restarted, ended=tuple(ended.read_text().split()))


def _asked_for() -> UUID:
    answer = training.trigger(
        machine=MachineFactory.create(), model_type="baseline", reason="the year is over", by="t"
    )
    assert answer.training_job_id is not None
    return answer.training_job_id
