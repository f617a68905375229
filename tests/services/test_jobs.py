"""Jobs are deferred with the transaction that decides them, and wait but once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
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
