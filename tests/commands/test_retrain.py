"""`manage.py retrain`: what it asks for, what it says while it waits, and how it ends."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from threading import Event
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from modelperf.management.commands import retrain
from modelperf.models import Machine, TrainingRun
from modelperf.services import training, training_work
from modelperf.trainers import TrainedModel, Trainer, TrainingRequest, Watch
from modelperf.trainers.base import register
from tests.factories import MachineFactory, ModelVersionFactory, PolicyFactory, TrainingRunFactory

WORKER = "worker:tests"


def meter(**policy: Any) -> Machine:
    """Return a machine whose models are trained on a demo meter."""
    machine = MachineFactory.create(name="pump 7")
    source = {"kind": "demo", "meter": "il-gas-hdd-only"}
    PolicyFactory.create(machine=machine, **{"training_source": source} | policy)
    return machine


@register("tests-at-once")
class AtOnce(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Is done at once."""

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        return TrainedModel(
            artefact={"form": "tests"},
            feature_names=("temperature",),
            hyperparameters={},
            training_metrics={"r_squared": 0.9},
            validation_metrics={"r_squared": 0.8},
            training_samples=3672,
        )


def arguments(machine: Machine, *more: str) -> list[str]:
    named = ["--model-type", "baseline", "--machine", str(machine.pk)]
    return [*named, "--reason", "the works are over", *more]


def asked(machine: Machine, *more: str) -> tuple[int, str, str]:
    """Return how the command ended: its exit code, what it said, and what beside."""
    out, err = StringIO(), StringIO()
    code = 0
    try:
        call_command(
            "retrain", *arguments(machine, *more), stdout=out, stderr=err, skip_checks=True
        )
    except SystemExit as end:
        code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.django_db
def test_it_asks_for_a_run_and_says_which() -> None:
    machine = meter()
    code, out, _ = asked(machine)
    run = TrainingRun.objects.get()
    assert code == 0
    assert out == (
        f"pump 7 · baseline: pending: waits for a worker. It goes on as {run.pk};"
        " no estimate, since no past run of the series was completed.\n"
    )
    assert (run.trigger_type, run.triggered_by) == ("manual", "command:retrain")
    assert (run.machine, run.reason) == (machine, "the works are over")


@pytest.mark.django_db
def test_the_estimate_is_of_past_runs() -> None:
    machine = meter()
    TrainingRunFactory.create(completed=True, machine=machine, training_duration_seconds=3600)
    _, out, _ = asked(machine)
    run = TrainingRun.objects.exclude(training_status="completed").get()
    due = run.training_start + timedelta(hours=1)
    assert out.endswith(f", done by about {due:%Y-%m-%d %H:%M} UTC.\n")


@pytest.mark.django_db
def test_json_is_one_object() -> None:
    machine = meter()
    code, out, err = asked(machine, "--format=json")
    told = json.loads(out)
    run = TrainingRun.objects.get()
    assert (code, err) == (0, "")
    assert (told["triggered"], told["training_job_id"]) == (True, str(run.pk))
    assert (told["status"], told["estimated_completion"]) == ("pending", None)


@pytest.mark.django_db
def test_while_a_run_is_under_way_nothing_is_asked_for() -> None:
    machine = meter()
    training.trigger(machine=machine, model_type="baseline", reason="first", by="user:ada")
    with pytest.raises(CommandError, match="already in progress"):
        asked(machine)
    code, out, _ = asked(machine, "--wait", "--format=json")
    assert code == 1
    run = TrainingRun.objects.get()
    assert json.loads(out) == {
        "triggered": False,
        "detail": "A training of this series is already in progress:"
        f" pending as {run.pk}. Cancel it to ask anew.",
    }
    assert TrainingRun.objects.count() == 1


@pytest.mark.django_db
def test_what_cannot_be_trained_is_an_error() -> None:
    with pytest.raises(CommandError, match="There is no machine"):
        asked(Machine(id=uuid.uuid4()))
    with pytest.raises(CommandError, match="has no such model"):
        asked(MachineFactory.create())
    with pytest.raises(CommandError, match="Return it to service"):
        asked(ModelVersionFactory.create(machine__is_active=False).machine)
    assert not TrainingRun.objects.exists()


@pytest.fixture
def waiting() -> Iterator[Callable[..., Future[tuple[int, str, str]]]]:
    """Return a starter of the command in a thread, which ends with the run."""

    def one(machine: Machine, *more: str) -> tuple[int, str, str]:
        try:
            return asked(machine, "--wait", *more)
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield lambda machine, *more: pool.submit(one, machine, *more)


def run_of(machine: Machine) -> TrainingRun:
    """Return the run that the command asks for, once it has."""
    pause = Event()
    for _ in range(60 * 20):
        found = TrainingRun.objects.filter(machine=machine).first()
        if found is not None:
            return found
        pause.wait(0.05)
    raise AssertionError("nothing was asked for")


Waiting = Callable[..., Future[tuple[int, str, str]]]


@pytest.mark.django_db(transaction=True)
def test_waiting_ends_with_the_version(waiting: Waiting) -> None:
    machine = meter(trainer={"kind": "tests-at-once"})
    command = waiting(machine)
    run = training_work.work_on(run_id=run_of(machine).pk, by=WORKER)
    code, out, _ = command.result(timeout=60)
    assert run is not None
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"pump 7 · baseline: training {run.pk} asked for"
    assert lines[-1] == (
        "pump 7 · baseline: completed version 1 on 3,672 samples"
        f" in {run.training_duration_seconds:.1f} s"
    )


@pytest.mark.django_db(transaction=True)
def test_waiting_for_what_fails_says_why_and_is_exit_1(waiting: Waiting) -> None:
    machine = meter(training_source={"kind": "files", "pattern": "/nowhere/*.csv"})
    command = waiting(machine, "--format=json")
    run = training_work.work_on(run_id=run_of(machine).pk, by=WORKER)
    code, out, err = command.result(timeout=60)
    told = json.loads(out)
    assert run is not None
    assert run.error_message
    assert (code, told["status"], told["error_message"]) == (1, "failed", run.error_message)
    assert "error_traceback" not in told
    assert "asked for" in err


@pytest.mark.django_db(transaction=True)
def test_waiting_for_what_is_cancelled_is_exit_1(waiting: Waiting) -> None:
    machine = meter()
    command = waiting(machine)
    training.cancel(run=run_of(machine), by="user:ada")
    code, out, _ = command.result(timeout=60)
    assert code == 1
    assert out.splitlines()[-1] == "pump 7 · baseline: cancelled by user:ada"


@pytest.mark.django_db(transaction=True)
def test_waiting_without_a_worker_says_what_to_do_and_ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrain, "PATIENCE_SECONDS", 0.0)
    machine = meter()
    code, out, _ = asked(machine, "--wait", "--timeout", "0.1")
    run = TrainingRun.objects.get()
    assert code == 1
    assert "no worker has taken it yet" in out
    assert "manage.py run_training" in out
    assert f"It goes on as {run.pk}" in out.splitlines()[-1]
    assert run.training_status == "pending"


@pytest.mark.django_db(transaction=True)
def test_what_others_train_waits_for_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrain, "PATIENCE_SECONDS", 0.0)
    machine = ModelVersionFactory.create().machine
    _, out, _ = asked(machine, "--wait", "--timeout", "0.1")
    assert "Waits for somebody to take it." in out
    assert "worker" not in out
