"""Who works on a run: leases are renewed, given back, and taken from those who died."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from modelperf.models import Alert, TrainingRun
from modelperf.services import training_leases
from modelperf.services.training_leases import Lease
from tests.config.clients import wait_until
from tests.factories import ModelVersionFactory, PolicyFactory, TrainingRunFactory
from tests.services.concurrency import at_once
from tests.services.test_training import waiting_jobs

BY = "tests"
LONG_AGO = timezone.now() - timedelta(hours=1)


def lost(**fields) -> TrainingRun:
    """Return a run whose worker was last heard of an hour ago."""
    machine = ModelVersionFactory.create().machine
    given = {"lease_id": uuid.uuid4(), "leased_until": LONG_AGO, "attempt": 1}
    return TrainingRunFactory.create(running=True, machine=machine, **given | fields)


def at_work() -> TrainingRun:
    return lost(leased_until=timezone.now() + timedelta(seconds=30))


def stored(run: TrainingRun) -> TrainingRun:
    return TrainingRun.objects.get(pk=run.pk)


# --- beats ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_beat_renews_the_lease_and_stores_what_was_told(settings):
    settings.TRAINING_LEASE_SECONDS = 50
    run = at_work()
    lease = Lease(run.pk, run.lease_id)
    lease.progress(140, "almost\x00 there\ud800")
    before = timezone.now()
    lease.beat()
    told = stored(run)
    assert before <= told.heartbeat_at
    assert told.leased_until == told.heartbeat_at + timedelta(seconds=50)
    assert (told.progress_percent, told.progress_message) == (100.0, "almost there?")
    assert lease.is_wanted()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changes",
    [
        {"lease_id": uuid.uuid4()},
        {"lease_id": None},
        {"training_status": "pending"},
        {"training_status": "cancelled", "training_end": timezone.now()},
    ],
)
def test_beat_of_who_lost_the_run_changes_nothing_and_says_so(changes):
    run = at_work()
    lease = Lease(run.pk, run.lease_id)
    TrainingRun.objects.update(**changes)
    before = TrainingRun.objects.values().get()
    lease.progress(1, "goes on")
    lease.beat()
    assert not lease.is_wanted()
    assert TrainingRun.objects.values().get() == before


class Unstorable:
    """A number that is none, as whatever a trainer may tell; it notes that it was looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def __float__(self) -> float:
        self.looks += 1
        raise ValueError("no number")


@pytest.mark.django_db(transaction=True)
def test_kept_goes_on_after_a_beat_that_broke(settings):
    settings.TRAINING_LEASE_SECONDS = 0.3
    run, odd = at_work(), Unstorable()
    lease = Lease(run.pk, run.lease_id)
    lease._percent = odd
    with lease.kept():
        wait_until(lambda: odd.looks > 0)
        lease.progress(7, "goes on")
        wait_until(lambda: stored(run).progress_percent == 7)


# --- give back ------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_give_back_lets_what_this_process_works_on_wait_again():
    ours, others = at_work(), at_work()
    lease = Lease(ours.pk, ours.lease_id)
    with lease.kept():
        assert training_leases.give_back(by=BY) == [ours]
        lease.beat()
        assert not lease.is_wanted()
    given = stored(ours)
    assert (given.training_status, given.lease_id, given.leased_until) == ("pending", None, None)
    assert "workers_died" not in given.metadata
    assert len(waiting_jobs(ours)) == 1
    assert stored(others).lease_id == others.lease_id
    assert training_leases.give_back(by=BY) == []


# --- recover --------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_recover_tries_a_run_again_as_often_as_the_policy_says_then_it_fails(retries):
    PolicyFactory.create(training_retries=retries)
    run = lost()
    for died in range(1, retries + 1):
        assert training_leases.recover(by=BY) == [run]
        again = stored(run)
        assert (again.training_status, again.metadata["workers_died"]) == ("pending", died)
        assert (again.lease_id, again.leased_until, again.trainer) == (None, None, "")
        assert len(waiting_jobs(run)) == 1
        TrainingRun.objects.update(
            training_status="running", lease_id=uuid.uuid4(), leased_until=LONG_AGO
        )
    assert training_leases.recover(by=BY) == [run]
    failed = stored(run)
    assert failed.training_status == "failed"
    assert failed.error_message == "The worker that trained it died (attempt 1)."
    assert Alert.objects.get(alert_type="training_failed").is_resolved is False
    assert training_leases.recover(by=BY) == []


@pytest.mark.django_db
def test_recover_leaves_alone_whose_worker_lives_and_who_waits():
    runs = [at_work(), TrainingRunFactory.create(), TrainingRunFactory.create(failed=True)]
    before = list(TrainingRun.objects.order_by("id").values())
    assert training_leases.recover(by=BY) == []
    assert list(TrainingRun.objects.order_by("id").values()) == before
    assert len(before) == len(runs)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"lease_id": None}, "Whoever trains it did not report in time."),
        (
            {"lease_id": None, "training_status": "pending", "trainer": "external"},
            "Nobody took the run in time.",
        ),
    ],
)
def test_recover_fails_what_others_were_to_train_and_nobody_reported(fields, reason):
    run = lost(**fields)
    assert training_leases.recover(by=BY) == [run]
    assert (stored(run).training_status, stored(run).error_message) == ("failed", reason)
    assert Alert.objects.filter(alert_type="training_failed").count() == 1


@pytest.mark.django_db
def test_recover_goes_on_where_one_run_cannot_be_recovered():
    broken = lost(metadata={"workers_died": "many"}, leased_until=LONG_AGO - timedelta(hours=1))
    sound = lost()
    assert training_leases.recover(by=BY) == [sound]
    assert stored(broken).training_status == "running"


@pytest.mark.django_db(transaction=True)
def test_recover_by_many_at_once_decides_about_each_run_once():
    PolicyFactory.create(training_retries=1)
    again = [lost() for _ in range(5)]
    over = [lost(metadata={"workers_died": 1}) for _ in range(5)]
    answers = at_once(8, lambda _: training_leases.recover(by=BY))
    assert sorted(run.pk for runs in answers for run in runs) == sorted(
        run.pk for run in again + over
    )
    for run in again:
        assert (stored(run).training_status, stored(run).metadata["workers_died"]) == ("pending", 1)
        assert len(waiting_jobs(run)) == 1
    assert {stored(run).training_status for run in over} == {"failed"}
    assert Alert.objects.filter(alert_type="training_failed").count() == 5


@pytest.mark.django_db
def test_recover_enqueues_runs_again_whose_jobs_were_lost_and_no_others():
    forgotten = TrainingRunFactory.create(created_at=LONG_AGO)
    TrainingRunFactory.create()  # asked for just now
    TrainingRunFactory.create(created_at=LONG_AGO, trainer="external")
    TrainingRunFactory.create(created_at=LONG_AGO, retry_at=timezone.now() + timedelta(minutes=5))
    for _ in range(2):
        training_leases.recover(by=BY)
        jobs = ProcrastinateJob.objects.filter(task_name="train", status="todo")
        assert [job.args for job in jobs] == [{"run_id": str(forgotten.pk)}]


@pytest.mark.django_db
def test_recover_has_a_worker_take_what_waits_for_others_where_the_policy_names_a_trainer():
    run = TrainingRunFactory.create(trainer="external", leased_until=LONG_AGO)
    PolicyFactory.create(machine=run.machine, trainer={"kind": "energy_baseline"})
    assert training_leases.recover(by=BY) == []
    taken = stored(run)
    assert (taken.training_status, taken.trainer, taken.leased_until) == ("pending", "", None)
    assert len(waiting_jobs(run)) == 1
