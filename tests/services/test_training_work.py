"""One run at work: taken by one, stored once, tried again later, or handed over."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from modelperf.models import Alert, Machine, ModelVersion, TrainingRun
from modelperf.services import training, training_leases, training_work
from tests.config.clients import wait_until
from tests.factories import PolicyFactory, TrainingRunFactory
from tests.services.concurrency import at_once
from tests.services.test_training import waiting_jobs
from tests.services.trainers import trained_by

BY = "tests"
YEAR = timedelta(days=365)


def pending(machine: Machine, **fields) -> TrainingRun:
    return TrainingRunFactory.create(machine=machine, **fields)


def worked_on(run: TrainingRun) -> TrainingRun:
    worked = training_work.work_on(run_id=run.pk, by=BY)
    assert worked is not None
    return worked


def stored(run: TrainingRun) -> TrainingRun:
    return TrainingRun.objects.get(pk=run.pk)


# --- claim ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_claim_leases_the_run_and_starts_its_clock(settings):
    settings.TRAINING_LEASE_SECONDS = 40
    run = pending(trained_by("learns_nothing"), retry_at=timezone.now() - timedelta(seconds=1))
    before = timezone.now()
    claimed = training_work.claim(run_id=run.pk, by=BY)
    assert claimed == run
    assert (claimed.training_status, claimed.attempt, claimed.retry_at) == ("running", 1, None)
    assert claimed.lease_id is not None
    assert before <= claimed.training_start == claimed.heartbeat_at
    assert claimed.leased_until == claimed.training_start + timedelta(seconds=40)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [
        {"running": True},
        {"failed": True},
        {"retry_at": timezone.now() + timedelta(hours=1)},
        {"trainer": "external"},
    ],
)
def test_claim_of_a_run_that_does_not_wait_for_a_worker_takes_nothing(fields):
    run = pending(trained_by("learns_nothing"), **fields)
    assert training_work.claim(run_id=run.pk, by=BY) is None
    assert training_work.work_on(run_id=run.pk, by=BY) is None
    assert stored(run).attempt == 0


@pytest.mark.django_db
def test_claim_elsewhere_withdraws_the_job_that_waits_for_a_worker():
    run = pending(trained_by("learns_nothing"))
    training_leases.enqueue(run)
    assert training_work.claim(run_id=run.pk, by=BY) is not None
    assert not waiting_jobs(run)


@pytest.mark.django_db
def test_claim_of_a_run_whose_policy_leaves_it_to_others_by_now_offers_it_to_them():
    run = pending(trained_by("learns_nothing"))
    document = {"kind": "external", "timeout_seconds": 7200}
    PolicyFactory._meta.model.objects.update(trainer=document)
    before = timezone.now()
    assert training_work.claim(run_id=run.pk, by=BY) is None
    left = stored(run)
    assert (left.training_status, left.trainer, left.attempt) == ("pending", "external", 0)
    assert before <= left.leased_until - timedelta(hours=2) <= timezone.now()
    assert left.progress_message == "Waits for somebody to take it."


@pytest.mark.django_db
def test_claim_of_a_run_left_to_others_on_broken_terms_fails_and_says_so():
    run = pending(trained_by("learns_nothing"))
    document = {"kind": "external", "timeout_seconds": "long"}
    PolicyFactory._meta.model.objects.update(trainer=document)
    assert "timeout_seconds" in worked_on(run).error_message


@pytest.mark.django_db(transaction=True)
def test_claim_by_many_at_once_succeeds_for_one():
    run = pending(trained_by("learns_nothing"))
    claimed = at_once(12, lambda _: training_work.claim(run_id=run.pk, by=BY))
    assert [one for one in claimed if one is not None] == [run]
    assert stored(run).attempt == 1


# --- what was kept ---------------------------------------------------------------------------


@pytest.fixture
def kept(settings, tmp_path) -> Callable[[TrainingRun, int], Path]:
    """Keep something for an attempt of a run, as a command does."""
    settings.TRAINING_DIR = tmp_path

    def keep(run: TrainingRun, attempt: int) -> Path:
        folder = tmp_path / "artefacts" / f"{run.pk}-{attempt}"
        folder.mkdir(parents=True)
        (folder / "weights").write_text("1 2 3")
        return folder

    return keep


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("kind", "is_there"),
    [("learns_nothing", True), ("breaks", False), ("cancelled_meanwhile", False)],
)
def test_artefacts_of_a_run_stay_where_it_is_completed_only(kept, kind, is_there):
    run = pending(trained_by(kind))
    folder = kept(run, 1)
    worked_on(run)
    assert folder.exists() == is_there


@pytest.mark.django_db(transaction=True)
def test_artefacts_of_who_lost_the_run_go_and_those_of_the_next_attempt_stay(kept):
    run = pending(trained_by("taken_meanwhile"))
    lost, next_one = kept(run, 1), kept(run, 2)
    worked_on(run)
    assert (lost.exists(), next_one.exists()) == (False, True)


# --- train ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_work_on_stores_what_was_trained_with_its_log():
    run = worked_on(pending(trained_by("learns_nothing")))
    model = ModelVersion.objects.get()
    assert (run.training_status, run.trainer) == ("completed", "tests.learns_nothing")
    assert (run.model, run.training_samples) == (model, 10)
    assert (run.progress_percent, run.training_log) == (100.0, "nothing to tell")
    assert (run.lease_id, run.leased_until) == (None, None)
    assert model.metadata["training_run"] == str(run.pk)


@pytest.mark.django_db
@pytest.mark.parametrize("ends", ["well", "badly", "unavailable"])
def test_work_on_a_run_that_became_anothers_leaves_it_to_him(ends):
    machine = trained_by("taken_meanwhile")
    trainer = {"kind": "tests.taken_meanwhile", "ends": ends}
    PolicyFactory._meta.model.objects.filter(machine=machine).update(trainer=trainer)
    run = worked_on(pending(machine))
    assert (run.training_status, run.attempt) == ("running", 1)
    assert (run.model, run.error_message, run.retry_at) == (None, "", None)
    assert not ModelVersion.objects.exists()
    assert not Alert.objects.exists()
    assert not waiting_jobs(run)


@pytest.mark.django_db
def test_work_on_a_failing_run_raises_an_alert_that_the_next_good_one_ends():
    machine = trained_by("breaks")
    worked_on(pending(machine))
    worked_on(pending(machine))
    (alert,) = Alert.objects.filter(alert_type="training_failed")
    assert not alert.is_resolved
    assert "ZeroDivisionError" not in alert.alert_message
    assert alert.alert_message.endswith("its run says why.")

    PolicyFactory._meta.model.objects.update(trainer={"kind": "tests.learns_nothing"})
    worked_on(pending(machine))
    (alert,) = Alert.objects.filter(alert_type="training_failed")
    assert alert.is_resolved


@pytest.mark.django_db
def test_work_on_a_run_whose_error_holds_half_a_character_fails_with_its_own_reason():
    run = worked_on(pending(trained_by("breaks_unprintably")))
    assert (run.training_status, run.error_message) == ("failed", "ValueError: no file ?")
    assert "raise kind" in run.error_traceback


@pytest.mark.django_db
def test_work_on_what_is_unavailable_keeps_a_problem_that_holds_half_a_character():
    machine = trained_by("breaks_unprintably")
    trainer = {"kind": "tests.breaks_unprintably", "is_unavailable": True}
    PolicyFactory._meta.model.objects.filter(machine=machine).update(trainer=trainer)
    run = worked_on(pending(machine, created_at=timezone.now()))
    assert (run.training_status, run.metadata["last_problem"]) == ("pending", "no file ?")


@pytest.mark.django_db
def test_work_on_what_is_unavailable_waits_twice_as_long_each_time():
    run = pending(trained_by("unavailable"), created_at=timezone.now())
    pauses = []
    for _ in range(3):
        before = timezone.now()
        TrainingRun.objects.update(retry_at=None)
        run = worked_on(run)
        assert (run.training_status, run.lease_id, run.leased_until) == ("pending", None, None)
        assert run.metadata["last_problem"] == "The site does not answer."
        pauses.append(round((run.retry_at - before).total_seconds(), -1))
    assert pauses == [10, 20, 40]
    assert run.attempt == 3
    (job,) = waiting_jobs(run)
    assert job.scheduled_at is not None


@pytest.mark.django_db
def test_work_on_what_stays_unavailable_never_waits_longer_than_five_minutes(settings):
    settings.TRAINING_PATIENCE_SECONDS = 86_400
    run = worked_on(pending(trained_by("unavailable"), attempt=40, created_at=timezone.now()))
    assert 290 < (run.retry_at - timezone.now()).total_seconds() <= 300


@pytest.mark.django_db
def test_work_on_an_old_run_has_all_patience_with_what_is_unavailable_for_the_first_time():
    run = worked_on(pending(trained_by("unavailable"), created_at=timezone.now() - YEAR))
    assert run.training_status == "pending"
    first = run.metadata["first_unavailable_at"]
    TrainingRun.objects.update(retry_at=None)
    assert worked_on(run).metadata["first_unavailable_at"] == first


@pytest.mark.django_db
def test_work_on_an_old_run_whose_command_was_ended_from_outside_tries_it_again(settings, tmp_path):
    settings.COMMAND_DIR, settings.TRAINING_DIR = tmp_path / "bin", tmp_path / "work"
    settings.COMMAND_DIR.mkdir()
    program = settings.COMMAND_DIR / "ended"
    program.write_text("#!/bin/sh\nkill -TERM $PPID\nexec sleep 600\n")
    program.chmod(0o755)
    run = pending(trained_by("learns_nothing"), created_at=timezone.now() - YEAR)
    document = {"kind": "command", "command": ["ended"]}
    source = {"kind": "demo", "meter": "il-gas-hdd-only"}
    PolicyFactory._meta.model.objects.update(trainer=document, training_source=source)
    TrainingRun.objects.update(
        training_data_start=datetime(2015, 11, 22, 6, tzinfo=UTC),
        training_data_end=datetime(2016, 11, 22, 6, tzinfo=UTC),
    )
    run = worked_on(run)
    assert (run.training_status, run.error_message) == ("pending", "")
    assert "ended from outside" in run.metadata["last_problem"]


@pytest.mark.django_db
def test_train_of_a_run_that_was_lost_before_it_began_asks_no_trainer():
    run = training_work.claim(run_id=pending(trained_by("breaks")).pk, by=BY)
    TrainingRun.objects.update(lease_id=uuid.uuid4(), trainer="of another")
    again = training_work.train(run=run, by=BY)
    assert (again.training_status, again.trainer) == ("running", "of another")


@pytest.mark.django_db
def test_work_on_what_stays_unavailable_fails_once_patience_is_over(settings):
    first = timezone.now() - timedelta(seconds=settings.TRAINING_PATIENCE_SECONDS)
    tried = {"first_unavailable_at": first.isoformat()}
    run = worked_on(pending(trained_by("unavailable"), metadata=tried))
    assert (run.training_status, run.error_message) == ("failed", "The site does not answer.")
    assert Alert.objects.filter(alert_type="training_failed", is_resolved=False).count() == 1


@pytest.mark.django_db
def test_work_on_what_is_handed_over_leaves_it_to_who_reports():
    before = timezone.now()
    run = worked_on(pending(trained_by("hands_over")))
    assert (run.training_status, run.lease_id) == ("running", None)
    assert run.leased_until >= before + timedelta(seconds=600)


@pytest.mark.django_db(transaction=True)
def test_work_on_tells_how_far_it_is_and_learns_of_a_cancellation(settings):
    settings.TRAINING_LEASE_SECONDS = 1
    run = pending(trained_by("works_until_unwanted"))

    def work_or_cancel(number: int) -> TrainingRun | None:
        if number == 0:
            return training_work.work_on(run_id=run.pk, by=BY)
        wait_until(lambda: stored(run).progress_percent == 50)
        told = stored(run)
        assert told.progress_message == "half of it"
        assert told.heartbeat_at > told.training_start
        assert told.leased_until == told.heartbeat_at + timedelta(seconds=1)
        return training.cancel(run=run, by="user:other")

    outcomes = at_once(2, work_or_cancel)
    assert [outcome.training_status for outcome in outcomes] == ["cancelled", "cancelled"]
    assert not ModelVersion.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_work_on_stores_its_result_after_the_database_cut_the_connection():
    run = pending(trained_by("cuts_the_connection"))
    run = worked_on(run)
    assert (run.training_status, run.error_message) == ("completed", "")
    assert ModelVersion.objects.count() == 1
    assert connection.is_usable()
