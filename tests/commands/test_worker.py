"""`manage.py worker` as a process: does what waits, outlives its database, and always ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.utils import timezone

from modelperf.models import CheckRun, Machine, ModelVersion, Policy, TrainingRun
from modelperf.services import training
from tests.commands.workers import Worker
from tests.config.clients import wait_until
from tests.factories import MachineFactory, PolicyFactory
from tests.services.test_training import waiting_jobs
from tests.services.trainers import trained_by
from tests.sites import Site, silent

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Worker]
EVERY_SECOND = "* * * * * *"


@pytest.fixture
def start(transactional_db: None) -> Iterator[Start]:
    """Start workers; they are gone before the database is emptied."""
    workers: list[Worker] = []

    def started(*arguments: str, **environment: str) -> Worker:
        workers.append(Worker(*arguments, **environment))
        return workers[-1]

    yield started
    for worker in workers:
        worker.end()


def asked_for(kind: str) -> TrainingRun:
    return asked_of(trained_by(kind))


def asked_of(machine: Machine) -> TrainingRun:
    answer = training.trigger(
        machine=machine, model_type="baseline", reason="the year is over", by="tests"
    )
    return TrainingRun.objects.get(pk=answer.training_job_id)


def status_of(run: TrainingRun) -> str:
    return TrainingRun.objects.get(pk=run.pk).training_status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_worker_trains_what_is_asked_for_until_it_is_told_to_stop(
    start: Start, number: int
) -> None:
    before = asked_for("learns_nothing")
    worker = start()
    worker.wait_until_it_works()
    wait_until(lambda: status_of(before) == "completed")
    meanwhile = asked_for("learns_nothing")
    wait_until(lambda: status_of(meanwhile) == "completed")
    wait_until(lambda: not waiting_jobs(meanwhile))
    assert worker.stop(number) == 0
    assert ModelVersion.objects.count() == 2


def test_worker_goes_on_after_the_database_was_away(start: Start) -> None:
    worker = start(MODELPERF_CHECK_SCHEDULE=EVERY_SECOND)
    first = asked_for("learns_nothing")
    wait_until(lambda: status_of(first) == "completed")
    wait_until(CheckRun.objects.exists)
    for _ in range(2):
        connection.cursor().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        cut_at = timezone.now()
        run = asked_for("learns_nothing")
        wait_until(lambda run=run: status_of(run) == "completed")
        wait_until(lambda cut_at=cut_at: CheckRun.objects.filter(started_at__gt=cut_at).exists())
    assert worker.stop() == 0
    assert set(TrainingRun.objects.values_list("training_status", flat=True)) == {"completed"}


def test_worker_told_to_stop_gives_back_what_takes_longer(start: Start) -> None:
    worker = start(MODELPERF_WORKER_GRACE_SECONDS="1")
    run = asked_for("works_until_unwanted")
    wait_until(lambda: status_of(run) == "running")
    assert worker.stop() == 0
    run.refresh_from_db()
    assert (run.training_status, run.lease_id, run.attempt) == ("pending", None, 1)
    assert "workers_died" not in run.metadata
    assert not ModelVersion.objects.exists()

    Policy.objects.update(trainer={"kind": "tests.learns_nothing"})
    start()
    wait_until(lambda: status_of(run) == "completed")
    run.refresh_from_db()
    assert run.attempt == 2


def test_trainings_keep_no_check_waiting(start: Start) -> None:
    runs = [asked_for("works_until_unwanted") for _ in range(8)]
    start("--trainings", "8", MODELPERF_CHECK_SCHEDULE=EVERY_SECOND)
    wait_until(lambda: {status_of(run) for run in runs} == {"running"})
    all_at_work = timezone.now()
    wait_until(lambda: CheckRun.objects.filter(started_at__gt=all_at_work).count() > 1)
    assert {status_of(run) for run in runs} == {"running"}
    for run in runs:
        training.cancel(run=run, by="tests")


def test_receivers_that_do_not_answer_keep_no_training_waiting(start: Start) -> None:
    with Site().served() as site:
        site.answer = silent
        machines = MachineFactory.create_batch(6)
        for machine in machines:
            PolicyFactory.create(machine=machine, trainer={"kind": "webhook", "url": site.url})
        handed = [asked_of(machine) for machine in machines]
        start(
            "--trainings",
            "1",
            MODELPERF_OUTGOING_NETWORKS="127.0.0.0/8",
            MODELPERF_OUTGOING_TIMEOUT_SECONDS="300",
            MODELPERF_PUBLIC_URL="http://127.0.0.1:8000",
        )
        wait_until(lambda: len(site.asked) == 4)
        run = asked_for("learns_nothing")
        wait_until(lambda: status_of(run) == "completed")
        assert sorted(status_of(one) for one in handed) == ["pending"] * 2 + ["running"] * 4
        site.goes_on.set()


def test_two_workers_train_every_run_once_and_check_no_more_often(start: Start) -> None:
    began = time.time()
    for _ in range(2):
        start(MODELPERF_CHECK_SCHEDULE=EVERY_SECOND)
    runs = [asked_for("learns_nothing") for _ in range(12)]
    wait_until(lambda: {status_of(run) for run in runs} == {"completed"})
    wait_until(lambda: CheckRun.objects.count() > 3)
    assert CheckRun.objects.count() <= time.time() - began + 2
    assert set(TrainingRun.objects.values_list("attempt", flat=True)) == {1}
    assert ModelVersion.objects.count() == 12
