"""Training runs of an installation that knew no leases."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from modelperf.models import Alert, TrainingRun
from modelperf.services import training_leases, training_work
from tests.factories import PolicyFactory
from tests.services import trainers

_INSERT_MACHINE = (
    "INSERT INTO machines (id, name, type, location, is_active, metadata, created_at)"
    " VALUES (%s, 'pump', '', '', true, '{}', now())"
)
_INSERT_RUN = (
    "INSERT INTO model_training_history (id, machine_id, model_type, training_start,"
    " training_data_start, training_data_end, training_status, trigger_type, triggered_by, reason,"
    " hyperparameters, feature_names, training_metrics, validation_metrics, error_message,"
    " error_traceback, metadata, created_at) VALUES (%s, %s, 'baseline', %s, '2024-01-01',"
    " '2025-01-01', 'running', 'manual', '', 'r', '{}', '{}', '{}', '{}', '', '', '{}', %s)"
)


@pytest.fixture
def before(transactional_db: None) -> Iterator[None]:
    """Return to the tables before the change, and afterwards to those of today."""
    call_command("migrate", "modelperf", "0008", verbosity=0)
    yield
    call_command("migrate", "modelperf", verbosity=0)


def test_a_run_at_work_before_there_were_leases_is_taken_again(before: None) -> None:
    machine_id, run_id = uuid.uuid4(), uuid.uuid4()
    started = timezone.now() - timedelta(hours=3)
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_MACHINE, (machine_id,))
        cursor.execute(_INSERT_RUN, (run_id, machine_id, started, started))

    call_command("migrate", "modelperf", verbosity=0)

    run = TrainingRun.objects.get()
    assert (run.training_status, run.attempt, run.leased_until) == ("pending", 0, None)
    assert run.training_start == started
    PolicyFactory.create(machine=run.machine, trainer={"kind": trainers.LearnsNothing.kind})
    assert training_leases.recover(by="worker") == []
    with connection.cursor() as cursor:
        # What earlier tests asked for stays behind in the queue's own tables.
        cursor.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE args ->> 'run_id' = %s", (str(run_id),)
        )
        assert cursor.fetchall() == [(1,)]
    trained = training_work.work_on(run_id=run_id, by="worker")
    assert trained is not None
    assert (trained.training_status, trained.attempt) == ("completed", 1)
    assert not Alert.objects.exists()
