"""Training runs: one unfinished per series, trained for real, failing honestly."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from modelperf.models import Machine, ModelVersion, Policy, TrainingRun
from modelperf.services import training
from modelperf.services.errors import ConflictError, InvalidError
from tests.api.calls import ROOT
from tests.factories import (
    MachineFactory,
    ModelVersionFactory,
    PolicyFactory,
    TrainingRunFactory,
)
from tests.services.concurrency import at_once
from tests.services.trainers import trained_by

BY = "user:tests"
YEAR = (datetime(2015, 11, 22, 6, tzinfo=UTC), datetime(2016, 11, 22, 6, tzinfo=UTC))
DEMO = {"kind": "demo", "meter": "il-gas-hdd-only"}


def trigger(machine: Machine, **values):
    given = {"machine": machine, "model_type": "baseline", "reason": "the works are over", "by": BY}
    return training.trigger(**given | values)


def known(**fields) -> Machine:
    """Return a machine that has a model."""
    return ModelVersionFactory.create(machine=MachineFactory.create(**fields)).machine


def meter() -> Machine:
    machine = MachineFactory.create()
    PolicyFactory.create(machine=machine, training_source=DEMO)
    return machine


# --- trigger --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_trigger_stores_a_pending_run_with_its_reason_and_window():
    before = timezone.now()
    answer = trigger(known(), trigger_type="drift_detected")
    run = TrainingRun.objects.get()
    assert answer.triggered
    assert (answer.training_job_id, answer.reason) == (run.pk, "the works are over")
    assert answer.trigger_type == "drift_detected"
    assert answer.estimated_completion is None
    assert (run.training_status, run.trigger_type) == ("pending", "drift_detected")
    assert (run.reason, run.triggered_by) == ("the works are over", BY)
    assert run.training_data_end - run.training_data_start == timedelta(days=365)
    assert before <= run.training_data_end == run.training_start


@pytest.mark.django_db
def test_trigger_with_a_window_keeps_it():
    trigger(known(), data_start=YEAR[0], data_end=YEAR[1])
    run = TrainingRun.objects.get()
    assert (run.training_data_start, run.training_data_end) == YEAR


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["pending", "running"])
def test_trigger_while_a_run_is_unfinished_stores_nothing_and_says_so(state):
    run = TrainingRunFactory.create(machine=known(), training_status=state)
    answer = trigger(run.machine)
    assert not answer.triggered
    assert "already in progress" in answer.reason
    assert answer.training_job_id is None
    assert TrainingRun.objects.count() == 1
    ModelVersionFactory.create(machine=run.machine, model_type="other")
    assert trigger(run.machine, model_type="other").triggered


@pytest.mark.django_db
def test_trigger_after_a_finished_run_starts_another():
    run = TrainingRunFactory.create(machine=known(), failed=True)
    assert trigger(run.machine).triggered


@pytest.mark.django_db(transaction=True)
def test_trigger_24_at_once_starts_one():
    machine = known()
    answers = at_once(24, lambda n: trigger(machine, reason=f"reason {n}"))
    started = [answer for answer in answers if answer.triggered]
    assert len(started) == 1
    assert TrainingRun.objects.get().reason == started[0].reason
    assert all("already in progress" in a.reason for a in answers if not a.triggered)


@pytest.mark.django_db
def test_trigger_estimates_the_end_by_the_median_of_the_series_own_runs():
    machine = MachineFactory.create()
    for seconds in (10.0, 20.0, 600.0):
        TrainingRunFactory.create(
            completed=True, machine=machine, training_duration_seconds=seconds
        )
    TrainingRunFactory.create(completed=True, training_duration_seconds=5000.0)
    answer = trigger(machine)
    run = TrainingRun.objects.get(pk=answer.training_job_id)
    assert answer.estimated_completion == run.training_start + timedelta(seconds=20)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"reason": " "}, "reason"),
        ({"reason": "a\x00"}, "reason"),
        ({"trigger_type": "whim"}, "trigger_type"),
        ({"model_type": "two words"}, "model_type"),
        ({"model_type": "a\x00"}, "model_type"),
        ({"data_start": YEAR[1], "data_end": YEAR[0]}, "data_end"),
    ],
)
def test_trigger_with_a_wrong_value_names_the_field(values, field):
    with pytest.raises(InvalidError) as caught:
        trigger(MachineFactory.create(), **values)
    assert caught.value.errors[0].loc == ("body", field)
    assert not TrainingRun.objects.exists()


@pytest.mark.django_db
def test_trigger_for_a_retired_machine_conflicts():
    with pytest.raises(ConflictError, match="retired"):
        trigger(MachineFactory.create(is_active=False))


@pytest.mark.django_db
def test_trigger_of_a_series_with_neither_version_nor_source_is_refused():
    machine = MachineFactory.create()
    ModelVersionFactory.create(machine=machine, model_type="other")
    PolicyFactory.create(training_source=DEMO, model_type="other")
    with pytest.raises(InvalidError, match="Nothing says where the readings come from") as caught:
        trigger(machine)
    assert caught.value.errors[0].loc == ("body", "model_type")
    assert f"Set training_source in the policy: PUT {ROOT}/policies/baseline" in str(caught.value)
    assert not TrainingRun.objects.exists()


@pytest.mark.django_db
def test_trigger_of_a_series_whose_trainer_has_no_source_is_refused():
    machine = known()
    PolicyFactory.create(trainer={"kind": "energy_baseline"})
    with pytest.raises(InvalidError, match="Set training_source in the policy"):
        trigger(machine)
    PolicyFactory.create(machine=machine, training_source=DEMO)
    assert trigger(machine).triggered


@pytest.mark.django_db
def test_trigger_of_a_series_that_others_train_waits_for_them_as_long_as_the_policy_says():
    PolicyFactory.create(trainer={"kind": "external", "timeout_seconds": 7200})
    trigger(MachineFactory.create())
    run = TrainingRun.objects.get()
    assert run.trainer == "external"
    assert run.leased_until == run.created_at + timedelta(hours=2)
    assert not waiting_jobs(run)


@pytest.mark.django_db
def test_trigger_of_a_series_with_versions_and_nothing_else_waits_for_others():
    trigger(known())
    assert TrainingRun.objects.get().trainer == "external"


@pytest.mark.django_db
def test_trigger_has_a_worker_train_it_and_leaves_no_job_where_it_is_taken_back():
    with transaction.atomic():
        trigger(meter())
        transaction.set_rollback(True)
    assert not ProcrastinateJob.objects.filter(task_name="train").exists()
    trigger(meter())
    run = TrainingRun.objects.get()
    (job,) = waiting_jobs(run)
    assert (job.queue_name, job.args) == ("training", {"run_id": str(run.pk)})


def waiting_jobs(run: TrainingRun) -> list[ProcrastinateJob]:
    return list(ProcrastinateJob.objects.filter(queueing_lock=f"train:{run.pk}"))


# --- run_pending ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_run_pending_trains_a_model_that_is_registered_inactive():
    machine = meter()
    trigger(machine, data_start=YEAR[0], data_end=YEAR[1])
    (run,) = training.run_pending(by="command:tests")
    stored, model = TrainingRun.objects.get(), ModelVersion.objects.get()
    assert stored == run
    assert stored.training_status == "completed"
    assert (stored.model, stored.model_version, model.is_active) == (model, 1, False)
    assert model.artefact["heating_point_c"] == 15.0
    assert model.feature_names == stored.feature_names == ["temperature_c", "hour_of_day"]
    assert model.hyperparameters == stored.hyperparameters
    assert model.trained_at == stored.training_end
    assert stored.training_samples == 366 * 24
    for name in ("r_squared", "rmse", "mae"):
        assert getattr(stored, f"initial_{name}") == stored.validation_metrics[name]
    assert 0.3 < stored.initial_r_squared < stored.training_metrics["r_squared"]
    assert stored.training_duration_seconds > 0
    assert (stored.attempt, stored.progress_percent, stored.lease_id) == (1, 100.0, None)
    assert stored.error_message == ""


@pytest.mark.django_db
def test_run_pending_takes_the_oldest_first_and_tells_of_each():
    first, second = meter(), meter()
    trigger(first, data_start=YEAR[0], data_end=YEAR[1])
    trigger(second, data_start=YEAR[0], data_end=YEAR[1])
    told = []
    training.run_pending(
        by=BY, progress=lambda run: told.append((run.machine_id, str(run.training_status)))
    )
    assert told == [
        (first.pk, "running"),
        (first.pk, "completed"),
        (second.pk, "running"),
        (second.pk, "completed"),
    ]
    assert training.run_pending(by=BY) == []


@pytest.mark.django_db
def test_run_pending_of_one_machine_leaves_the_others_waiting():
    first, second = meter(), meter()
    trigger(first, data_start=YEAR[0], data_end=YEAR[1])
    trigger(second, data_start=YEAR[0], data_end=YEAR[1])
    (run,) = training.run_pending(by=BY, machine=second)
    assert run.machine == second
    assert TrainingRun.objects.get(machine=first).training_status == "pending"


@pytest.mark.django_db
def test_run_pending_leaves_to_others_what_others_train():
    trigger(known())
    assert training.run_pending(by=BY) == []
    assert TrainingRun.objects.get().training_status == "pending"


@pytest.mark.django_db
def test_run_pending_whose_source_was_taken_away_fails_and_says_what_to_set():
    machine = meter()
    trigger(machine)
    Policy.objects.update(training_source=None, trainer={"kind": "energy_baseline"})
    (run,) = training.run_pending(by=BY)
    run.refresh_from_db()
    assert run.training_status == "failed"
    assert "training_source" in run.error_message
    assert "Traceback" in run.error_traceback
    assert run.model is None
    assert not ModelVersion.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("trainer", "source", "word"),
    [
        ({"kind": "crystal_ball"}, DEMO, "kind of a trainer is one of"),
        ({"kind": "energy_baseline"}, {"kind": "demo", "meter": "nowhere"}, "nowhere"),
        ({"kind": "energy_baseline"}, {"kind": "sky"}, "kind"),
        ({"kind": "energy_baseline"}, DEMO, "no readings"),
        ({"kind": "energy_baseline", "hyperparameters": [1]}, DEMO, "hyperparameters"),
        (None, {"kind": "demo", "meter": "uk-gas"}, "no readings"),
    ],
)
def test_run_pending_with_a_setup_that_cannot_train_fails_with_the_reason(trainer, source, word):
    machine = known()
    PolicyFactory.create(training_source=source, trainer=trainer)
    trigger(machine)
    (run,) = training.run_pending(by=BY)
    assert run.training_status == "failed"
    assert word in run.error_message


@pytest.mark.django_db
def test_run_pending_whose_trainer_breaks_fails_with_its_traceback_and_goes_on():
    broken, sound = trained_by("breaks"), meter()
    trigger(broken)
    trigger(sound, data_start=YEAR[0], data_end=YEAR[1])
    runs = training.run_pending(by=BY)
    assert [run.training_status for run in runs] == ["failed", "completed"]
    run = TrainingRun.objects.get(machine=broken)
    assert run.error_message == "ZeroDivisionError: division by zero"
    assert "raise ZeroDivisionError" in run.error_traceback
    assert run.training_end is not None
    assert trigger(broken).triggered


@pytest.mark.django_db
def test_run_pending_interrupted_lets_the_run_wait_again_and_passes_the_interrupt_on():
    trigger(trained_by("interrupted"))
    with pytest.raises(KeyboardInterrupt):
        training.run_pending(by=BY)
    run = TrainingRun.objects.get()
    assert (run.training_status, run.error_message) == ("pending", "")
    assert (run.lease_id, run.leased_until) == (None, None)
    assert len(waiting_jobs(run)) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("trainer", "status"),
    [
        ("cancelled_meanwhile", "cancelled"),
        ("retired_meanwhile", "failed"),
        ("bad_artefact", "failed"),
    ],
)
def test_run_pending_that_cannot_be_completed_registers_nothing(trainer, status):
    trigger(trained_by(trainer))
    (run,) = training.run_pending(by=BY)
    assert run.training_status == status
    stored = TrainingRun.objects.get()
    assert (stored.training_status, stored.model, stored.training_samples) == (status, None, None)
    assert not ModelVersion.objects.exists()


@pytest.mark.django_db
def test_run_pending_gives_the_trainer_the_previous_version():
    machine = trained_by("learns_nothing")
    for _ in range(2):
        trigger(machine)
        training.run_pending(by=BY)
    artefacts = ModelVersion.objects.order_by("model_version").values_list("artefact", flat=True)
    assert [artefact["previous"] for artefact in artefacts] == [None, 1]


@pytest.mark.django_db(transaction=True)
def test_run_pending_in_eight_threads_trains_every_run_once():
    machines = [trained_by("learns_nothing") for _ in range(6)]
    for machine in machines:
        trigger(machine)
    answers = at_once(8, lambda _: training.run_pending(by=BY))
    assert sum(len(runs) for runs in answers) == 6
    assert ModelVersion.objects.count() == 6
    assert set(ModelVersion.objects.values_list("model_version", flat=True)) == {1}


RUN = (
    "import django; django.setup()\n"
    "from modelperf.services import training\n"
    "print(len(training.run_pending(by='process')))\n"
)


@pytest.mark.django_db(transaction=True)
def test_run_pending_in_two_processes_trains_every_run_once():
    from django.db import connection

    for _ in range(4):
        trigger(meter(), data_start=YEAR[0], data_end=YEAR[1])
    environment = {**os.environ, "MODELPERF_TEST_DATABASE": connection.settings_dict["NAME"]}
    code = (
        "from django.conf import settings\n"
        "import os\n"
        "settings.DATABASES['default']['NAME'] = os.environ['MODELPERF_TEST_DATABASE']\n" + RUN
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    trained = [int(process.communicate(timeout=120)[0].split()[-1]) for process in processes]
    assert sum(trained) == 4
    assert TrainingRun.objects.filter(training_status="completed").count() == 4
    assert ModelVersion.objects.count() == 4


# --- cancel ---------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["pending", "running"])
def test_cancel_ends_an_unfinished_run_and_frees_the_series(state):
    run = TrainingRunFactory.create(machine=known(), training_status=state)
    cancelled = training.cancel(run=run, by=BY)
    assert cancelled.training_status == "cancelled"
    assert cancelled.metadata["cancelled_by"] == BY
    assert trigger(run.machine).triggered


@pytest.mark.django_db
def test_cancel_of_a_finished_run_conflicts():
    run = TrainingRunFactory.create(failed=True)
    with pytest.raises(ConflictError, match="failed already"):
        training.cancel(run=run, by=BY)
