"""Reports of those who train elsewhere: each ends a run once, whoever else still works on it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from modelperf.models import Alert, FeatureReference, ModelVersion, TrainingRun
from modelperf.services import training, training_leases, training_reports, training_work
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.training_failures import LOG_CHARACTERS
from modelperf.services.training_leases import Lease
from modelperf.trainers import HandedOver, TrainedModel, UnavailableError
from tests.factories import ModelVersionFactory, PolicyFactory, TrainingRunFactory
from tests.services.concurrency import at_once

BY = "key:tests"
HOUR = timedelta(hours=1)


def waiting(**fields: Any) -> TrainingRun:
    """Return a run that waits for somebody to take it."""
    given = {"trainer": "external", "leased_until": timezone.now() + HOUR}
    return TrainingRunFactory.create(**given | fields)


def at_work(**fields: Any) -> TrainingRun:
    """Return a run of a webhook that a worker of ours has just sent out."""
    given = {"trainer": "webhook", "attempt": 1, "training_status": "running"}
    lease = {"lease_id": uuid.uuid4(), "leased_until": timezone.now() + HOUR}
    return TrainingRunFactory.create(**given | lease | fields)


def trained(**fields: Any) -> TrainedModel:
    """Return what a trainer may bring."""
    given: dict[str, Any] = {
        "artefact": {"slope": 0.5},
        "feature_names": ("temperature",),
        "hyperparameters": {"depth": 3},
        "training_metrics": {"rmse": 1.0},
        "validation_metrics": {"rmse": 1.5, "mae": 1.1, "r_squared": 0.8},
        "training_samples": 8760,
    }
    return TrainedModel(**given | fields)


def completed(
    run: TrainingRun,
    model_id: uuid.UUID | None = None,
    as_asked: bool = False,
    **fields: Any,
) -> TrainingRun:
    return training_reports.completed(
        run=run, trained=trained(**fields), as_asked=as_asked, model_id=model_id, by=BY
    )


# --- start ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_started_takes_a_run_that_waits():
    before, run = timezone.now(), waiting()
    found = training_reports.started(run=run, by=BY)
    run.refresh_from_db()
    assert found == run
    assert (run.training_status, run.attempt, run.lease_id) == ("running", 1, None)
    assert before <= run.training_start == run.heartbeat_at
    assert run.leased_until == run.heartbeat_at + timedelta(days=7)  # as long as external waits
    assert run.metadata["started_by"] == BY


@pytest.mark.django_db
def test_started_waits_as_long_as_the_policys_trainer_says():
    run = waiting()
    document = {"kind": "external", "timeout_seconds": 90.0}
    PolicyFactory.create(machine=run.machine, trainer=document)
    found = training_reports.started(run=run, by=BY)
    assert found.leased_until == found.heartbeat_at + timedelta(seconds=90)


@pytest.mark.django_db
def test_started_waits_a_day_where_the_policy_names_another_trainer_by_now():
    run = waiting()
    PolicyFactory.create(machine=run.machine, trainer={"kind": "energy_baseline"})
    found = training_reports.started(run=run, by=BY)
    assert found.leased_until == found.heartbeat_at + timedelta(days=1)


@pytest.mark.django_db
def test_started_again_is_a_sign_of_life_and_begins_nothing_anew():
    run = waiting()
    first = training_reports.started(run=run, by=BY)
    again = training_reports.started(run=run, by=BY)
    assert (again.training_start, again.attempt) == (first.training_start, 1)
    assert again.heartbeat_at > first.heartbeat_at
    assert again.metadata["started_by"] == BY


@pytest.mark.django_db
def test_started_by_a_second_taker_conflicts_and_changes_nothing():
    run = waiting()
    training_reports.started(run=run, by=BY)
    before = TrainingRun.objects.values().get()
    with pytest.raises(ConflictError, match="Somebody else has taken") as caught:
        training_reports.started(run=run, by="key:other")
    assert caught.value.state == {"status": "running"}
    assert TrainingRun.objects.values().get() == before


@pytest.mark.django_db
def test_started_by_the_runs_own_token_counts_whoever_else_has_reported():
    run = at_work(lease_id=None, metadata={"started_by": BY})
    found = training_reports.started(run=run, by=f"run:{run.pk}")
    assert found.heartbeat_at is not None


@pytest.mark.django_db
def test_started_first_on_a_run_that_was_handed_over_starts_its_clock_once():
    run = at_work(lease_id=None, training_start=timezone.now() - HOUR)
    before = timezone.now()
    first = training_reports.started(run=run, by=BY)
    assert (first.training_start >= before, first.metadata["started_by"]) == (True, BY)
    again = training_reports.started(run=run, by=BY)
    assert again.training_start == first.training_start


@pytest.mark.django_db
def test_started_takes_a_run_that_waits_to_be_tried_again():
    run = waiting(trainer="webhook", attempt=2, leased_until=None, retry_at=timezone.now() + HOUR)
    found = training_reports.started(run=run, by=BY)
    assert (found.training_status, found.attempt, found.retry_at) == ("running", 2, None)
    assert training_work.work_on(run_id=run.pk, by="worker") is None


@pytest.mark.django_db
def test_started_knows_a_run_that_no_worker_has_seen_by_its_policy():
    run = waiting(trainer="", leased_until=None)
    PolicyFactory.create(
        machine=run.machine, trainer={"kind": "webhook", "url": "https://example.org/"}
    )
    found = training_reports.started(run=run, by=BY)
    assert (found.training_status, found.trainer) == ("running", "webhook")


@pytest.mark.django_db
@pytest.mark.parametrize("verb", ["started", "progressed", "completed", "failed"])
@pytest.mark.parametrize("kind", ["energy_baseline", "command"])
def test_a_run_that_modelperf_trains_takes_no_reports(verb, kind):
    calls = {
        "started": lambda run: training_reports.started(run=run, by=BY),
        "progressed": lambda run: training_reports.progressed(run=run, percent=1, by=BY),
        "completed": completed,
        "failed": lambda run: training_reports.failed(run=run, message="no", by=BY),
    }
    for run in (at_work(trainer=kind), waiting(trainer=kind, model_type="other")):
        before = TrainingRun.objects.filter(pk=run.pk).values().get()
        with pytest.raises(ConflictError, match="by modelperf itself"):
            calls[verb](run)
        assert TrainingRun.objects.filter(pk=run.pk).values().get() == before


@pytest.mark.django_db(transaction=True)
def test_started_at_once_begins_once():
    run = waiting()
    found = at_once(6, lambda n: training_reports.started(run=run, by=f"key:{n}"))
    (taker,) = [one for one in found if isinstance(one, TrainingRun)]
    refused = [one for one in found if isinstance(one, ConflictError)]
    assert len(refused) == 5
    run.refresh_from_db()
    assert run.metadata["started_by"] == taker.metadata["started_by"]


# --- progress -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_progressed_tells_how_far_it_is_and_extends_the_wait():
    run = at_work(lease_id=None, leased_until=timezone.now() + timedelta(seconds=1))
    training_reports.progressed(run=run, percent=40.5, message="fits trees", by=BY)
    run.refresh_from_db()
    assert (run.progress_percent, run.progress_message) == (40.5, "fits trees")
    assert run.leased_until == run.heartbeat_at + timedelta(days=1)
    training_reports.progressed(run=run, message="waits for a machine", by=BY)
    run.refresh_from_db()
    assert (run.progress_percent, run.progress_message) == (None, "waits for a machine")


@pytest.mark.django_db
@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan"), float("inf")])
def test_progressed_refuses_what_is_no_percentage(percent):
    run = waiting()
    with pytest.raises(InvalidError, match="percent"):
        training_reports.progressed(run=run, percent=percent, by=BY)
    run.refresh_from_db()
    assert run.training_status == "pending"


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["cancelled", "failed", "completed"])
def test_a_run_that_is_over_takes_no_signs_of_life(status):
    run = TrainingRunFactory.create(
        trainer="external",
        **{
            "cancelled": {"training_status": "cancelled", "training_end": timezone.now()},
            "failed": {"failed": True},
            "completed": {"completed": True},
        }[status],
    )
    for call in (training_reports.started, training_reports.progressed):
        with pytest.raises(ConflictError, match=f"{status} already") as caught:
            call(run=run, by=BY)
        assert caught.value.state == {"status": status}


# --- what a worker of ours still does about it ----------------------------------------------


@pytest.mark.django_db
def test_a_report_fences_off_the_worker_that_sent_the_request():
    run = at_work()
    lease = Lease(run.pk, run.lease_id)
    training_reports.started(run=run, by=BY)
    reported = TrainingRun.objects.filter(pk=run.pk).values().get()
    lease.beat()
    assert not lease.is_wanted()
    training_work._hand_over(run, lease, HandedOver(timeout_seconds=1))
    training_work._wait(run, lease, UnavailableError("no answer in time"))
    training_work._fail(run, lease, OSError("broken pipe"))
    assert TrainingRun.objects.filter(pk=run.pk).values().get() == reported


@pytest.mark.django_db
def test_a_report_that_comes_before_the_hand_over_ends_the_run_for_good():
    run = at_work()
    lease = Lease(run.pk, run.lease_id)
    completed(run)
    training_work._hand_over(run, lease, HandedOver(timeout_seconds=1))
    training_work._complete(run, lease, trained(artefact={"other": 1}), BY)
    run.refresh_from_db()
    assert (run.training_status, run.leased_until) == ("completed", None)
    assert ModelVersion.objects.get().artefact == {"slope": 0.5}


# --- complete -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_completed_registers_the_version_with_what_was_reported():
    run = waiting()
    training_reports.started(run=run, by=BY)
    key = uuid.uuid4()
    completed(run, model_id=key, log="epoch 1\nepoch 2\n")
    run.refresh_from_db()
    model = ModelVersion.objects.get()
    assert (model.pk, model.artefact, model.feature_names) == (
        key,
        {"slope": 0.5},
        ["temperature"],
    )
    assert (model.hyperparameters, model.is_active) == ({"depth": 3}, False)
    assert (run.training_status, run.model_id, run.model_version) == ("completed", key, 1)
    assert (run.training_samples, run.training_log) == (8760, "epoch 1\nepoch 2\n")
    assert (run.training_metrics, run.initial_rmse, run.initial_mae) == ({"rmse": 1.0}, 1.5, 1.1)
    duration = (run.training_end - run.training_start).total_seconds()
    assert run.training_duration_seconds == duration


@pytest.mark.django_db
def test_completed_without_a_start_knows_no_duration():
    run = waiting()
    found = completed(run, training_samples=None)
    assert (found.training_status, found.training_duration_seconds) == ("completed", None)
    assert (found.training_samples, found.training_start) == (None, run.training_start)


@pytest.mark.django_db
def test_completed_again_with_the_same_content_is_the_same():
    run = waiting()
    first, again = completed(run), completed(run)
    assert (again.model_id, again.training_end) == (first.model_id, first.training_end)
    assert ModelVersion.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "other",
    [
        {"artefact": {"slope": 0.6}},
        {"training_samples": 1},
        {"model_id": uuid.uuid4()},
        {"validation_metrics": {"rmse": 1.0}},
        {"reference_profiles": ({"columns": {"temperature": [1.0, 2.0]}},)},
    ],
)
def test_completed_again_with_other_content_conflicts(other):
    run = waiting()
    completed(run)
    with pytest.raises(ConflictError, match="completed already") as caught:
        completed(run, **other)
    assert caught.value.state == {"status": "completed"}
    assert ModelVersion.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_completed_at_once_registers_one_version():
    run = waiting()
    contents = [{"slope": 1}, {"slope": 2}]
    found = at_once(8, lambda n: completed(run, artefact=contents[n % 2]))
    conflicts = [one for one in found if isinstance(one, ConflictError)]
    models = {one.model_id for one in found if isinstance(one, TrainingRun)}
    assert (len(conflicts), len(models)) == (4, 1)
    assert ModelVersion.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("over", ["cancelled", "lost"])
def test_completed_too_late_conflicts_and_registers_nothing(over):
    run = waiting()
    training_reports.started(run=run, by=BY)
    if over == "cancelled":
        training.cancel(run=run, by=BY)
    else:
        training_leases.recover(by="worker", now=timezone.now() + timedelta(days=8))
    with pytest.raises(ConflictError, match="already") as caught:
        completed(run)
    assert caught.value.state["status"] == {"cancelled": "cancelled", "lost": "failed"}[over]
    assert not ModelVersion.objects.exists()


@pytest.mark.django_db
def test_completed_under_the_id_of_another_model_conflicts_and_the_run_goes_on():
    run = waiting()
    taken = ModelVersionFactory.create(machine=run.machine)
    with pytest.raises(ConflictError, match=str(taken.pk)):
        completed(run, model_id=taken.pk)
    run.refresh_from_db()
    assert run.training_status == "pending"
    assert completed(run).training_status == "completed"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"validation_metrics": {"rmse": float("nan")}}, "validation_metrics"),
        ({"training_metrics": {"rmse": float("inf")}}, "training_metrics"),
        ({"training_metrics": {"": 1.0}}, "training_metrics"),
        ({"training_metrics": {"a\x00": 1.0}}, "training_metrics"),
        ({"artefact": {"a": float("nan")}}, "artefact"),
        ({"feature_names": ("a\x00",)}, "feature_names"),
    ],
)
def test_completed_with_what_cannot_be_stored_is_refused_and_the_run_goes_on(fields, place):
    run = waiting()
    with pytest.raises(InvalidError) as caught:
        completed(run, **fields)
    assert caught.value.errors[0].loc == ("body", place)
    run.refresh_from_db()
    assert (run.training_status, run.metadata) == ("pending", {})
    assert not ModelVersion.objects.exists()


@pytest.mark.django_db
def test_completed_does_what_the_policy_says_comes_next():
    active = ModelVersionFactory.create(is_active=True)
    PolicyFactory.create(machine=active.machine, after_training="activate")
    found = completed(waiting(machine=active.machine))
    assert ModelVersion.objects.active().get().pk == found.model_id


@pytest.mark.django_db
def test_completed_as_asked_has_the_hyperparameters_of_the_policys_trainer():
    run = waiting()
    document = {"kind": "external", "hyperparameters": {"depth": 7}}
    policy = PolicyFactory.create(machine=run.machine, trainer=document)
    found = completed(run, as_asked=True, hyperparameters={})
    model = ModelVersion.objects.get()
    assert found.hyperparameters == model.hyperparameters == {"depth": 7}
    policy.trainer = {"kind": "external", "hyperparameters": {"depth": 8}}
    policy.save()
    assert completed(run, as_asked=True, hyperparameters={}) == found
    with pytest.raises(ConflictError, match="completed already"):
        completed(run, hyperparameters={})


@pytest.mark.django_db
def test_completed_as_asked_has_none_where_the_policy_names_another_trainer_by_now():
    run = waiting()
    document = {"kind": "energy_baseline", "hyperparameters": {"depth": 7}}
    PolicyFactory.create(machine=run.machine, trainer=document)
    assert completed(run, as_asked=True, hyperparameters={}).hyperparameters == {}


# --- reference profiles ---------------------------------------------------------------------


@pytest.mark.django_db
def test_completed_makes_its_profiles_the_references_of_the_new_version():
    run = waiting()
    window = {"window_start": "2025-01-01T00:00:00Z", "window_end": "2025-07-01T00:00:00Z"}
    profiles = (
        {"columns": {"temperature": [1.0, 2.0, None], "wind": [0, 1, 2]}, "targets": "wind"},
        {"counts": {"holiday": {"values": [True, False], "counts": [3, 9]}}, **window},
    )
    found = completed(run, reference_profiles=profiles)
    stored = {one.name: one for one in FeatureReference.objects.all()}
    assert stored.keys() == {"temperature", "wind", "holiday"}
    assert {one.model_id for one in stored.values()} == {found.model_id}
    assert (stored["temperature"].n, stored["temperature"].role) == (2, "feature")
    assert (stored["wind"].role, stored["holiday"].kind) == ("target", "categorical")
    assert stored["wind"].window_start == run.training_data_start
    assert stored["wind"].window_end == run.training_data_end
    assert f"{stored['holiday'].window_end:%F}" == "2025-07-01"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"columns": {"a": [1.0]}, "counts": {"b": {"values": [1], "counts": [1]}}},
        {"columns": {"a": [1.0], "b": [1.0, 2.0]}},
        {"columns": {"a": [1.0, "x"]}},
        {"columns": {"": [1.0, 2.0]}},
        {"columns": {"a": [1.0, 2.0]}, "targets": "b"},
        {"columns": {"a": [1.0, 2.0]}, "targets": "a", "predictions": ["a"]},
        {"columns": {"a": [1.0, 2.0]}, "window_start": "2025-01-01T00:00:00Z"},
        {"columns": {"a": [1.0, 2.0]}, "model_id": str(uuid.uuid4())},
        {"columns": {"a": [1.0, 2.0]}, "role": "current"},
        {"counts": {"a": {"values": [1, 2], "counts": [1]}}},
        {"columns": {"first": [1.0, 2.0]}},
    ],
)
def test_completed_with_profiles_that_are_none_is_refused_as_a_whole(wrong):
    run = waiting()
    first = {"columns": {"first": [1.0, 2.0]}}
    with pytest.raises(InvalidError, match="reference_profiles") as caught:
        completed(run, reference_profiles=(first, wrong))
    assert caught.value.errors[0].loc == ("body", "reference_profiles", 1)
    run.refresh_from_db()
    assert run.training_status == "pending"
    assert not FeatureReference.objects.exists()
    assert not ModelVersion.objects.exists()


# --- fail -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_failed_ends_the_run_with_its_reason_and_one_alert():
    run = waiting()
    training_reports.started(run=run, by=BY)
    log = "x" * LOG_CHARACTERS + "the end"
    training_reports.failed(run=run, message="no data", trace="line 3", put_out=log, by=BY)
    run.refresh_from_db()
    assert (run.training_status, run.error_message) == ("failed", "no data")
    assert run.error_traceback == "line 3"
    assert run.training_log.endswith("xthe end")
    assert len(run.training_log) == LOG_CHARACTERS
    assert run.training_duration_seconds is not None
    assert Alert.objects.get().alert_type == "training_failed"


@pytest.mark.django_db
def test_the_alert_of_a_failed_run_names_the_run_and_not_what_it_put_out():
    run = waiting()
    put_out = {"message": "secret host", "trace": "secret line", "put_out": "secret epoch"}
    training_reports.failed(run=run, by=BY, **put_out)
    alert = Alert.objects.get()
    name = f"{run.machine.name} · {run.model_type}"
    assert alert.alert_message == f"{name}: a training failed; its run says why."
    assert alert.alert_details["training_run"] == str(run.pk)
    assert "secret" not in str(Alert.objects.values().get())


@pytest.mark.django_db
def test_failed_again_is_the_same_and_otherwise_a_conflict():
    run = waiting()
    first = training_reports.failed(run=run, message="no data", by=BY)
    again = training_reports.failed(run=run, message="no data", by=BY)
    assert again.training_end == first.training_end
    with pytest.raises(ConflictError, match="failed already"):
        training_reports.failed(run=run, message="another reason", by=BY)
    with pytest.raises(ConflictError, match="failed already"):
        completed(run)
    assert Alert.objects.get().occurrences == 1


@pytest.mark.django_db
@pytest.mark.parametrize("message", ["", "  ", "a\x00"])
def test_failed_says_why(message):
    run = waiting()
    with pytest.raises(InvalidError):
        training_reports.failed(run=run, message=message, by=BY)
    run.refresh_from_db()
    assert run.training_status == "pending"


@pytest.mark.django_db
def test_failed_after_completion_changes_nothing():
    run = waiting()
    completed(run)
    with pytest.raises(ConflictError, match="completed already"):
        training_reports.failed(run=run, message="no data", by=BY)
    run.refresh_from_db()
    assert (run.training_status, run.error_message) == ("completed", "")
    assert not Alert.objects.exists()
