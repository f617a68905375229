"""Retrainings that alerts and the calendar ask for: which are triggered, and on what data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from modelperf.models import Alert, CheckRun, ModelVersion, Series, TrainingRun
from modelperf.services import (
    alerts,
    checks,
    drift,
    metrics,
    policies,
    registry,
    retraining,
    training,
)
from tests.factories import AlertFactory, CheckRunFactory, ModelVersionFactory
from tests.services import loop
from tests.services.builders import START, evaluation, noisy
from tests.services.concurrency import at_once
from tests.services.loop import BY, CHECKED, DAY, N, alert_of, fallen, follow, reasons

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(CHECKED) as clock:
        yield clock


def test_a_degraded_series_is_trained_anew_once() -> None:
    (model,) = fallen(45)
    followed = follow()
    run = TrainingRun.objects.get()
    assert followed.triggered == [run]
    alert = alert_of(model)
    assert (run.machine, run.trigger_type) == (model.machine, alert.alert_type)
    assert (run.alert, run.reason) == (alert, alert.alert_message)
    assert run.triggered_by == "system:retraining"
    assert run.training_data_end == START + N * DAY  # the end of the newest evaluation
    assert run.training_data_end - run.training_data_start == 365 * DAY
    assert (alert.auto_action_taken, alert.auto_action_type) == (True, "retrain")
    assert alert.auto_action_result == {"training_run": str(run.pk)}
    assert reasons(follow()) == ["A training is under way."]
    assert TrainingRun.objects.count() == 1
    said = alert_of(model)
    assert said.auto_action_taken
    assert said.auto_action_result == {
        "training_run": str(run.pk),
        "waits": "A training is under way.",
    }


def test_only_what_came_since_the_change_where_the_policy_says_so() -> None:
    (model,) = fallen(45, train_since_change=True)
    follow()
    changed_at = datetime.fromisoformat(alert_of(model).alert_details["changed_at"])
    assert abs(changed_at - (START + 45 * DAY)) <= 3 * DAY
    assert TrainingRun.objects.get().training_data_start == changed_at


def test_a_change_before_the_window_of_the_policy_does_not_widen_it() -> None:
    fallen(30, train_since_change=True, training_window_days=10)
    follow()
    run = TrainingRun.objects.get()
    assert run.training_data_end - run.training_data_start == 10 * DAY


@pytest.mark.parametrize("kind", ["drift_detected", "performance_degradation"])
def test_the_run_tells_what_triggered_it(kind: str) -> None:
    loop.automatic()
    model = ModelVersionFactory.create(is_active=True)
    values = noisy(1, N, fall_at=45) if kind == "drift_detected" else [*noisy(1, N - 2), 30.0, 31.0]
    loop.record(model, values)
    checks.run(by=BY)
    follow()
    assert alert_of(model).alert_type == TrainingRun.objects.get().trigger_type == kind


def test_not_before_a_check_of_the_fleet_has_looked_at_it(clock: time_machine.Traveller) -> None:
    CheckRunFactory.create()  # one from before
    clock.shift(1)
    (model,) = fallen(45, checked=False)
    metrics.record(evaluation=evaluation(model, N, metrics={"mae": 1.5}, **ends_now()), by=BY)
    assert alert_of(model).state == "open"
    assert follow() == retraining.Followed()
    checks.run(by=BY, machine=model.machine)
    checks.run(by=BY, model_type=model.model_type)
    assert follow() == retraining.Followed()
    checks.run(by=BY)
    assert len(follow().triggered) == 1


def test_what_a_check_has_left_out_waits_for_the_next_one(clock: time_machine.Traveller) -> None:
    models = fallen(*[45] * 8, checked=False, retrain_daily_cap=100)
    for model in models:
        drift.check(model=model, by=BY)
    assert Alert.objects.unresolved().filter(machine__isnull=False).count() == 8
    clock.shift(DAY)

    def record_meanwhile(n_judged: int, _n: int) -> None:
        if n_judged == 1:
            for model in models[1:]:
                metrics.record(evaluation=evaluation(model, N, metrics={"mae": 1.5}), by=BY)

    assert checks.run(by=BY, progress=record_meanwhile).n_skipped == 7
    assert {run.machine for run in follow().triggered} <= {models[0].machine}
    checks.run(by=BY)
    assert Alert.objects.unresolved().filter(machine=None).count() == 1
    assert follow().triggered == []


def ends_now() -> dict[str, datetime]:
    return {"evaluation_start": CHECKED - DAY, "evaluation_end": CHECKED}


def test_before_the_first_check_nothing_is_trained() -> None:
    loop.automatic()
    AlertFactory.create()
    assert not CheckRun.objects.exists()
    assert follow() == retraining.Followed()


def test_without_the_policy_nothing_is_trained() -> None:
    one, other = fallen(40, 50, retrain_automatically=False)
    assert Alert.objects.unresolved().count() == 2
    assert follow() == retraining.Followed()
    policies.set_policy(
        model_type="baseline",
        machine=other.machine,
        values={"retrain_automatically": True},
        by=BY,
    )
    (run,) = follow().triggered
    assert run.machine_id == other.machine_id != one.machine_id


def test_a_retired_machine_is_not_trained() -> None:
    (model,) = fallen(45)
    registry.retire_machine(machine=model.machine, by=BY)
    assert follow() == retraining.Followed()
    registry.return_machine(machine=model.machine, by=BY)
    assert len(follow().triggered) == 1


def test_what_a_person_has_resolved_is_not_trained() -> None:
    (model,) = fallen(45)
    alerts.resolve(alert=alert_of(model), by="user:ada", action="accepted")
    assert follow() == retraining.Followed()


@pytest.mark.parametrize("state", ["acknowledged", "snoozed"])
def test_an_alert_that_was_seen_is_trained_all_the_same(state: str) -> None:
    fallen(45)
    Alert.objects.update(state=state, snoozed_until_worse=state == "snoozed")
    assert len(follow().triggered) == 1


def test_a_window_that_alone_lies_far_off_trains_nothing() -> None:
    loop.automatic(alert_on_outlier=True)
    model = ModelVersionFactory.create(is_active=True)
    loop.record(model, [*noisy(1, N - 1), 2.2])
    checks.run(by=BY)
    assert alert_of(model).alert_details["rule"] == "outlier"
    assert follow() == retraining.Followed()


def test_what_machines_have_in_common_trains_none_of_them() -> None:
    models = fallen(*[45] * 8)
    assert Alert.objects.unresolved().get().machine_id is None
    assert follow() == retraining.Followed()
    # Of a member's alert that is there all the same, too.
    alert = AlertFactory.create(model=models[0], alert_timestamp=START)
    assert reasons(follow()) == ["The machine has it in common with others."]
    assert not TrainingRun.objects.exists()
    Alert.objects.filter(pk=alert.pk).update(alert_details={"rule": "own_part"})
    (run,) = follow().triggered
    assert (run.machine, run.alert) == (models[0].machine, alert)


def test_its_own_part_is_trained_even_where_something_worse_is_shared() -> None:
    models = fallen(*[45] * 8)
    AlertFactory.create(model=models[0], severity="critical", alert_timestamp=START)
    own = AlertFactory.create(
        model=models[0], alert_details={"rule": "own_part"}, alert_timestamp=START
    )
    (run,) = follow().triggered
    assert run.alert == own


def test_what_is_common_of_another_kind_keeps_nobody_from_training() -> None:
    one, two, three = fallen(30, 40, 50, expected_cadence_seconds=86_400)
    shared = AlertFactory.create(fleet=True, alert_type="evaluation_missing")
    for model in (one, two, three):
        shared.members.create(
            machine=model.machine, model=model, condition_key=str(model.pk), joined_at=CHECKED
        )
    assert len(follow().triggered) == 3


def test_the_worst_comes_first_under_the_cap_of_a_type(clock: time_machine.Traveller) -> None:
    mild, severe, other = fallen(40, 50, 30, retrain_daily_cap=1)
    Alert.objects.filter(machine=severe.machine).update(severity="critical")
    Alert.objects.exclude(machine=severe.machine).update(severity="warning")
    followed = follow()
    assert [run.machine_id for run in followed.triggered] == [severe.machine_id]
    assert reasons(followed) == ["1 automatic runs of baseline within a day."] * 2
    loop.trained()
    clock.shift(DAY - timedelta(minutes=5))
    assert follow().triggered == []
    clock.shift(timedelta(minutes=10))
    assert len(follow().triggered) == 1
    clock.shift(DAY)
    assert len(follow().triggered) == 1
    trained = TrainingRun.objects.values_list("machine_id", flat=True)
    assert set(trained) == {mild.machine_id, severe.machine_id, other.machine_id}


def test_the_fleet_has_a_cap_over_all_types(settings: object) -> None:
    settings.RETRAIN_DAILY_CAP = 3  # type: ignore[attr-defined]
    fallen(30, 50)
    fallen(35, 55, model_type="other")
    followed = follow()
    assert len(followed.triggered) == 3
    assert reasons(followed) == ["3 automatic runs of the fleet within a day."]


def test_a_cap_of_zero_trains_nothing() -> None:
    fallen(45, retrain_daily_cap=0)
    assert follow().triggered == []


def test_runs_of_people_do_not_count_for_the_caps() -> None:
    (model,) = fallen(45, retrain_daily_cap=1)
    for other in ModelVersionFactory.create_batch(3):
        training.trigger(machine=other.machine, model_type="baseline", reason="new", by="user:ada")
    assert [run.machine for run in follow().triggered] == [model.machine]


def test_a_series_that_cannot_be_trained_stops_no_other() -> None:
    one, other = fallen(40, 50)
    # Not by way of the service, which would refuse it.
    policies.set_policy(model_type="baseline", machine=one.machine, values={"q": 0.01}, by=BY)
    one.machine.policies.update(trainer={"kind": "external", "timeout_seconds": 1})
    followed = follow()
    assert [run.machine for run in followed.triggered] == [other.machine]
    assert reasons(followed) == ["It could not be asked for: the log says why."]


def test_an_alert_that_cannot_be_raised_stops_no_other(clock: time_machine.Traveller) -> None:
    failing = {"kind": "tests-loop", "outcome": "fails"}
    one, other = fallen(40, 50, trainer=failing, retrain_tries=1)
    follow()
    loop.trained()
    clock.shift(2 * DAY)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "ALTER TABLE model_alerts ADD CONSTRAINT tests_refuse CHECK ("
            f"machine_id <> '{one.machine_id}' OR alert_type <> 'retraining_not_helping')"
        )
    assert sorted(reasons(follow())) == [
        "1 retraining has not helped; 1 failed.",
        "It could not be asked for: the log says why.",
    ]
    told = Alert.objects.get(alert_type="retraining_not_helping")
    assert told.machine == other.machine


def statements(n: int) -> int:
    """Return how many statements a look takes at as many alerts more, with nothing new."""
    for model in ModelVersionFactory.create_batch(n, is_active=True):
        AlertFactory.create(model=model, alert_timestamp=START)
    Series.objects.update(checked_at=CHECKED)
    assert len(follow().waiting) == Alert.objects.count()
    with CaptureQueriesContext(connection) as captured:
        assert len(follow().waiting) == Alert.objects.count()
    return len(captured)


def test_a_look_that_finds_nothing_new_costs_the_same_for_any_number_of_alerts() -> None:
    loop.automatic(retrain_daily_cap=0)
    assert statements(10) == statements(40)


def test_why_nothing_can_be_trained_stands_with_the_alert() -> None:
    (model,) = fallen(45, trainer={"kind": "energy_baseline"})
    (reason,) = reasons(follow())
    assert "Set training_source in the policy" in reason
    alert = alert_of(model)
    assert not alert.auto_action_taken
    assert alert.auto_action_result == {"waits": reason}


@pytest.mark.django_db(transaction=True)
def test_of_several_that_follow_at_once_each_series_has_one_run() -> None:
    models = fallen(30, 40, 50)
    triggered = []
    for one in at_once(6, lambda _: follow()):
        assert isinstance(one, retraining.Followed)
        triggered += one.triggered
    assert sorted(run.machine_id for run in triggered) == sorted(one.machine_id for one in models)


# --- by the calendar --------------------------------------------------------------------------


def serving(n: int, **policy: object) -> list[ModelVersion]:
    loop.automatic(**{"retrain_automatically": False, "retrain_every_seconds": 7 * 86_400} | policy)
    trained_at = CHECKED - 6 * DAY
    return ModelVersionFactory.create_batch(n, is_active=True, trained_at=trained_at)


def test_what_serves_is_trained_by_the_calendar(clock: time_machine.Traveller) -> None:
    (model,) = serving(1)
    ModelVersionFactory.create()  # serves nobody
    assert follow().triggered == []
    clock.shift(DAY)
    (run,) = follow().triggered
    assert (run.trigger_type, run.machine, run.alert) == ("scheduled", model.machine, None)
    assert (run.reason, run.triggered_by) == ("Trained every 7 days.", "system:retraining")
    assert follow().triggered == []
    loop.trained()
    clock.shift(6 * DAY)
    assert follow().triggered == []
    clock.shift(DAY)
    assert len(follow().triggered) == 1


def test_a_scheduled_run_that_failed_waits_for_its_next_time(
    clock: time_machine.Traveller,
) -> None:
    serving(1, trainer={"kind": "tests-loop", "outcome": "fails"})
    for day in range(1, 15):
        clock.shift(DAY)
        follow()
        loop.trained()
        assert TrainingRun.objects.count() == (1 if day < 8 else 2)


def test_scheduled_runs_have_the_same_caps_and_who_waits_longest_comes_first(
    clock: time_machine.Traveller,
) -> None:
    first, *others = serving(5, retrain_daily_cap=2)
    ModelVersion.objects.filter(pk=first.pk).update(trained_at=CHECKED - 30 * DAY)
    clock.shift(DAY)
    followed = follow()
    assert len(followed.triggered) == 2
    assert followed.triggered[0].machine == first.machine
    assert len(followed.waiting) == 3
    registry.retire_machine(machine=others[-1].machine, by=BY)
    for _ in range(3):
        clock.shift(DAY)
        follow()
    assert TrainingRun.objects.count() == 4


def test_a_scheduled_run_is_no_try(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, retrain_automatically=False, retrain_every_seconds=3600, retrain_tries=1)
    ModelVersion.objects.filter(pk=model.pk).update(trained_at=CHECKED - DAY)
    assert [run.trigger_type for run in follow().triggered] == ["scheduled"]
    loop.trained()
    loop.automatic(retrain_every_seconds=None)
    assert reasons(follow()) == ["Version 2 waits for a person."]
    new = registry.activate_model(model=loop.newest(model), by="user:ada")
    clock.shift(17 * DAY)
    loop.record(new, [1.5] * 15, first=N + 1)
    (run,) = follow().triggered
    assert run.alert == alert_of(model)
    assert run.trigger_type == run.alert.alert_type
