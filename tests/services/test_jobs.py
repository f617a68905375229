"""Jobs are deferred with the transaction that decides them, and wait but once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import TaskNotFound

from modelperf.services import jobs


def defer(once: str = "train:1", **values) -> None:
    jobs.defer("train", queue="training", once=once, run_id="1", **values)


@pytest.mark.django_db
def test_defer_stores_a_job_with_its_arguments_and_its_time():
    at = timezone.now() + timedelta(hours=1)
    defer(at=at)
    job = ProcrastinateJob.objects.get(queueing_lock="train:1")
    assert (job.task_name, job.queue_name, job.status) == ("train", "training", "todo")
    assert (job.args, job.scheduled_at) == ({"run_id": "1"}, at)


@pytest.mark.django_db
def test_defer_of_what_waits_already_adds_nothing_and_spoils_no_transaction():
    with transaction.atomic():
        for _ in range(3):
            defer()
        assert ProcrastinateJob.objects.filter(queueing_lock="train:1").count() == 1
    defer("train:2")
    assert jobs.waiting("train") >= {"train:1", "train:2"}


@pytest.mark.django_db
def test_defer_goes_with_the_transaction_around_it():
    with transaction.atomic():
        defer()
        transaction.set_rollback(True)
    assert not ProcrastinateJob.objects.filter(queueing_lock="train:1").exists()
    assert "train:1" not in jobs.waiting("train")


@pytest.mark.django_db
def test_defer_of_a_task_that_is_none_is_refused():
    with pytest.raises(TaskNotFound):
        jobs.defer("whim", queue="training", once="whim")


@pytest.mark.django_db
def test_withdraw_deletes_what_waits_under_a_name_and_nothing_that_was_taken():
    defer("train:1")
    defer("train:2")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE queueing_lock = 'train:2'"
        )
    for once in ("train:1", "train:2", "train:3"):
        jobs.withdraw(once=once)
    left = ProcrastinateJob.objects.filter(queueing_lock__startswith="train:")
    assert [job.queueing_lock for job in left] == ["train:2"]
