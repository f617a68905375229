"""The commands that train and replay: what they print and how they end."""

import uuid
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from modelperf.demo.load import Loaded
from modelperf.demo.login import Login
from modelperf.demo.meters import BY_KEY
from modelperf.management.commands.load_demo import Command as LoadDemo
from modelperf.models import TrainingRun
from modelperf.services import training
from tests.factories import MachineFactory, ModelVersionFactory, PolicyFactory

pytestmark = pytest.mark.django_db


def pending(key: str | None = "uk-electricity") -> TrainingRun:
    metadata = BY_KEY[key].metadata(shift_weeks=0) if key else {}
    machine = MachineFactory.create(name=key or "pump", metadata=metadata)
    if key:
        PolicyFactory.create(machine=machine, training_source={"kind": "demo"})
    else:  # nothing says how to train it, but it has been trained
        ModelVersionFactory.create(machine=machine)
    training.trigger(
        machine=machine,
        model_type="baseline",
        reason="test",
        data_start=datetime(2020, 4, 2, tzinfo=UTC),
        data_end=datetime(2020, 9, 2, tzinfo=UTC),
        by="user:tests",
    )
    return TrainingRun.objects.get(machine=machine)


def run(*args: str) -> str:
    out = StringIO()
    call_command("run_training", *args, stdout=out, skip_checks=True)
    return out.getvalue()


def test_run_training_trains_what_waits_and_says_so():
    pending()
    lines = run().splitlines()
    assert lines[0] == "uk-electricity · baseline: training"
    assert lines[1].startswith("uk-electricity · baseline: completed version 1 on 3,672 readings")
    assert lines[2] == "1 training run completed."
    assert run() == "Nothing to train.\n"


def test_run_training_with_a_failure_tells_why_and_ends_with_an_error():
    pending(None)
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 1 training runs failed"):
        call_command("run_training", stdout=out, skip_checks=True)
    assert "failed: Nothing says where the readings come from" in out.getvalue()


def test_run_training_of_one_machine_leaves_the_others():
    first, second = pending("uk-electricity"), pending("uk-gas")
    run("--machine", str(second.machine_id))
    first.refresh_from_db()
    assert first.training_status == "pending"
    with pytest.raises(CommandError, match="Machine not found"):
        run("--machine", str(uuid.uuid4()))


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
