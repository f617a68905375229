"""How a run ends: how long work on it took, and what of it is left."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from modelperf.models import TrainingRun
from modelperf.services import training_failures, training_leases
from tests.factories import TrainingRunFactory
from tests.services.test_training import waiting_jobs

STATUS = TrainingRun.Status
WAITS = "Waits to be tried again."


def ended(run: TrainingRun, status: TrainingRun.Status) -> TrainingRun:
    training_failures.end(run, status, timezone.now())
    run.error_message = "no data"
    run.save()
    return TrainingRun.objects.get(pk=run.pk)


@pytest.mark.django_db
def test_end_of_a_run_at_work_tells_how_long_it_took():
    begun = timezone.now() - timedelta(minutes=3)
    run = ended(TrainingRunFactory.create(running=True, training_start=begun), STATUS.FAILED)
    assert run.training_duration_seconds == (run.training_end - begun).total_seconds()


@pytest.mark.django_db
@pytest.mark.parametrize("attempt", [0, 2])
def test_end_of_a_run_that_waits_knows_no_duration(attempt):
    run = ended(TrainingRunFactory.create(attempt=attempt), STATUS.CANCELLED)
    assert run.training_duration_seconds is None


@pytest.mark.django_db
@pytest.mark.parametrize("status", [STATUS.FAILED, STATUS.CANCELLED])
def test_end_of_a_run_without_a_model_leaves_no_message_of_what_it_waits_for(status):
    run = TrainingRunFactory.create(progress_message=WAITS, progress_percent=40)
    assert ended(run, status).progress_message == ""


@pytest.mark.django_db
def test_end_of_a_run_withdraws_the_job_that_waits_for_it():
    run, other = TrainingRunFactory.create(), TrainingRunFactory.create()
    training_leases.enqueue(run)
    training_leases.enqueue(other)
    ended(run, STATUS.CANCELLED)
    assert (len(waiting_jobs(run)), len(waiting_jobs(other))) == (0, 1)


@pytest.mark.django_db(transaction=True)
def test_end_of_a_run_makes_no_folder_where_no_command_ever_ran(settings, tmp_path):
    settings.TRAINING_DIR = tmp_path / "training"
    with transaction.atomic():
        ended(TrainingRunFactory.create(), STATUS.CANCELLED)
    assert not settings.TRAINING_DIR.exists()


@pytest.mark.django_db
def test_a_run_whose_worker_died_worked_until_it_was_last_heard_of():
    heard = timezone.now() - timedelta(hours=1)
    run = TrainingRunFactory.create(
        running=True,
        lease_id=uuid.uuid4(),
        training_start=heard - timedelta(minutes=5),
        heartbeat_at=heard,
        leased_until=heard + timedelta(seconds=30),
        metadata={"workers_died": 5},
    )
    training_leases.recover(by="tests")
    run.refresh_from_db()
    assert (run.training_status, run.training_duration_seconds) == ("failed", 300)
    assert run.training_end > heard
