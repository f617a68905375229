"""What the background jobs do, and when: each calls a service, and none is done twice at once."""

from __future__ import annotations

import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from modelperf import tasks
from modelperf.models import CheckRun, Policy, TrainingRun
from modelperf.services import jobs, training, training_leases
from tests import factories
from tests.services.concurrency import at_once
from tests.services.trainers import trained_by

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(hours=1)


def test_schedules_are_those_of_the_settings_and_no_job_waits_twice() -> None:
    known = app.periodic_registry.periodic_tasks.values()
    assert {one.task.name: one.cron for one in known} == {
        "check": settings.CHECK_SCHEDULE,
        "follow": settings.FOLLOW_SCHEDULE,
        "recover": settings.RECOVERY_SCHEDULE,
        "notify": settings.NOTIFY_SCHEDULE,
        "tidy": "17 * * * *",
        "forget": "47 * * * *",
    }
    assert all(one.task.queueing_lock == one.task.name for one in known)
    queues = {one.task.name: one.task.queue for one in known}
    assert queues.pop("notify") == tasks.NOTICES
    assert set(queues.values()) == {tasks.UPKEEP}


def test_train_works_on_the_run_it_names() -> None:
    run = factories.TrainingRunFactory.create(machine=trained_by("learns_nothing"))
    tasks.train(run_id=str(run.pk))
    tasks.train(run_id=str(run.pk))
    run.refresh_from_db()
    assert (run.training_status, run.attempt) == ("completed", 1)


def test_check_checks_the_fleet() -> None:
    tasks.check(timestamp=0)
    assert CheckRun.objects.get().started_by == "worker"


@pytest.mark.django_db(transaction=True)
def test_checks_at_once_break_nothing() -> None:
    factories.LatestPerformanceFactory.create()
    assert at_once(6, lambda _: tasks.check(timestamp=0)) == [None] * 6
    assert CheckRun.objects.exists()


def test_follow_ends_tests_that_are_over() -> None:
    test = factories.ABTestFactory.create(
        test_start=LONG_AGO, test_end=LONG_AGO + timedelta(minutes=1)
    )
    tasks.follow(timestamp=0)
    test.refresh_from_db()
    assert test.test_status == "completed"


def test_recover_lets_lost_runs_go_on() -> None:
    run = factories.TrainingRunFactory.create(
        running=True, lease_id=uuid.uuid4(), leased_until=LONG_AGO
    )
    tasks.recover(timestamp=0)
    run.refresh_from_db()
    assert run.training_status == "pending"


def test_trainings_that_are_only_handed_over_wait_in_a_queue_of_their_own() -> None:
    machine = trained_by("learns_nothing")
    asked = training.trigger(
        machine=machine, model_type="baseline", reason="it is time", by="tests"
    )
    run = TrainingRun.objects.get(pk=asked.training_job_id)
    waiting = ProcrastinateJob.objects.filter(queueing_lock=f"train:{run.pk}")
    assert [job.queue_name for job in waiting] == [tasks.TRAINING]

    waiting.delete()
    Policy.objects.update(trainer={"kind": "webhook", "url": "https://example.org/"})
    training_leases.release(run, retry_at=None)
    assert [job.queue_name for job in waiting.all()] == [tasks.HANDOVER]


def test_tidy_forgets_the_jobs_of_dead_workers_and_no_others() -> None:
    for once in ("dead", "alive", "waits"):
        jobs.defer("train", queue="training", once=once, run_id=str(uuid.uuid4()))
    with connection.cursor() as cursor:
        for once, silent in (("dead", 3600), ("alive", 1)):
            cursor.execute(
                "WITH worker AS (INSERT INTO procrastinate_workers (last_heartbeat)"
                " VALUES (now() - make_interval(secs => %s)) RETURNING id)"
                " UPDATE procrastinate_jobs SET status = 'doing', worker_id = worker.id"
                " FROM worker WHERE queueing_lock = %s",
                [silent, once],
            )
    async_to_sync(tasks.tidy.func)(SimpleNamespace(app=app), timestamp=0)
    left = ProcrastinateJob.objects.filter(queueing_lock__in=["dead", "alive", "waits"])
    assert set(left.values_list("queueing_lock", flat=True)) == {"alive", "waits"}
