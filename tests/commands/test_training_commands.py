"""The commands that train and replay: what they print and how they end."""

import json
import signal
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from threading import Event
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from modelperf.demo.load import Loaded
from modelperf.demo.login import Login
from modelperf.demo.meters import BY_KEY
from modelperf.management.commands.load_demo import Command as LoadDemo
from modelperf.models import TrainingRun
from modelperf.services import training
from modelperf.trainers import (
    TrainedModel,
    Trainer,
    TrainingRequest,
    UnavailableError,
    Watch,
)
from modelperf.trainers.base import register
from tests.factories import (
    MachineFactory,
    ModelVersionFactory,
    PolicyFactory,
    TrainingRunFactory,
)


@register("tests-steps")
class Steps(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tells how far it is, and goes on once that was read where `shown` looks."""

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        watch.progress(40, "fitting the second half")
        until(lambda: "40 %, fitting the second half" in shown())
        return trained()


@register("tests-nobody")
class Nobody(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cannot be asked just now."""

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        raise UnavailableError("The orchestrator is away.")


def shown() -> str:
    """Return what the command has put out until now."""
    return "".join(out.getvalue() for out in OUT)


OUT: list[StringIO] = []


def trained() -> TrainedModel:
    return TrainedModel(
        artefact={"form": "tests"},
        feature_names=("temperature",),
        hyperparameters={},
        training_metrics={"r_squared": 0.9},
        validation_metrics={"r_squared": 0.8},
        training_samples=3672,
    )


def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so."""
    pause = Event()
    for _ in range(60 * 20):
        if is_so():
            return
        pause.wait(0.05)
    raise AssertionError("it never came to that")


def pending(key: str | None = "uk-electricity", **policy: Any) -> TrainingRun:
    metadata = BY_KEY[key].metadata(shift_weeks=0) if key else {}
    machine = MachineFactory.create(name=key or "pump", metadata=metadata)
    if key:
        PolicyFactory.create(machine=machine, training_source={"kind": "demo"})
    else:  # trained before, and by what its policy says
        ModelVersionFactory.create(machine=machine)
        PolicyFactory.create(machine=machine, **policy)
    training.trigger(
        machine=machine,
        model_type="baseline",
        reason="test",
        data_start=datetime(2020, 4, 2, tzinfo=UTC),
        data_end=datetime(2020, 9, 2, tzinfo=UTC),
        by="user:tests",
    )
    return TrainingRun.objects.get(machine=machine)


def failing() -> TrainingRun:
    """Return a run that fails: its readings are gone by the time it is trained."""
    return pending(None, training_source={"kind": "files", "pattern": "/nowhere/*.csv"})


def run(*args: str) -> str:
    out = StringIO()
    call_command("run_training", *args, stdout=out, skip_checks=True)
    return out.getvalue()


@pytest.mark.django_db
def test_run_training_trains_what_waits_and_says_so():
    pending()
    lines = run().splitlines()
    assert lines[0] == "uk-electricity · baseline: training"
    assert lines[1].startswith("uk-electricity · baseline: completed version 1 on 3,672 samples")
    assert lines[2] == "1 training run completed."
    assert run() == "Nothing to train.\n"


@pytest.mark.django_db
def test_run_training_with_a_failure_tells_why_and_ends_with_an_error():
    failed = failing()
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 1 training runs failed"):
        call_command("run_training", stdout=out, skip_checks=True)
    failed.refresh_from_db()
    assert failed.error_message
    assert f"pump · baseline: failed: {failed.error_message}" in out.getvalue()


@pytest.mark.django_db
def test_run_training_of_one_machine_leaves_the_others():
    first, second = pending("uk-electricity"), pending("uk-gas")
    run("--machine", str(second.machine_id))
    first.refresh_from_db()
    assert first.training_status == "pending"
    with pytest.raises(CommandError, match="Machine not found"):
        run("--machine", str(uuid.uuid4()))


@pytest.mark.django_db
def test_run_training_leaves_alone_what_others_train():
    waiting = pending(None)
    assert run() == "Nothing to train.\n"
    waiting.refresh_from_db()
    assert (waiting.training_status, waiting.trainer) == ("pending", "external")


@pytest.mark.django_db
def test_run_training_counts_apart_what_is_to_be_tried_again():
    waiting = pending(None, trainer={"kind": "tests-nobody"})
    lines = run().splitlines()
    waiting.refresh_from_db()
    assert waiting.retry_at is not None
    until = f"{waiting.retry_at:%H:%M:%S} UTC"
    assert lines[-2] == f"pump · baseline: pending: Waits to be tried again at {until}."
    assert lines[-1] == "1 training run to be tried again."


@pytest.mark.django_db(transaction=True)
def test_run_training_tells_how_far_a_run_is():
    pending(None, trainer={"kind": "tests-steps"})
    OUT[:] = [StringIO()]
    call_command("run_training", stdout=OUT[0], skip_checks=True)
    seconds = TrainingRun.objects.get().training_duration_seconds
    assert shown().splitlines() == [
        "pump · baseline: training",
        "pump · baseline: 40 %, fitting the second half",
        f"pump · baseline: completed version 2 on 3,672 samples in {seconds:.1f} s",
        "1 training run completed.",
    ]


@pytest.mark.django_db(transaction=True)
def test_run_training_puts_out_one_object_and_its_progress_beside_it():
    pending(None, trainer={"kind": "tests-steps"})
    out, OUT[:] = StringIO(), [StringIO()]
    call_command("run_training", "--format=json", stdout=out, stderr=OUT[0], skip_checks=True)
    told = json.loads(out.getvalue())
    assert (told["recovered"], told["n_failed"]) == ([], 0)
    (one,) = told["trained"]
    stored = TrainingRun.objects.get()
    assert (one["status"], one["model_version"], one["training_samples"]) == ("completed", 2, 3672)
    assert (one["model_id"], one["trainer"]) == (str(stored.model_id), "tests-steps")
    assert one["training_duration_seconds"] == stored.training_duration_seconds
    assert "error_traceback" not in one


@pytest.mark.django_db
def test_run_training_as_json_ends_with_an_error_too():
    failing()
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError):
        call_command("run_training", "--format=json", stdout=out, stderr=err, skip_checks=True)
    told = json.loads(out.getvalue())
    assert (told["n_failed"], told["trained"][0]["status"]) == (1, "failed")
    assert told["trained"][0]["error_message"]


@pytest.mark.django_db
def test_run_training_goes_on_with_what_a_dead_worker_left():
    lost = pending()
    past = timezone.now() - timedelta(hours=1)
    TrainingRun.objects.update(
        training_status="running", attempt=1, lease_id=uuid.uuid4(), leased_until=past
    )
    lines = run().splitlines()
    assert lines[0] == (
        "uk-electricity · baseline: nobody was heard of, pending: Waits to be tried again."
    )
    assert lines[-1] == "1 training run completed."
    lost.refresh_from_db()
    assert (lost.training_status, lost.attempt) == ("completed", 2)


@pytest.mark.django_db
def test_replay_demo_without_the_demo_says_to_load_it():
    with pytest.raises(CommandError, match="load_demo"):
        call_command("replay_demo", skip_checks=True)


def test_load_demo_prints_the_shift_the_login_and_the_key():
    out = StringIO()
    weeks = {key: 458 if key.startswith("il") else 206 for key in BY_KEY}
    login = Login(username="demo", password="pass-word", api_key="a.key")
    LoadDemo(stdout=out)._tell(Loaded(login=login, shift_weeks=weeks))
    for word in ("458 weeks", "206 weeks", "simulated", "real home", "pass-word", "a.key", "once"):
        assert word in out.getvalue()


def test_load_demo_beside_an_existing_user_leaves_it_alone():
    out = StringIO()
    LoadDemo(stdout=out)._tell(Loaded(login=None, shift_weeks=dict.fromkeys(BY_KEY, 1)))
    assert "was there already" in out.getvalue()
    assert "Password" not in out.getvalue()


@register("tests-told-to-stop")
class ToldToStop(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A supervisor, or a person at the terminal, ends the command meanwhile."""

    signal: int

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        signal.raise_signal(self.signal)
        return trained()


@pytest.mark.django_db
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_training_that_is_told_to_stop_says_so_and_leaves_the_run_to_the_next(number):
    machine = MachineFactory.create()
    document = {"kind": "tests-told-to-stop", "signal": int(number)}
    PolicyFactory.create(machine=machine, trainer=document)
    TrainingRunFactory.create(machine=machine)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(CommandError, match="waits to be tried again") as caught:
        call_command("run_training", stdout=StringIO())
    assert caught.value.returncode == 130
    assert signal.getsignal(signal.SIGTERM) == before
    run = TrainingRun.objects.get()
    assert (run.training_status, run.lease_id) == ("pending", None)
