"""A worker that dies, or is taken for dead: each run ends, once, and nothing is left over."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from modelperf.models import ModelVersion, TrainingRun
from modelperf.services import training
from tests.commands import kills
from tests.commands.test_worker import Start, asked_for, start  # noqa: F401 -- a fixture
from tests.commands.workers import Workers, environment_of
from tests.config.clients import wait_until
from tests.trainers.scripts import Commands

pytestmark = pytest.mark.django_db(transaction=True)

KILLS = 20


@pytest.fixture
def commands(tmp_path: Path, settings: Settings) -> Commands:
    return Commands(tmp_path, settings)


@pytest.fixture
def workers(transactional_db: None, commands: Commands, tmp_path: Path) -> Iterator[Workers]:
    started = Workers("--trainings", "2", **environment_of(tmp_path))
    yield started
    started.end()


def test_killed_at_twenty_moments_each_run_ends_once(
    workers: Workers, commands: Commands, tmp_path: Path
) -> None:
    outcome = kills.killed(workers, commands, tmp_path, kills=KILLS, seed=20)
    assert len(outcome.runs) == KILLS
    assert outcome.problems() == []
    assert outcome.tried_again > KILLS // 5  # or the kills had hit nothing
    assert commands.left() == []


def test_worker_that_was_taken_for_dead_stores_nothing(start: Start) -> None:  # noqa: F811
    frozen = start()
    run = asked_for("works_until_unwanted")
    wait_until(lambda: attempt_at_work(run) == 1)
    start().wait_until_it_works()
    os.kill(frozen.process.pid, signal.SIGSTOP)
    wait_until(lambda: attempt_at_work(run) == 2)
    os.kill(frozen.process.pid, signal.SIGCONT)
    assert frozen.stop() == 0
    assert attempt_at_work(run) == 2
    assert not ModelVersion.objects.exists()
    assert training.cancel(run=run, by="tests").training_status == "cancelled"


def attempt_at_work(run: TrainingRun) -> int:
    found = TrainingRun.objects.filter(pk=run.pk, training_status="running").first()
    return found.attempt if found else 0
