"""What becomes of a trained version: it waits, serves at once, or is tested until one wins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from modelperf.models import (
    ABTest,
    Alert,
    LatestPerformance,
    ModelActivation,
    ModelVersion,
    TrainingRun,
)
from modelperf.services import (
    ab_tests,
    alerts,
    checks,
    policies,
    registry,
    training,
    training_after,
)
from tests.factories import ABTestFactory, MachineFactory, ModelVersionFactory
from tests.services import loop
from tests.services.builders import START, noisy
from tests.services.loop import BY, CHECKED, DAY, N, alert_of, fallen, follow

pytestmark = pytest.mark.django_db

SOON = timedelta(minutes=1)
ACTOR = "system:retraining"


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(CHECKED) as clock:
        yield clock


def ask(model: ModelVersion) -> None:
    training.trigger(
        machine=model.machine, model_type=model.model_type, reason="the works are over", by=BY
    )
    assert loop.trained() == ["completed"]


def active(model: ModelVersion) -> int:
    of_machine = ModelVersion.objects.active().filter(machine=model.machine)
    return of_machine.get().model_version


# --- by policy --------------------------------------------------------------------------------


def test_by_default_it_waits() -> None:
    loop.automatic()
    model = ModelVersionFactory.create(is_active=True)
    ask(model)
    assert active(model) == 1
    assert loop.newest(model).model_version == 2
    assert not ABTest.objects.exists()
    assert not ModelActivation.objects.exists()


def test_it_serves_at_once_where_the_policy_says_so() -> None:
    loop.automatic(after_training="activate")
    model = ModelVersionFactory.create(is_active=True)
    ask(model)
    activation = ModelActivation.objects.get()
    assert active(model) == activation.model_version == 2
    assert (activation.kind, activation.previous) == ("activated", model)
    assert activation.reason == "Trained because: the works are over"
    assert activation.activated_by == ACTOR


@pytest.mark.parametrize(("after", "serves"), [("wait", 0), ("activate", 1), ("test", 1)])
def test_the_first_version_serves_at_once_unless_it_waits(after: str, serves: int) -> None:
    loop.automatic(after_training=after)
    machine = MachineFactory.create()
    policies.set_policy(
        model_type="baseline",
        values={"training_source": {"kind": "demo", "meter": "uk-gas"}},
        by=BY,
    )
    training.trigger(machine=machine, model_type="baseline", reason="the first", by=BY)
    assert loop.trained() == ["completed"]
    assert ModelVersion.objects.active().count() == serves
    assert not ABTest.objects.exists()


def test_a_test_sees_every_window_it_was_not_trained_on(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, after_training="test", test_duration_hours=240)
    clock.shift(3 * DAY)
    (run,) = follow().triggered
    loop.trained()
    test = ABTest.objects.get()
    assert (test.training_run, test.created_by) == (run, ACTOR)
    assert (test.model_a, test.model_b) == (model, loop.newest(model))
    assert test.test_start == run.training_data_end == START + N * DAY
    assert test.test_end is not None
    assert CHECKED + 13 * DAY <= test.test_end < CHECKED + 13 * DAY + SOON
    assert training_after.test_of(run) == test
    assert active(model) == 1


def test_a_test_begins_no_longer_ago_than_tests_may_last() -> None:
    loop.automatic(after_training="test")
    model = ModelVersionFactory.create(is_active=True)
    training.trigger(
        machine=model.machine,
        model_type="baseline",
        reason="an old window",
        data_start=START - 900 * DAY,
        data_end=START - 600 * DAY,
        by=BY,
    )
    assert loop.trained() == ["completed"]
    test = ABTest.objects.get()
    assert test.test_end is not None
    assert test.test_end - test.test_start == timedelta(hours=ab_tests.LONGEST_TEST_HOURS)


# --- a person's test is running ---------------------------------------------------------------


@pytest.fixture
def taken() -> tuple[ModelVersion, ABTest]:
    """Return a version in service, and a person's test of it that runs for five days."""
    (model,) = fallen(45, after_training="test")
    rival = ModelVersionFactory.create(machine=model.machine)
    test = ABTestFactory.create(
        machine=model.machine, model_a=model, model_b=rival, test_end=CHECKED + 5 * DAY
    )
    return model, test


def test_it_is_tested_once_the_test_of_a_person_is_over(
    taken: tuple[ModelVersion, ABTest], clock: time_machine.Traveller
) -> None:
    model, theirs = taken
    (run,) = follow().triggered
    loop.trained()
    run.refresh_from_db()
    assert "is running" in run.metadata["waits_for_test"]
    follow()
    assert ABTest.objects.get() == theirs
    with CaptureQueriesContext(connection) as queries:
        follow()
    stored = [one["sql"] for one in queries if "UPDATE" in one["sql"][:7]]
    assert not [sql for sql in stored if "model_training_history" in sql]
    clock.shift(6 * DAY)
    follow()
    ours = ABTest.objects.get(training_run=run)
    assert (ours.model_a, ours.model_b.model_version) == (model, 3)
    assert (ours.test_status, ours.test_start) == ("running", run.training_data_end)
    run.refresh_from_db()
    assert "waits_for_test" not in run.metadata
    theirs.refresh_from_db()
    assert (theirs.test_status, theirs.decision) == ("completed", None)


def test_one_that_was_followed_by_a_newer_version_is_not_tested_any_more(
    taken: tuple[ModelVersion, ABTest], clock: time_machine.Traveller
) -> None:
    model, theirs = taken
    (run,) = follow().triggered
    loop.trained()
    ModelVersionFactory.create(machine=model.machine)
    assert len(follow().triggered) == 0  # it cools down
    run.refresh_from_db()
    assert run.metadata == {"passed_over": "Another version came first."}
    clock.shift(6 * DAY)
    assert len(follow().triggered) == 1
    assert ABTest.objects.get() == theirs


def test_one_that_a_person_took_back_meanwhile_is_not_tested_any_more(
    taken: tuple[ModelVersion, ABTest], clock: time_machine.Traveller
) -> None:
    model, theirs = taken
    follow()
    loop.trained()
    registry.activate_model(model=loop.newest(model), by="user:ada")
    clock.shift(SOON)
    machine = model.machine
    registry.rollback(machine=machine, model_type="baseline", reason="wrong", by="user:ada")
    clock.shift(6 * DAY)
    follow()
    assert ABTest.objects.get() == theirs


def test_one_of_a_retired_machine_is_tested_when_it_returns(
    taken: tuple[ModelVersion, ABTest], clock: time_machine.Traveller
) -> None:
    model, theirs = taken
    (run,) = follow().triggered
    loop.trained()
    theirs.delete()
    registry.retire_machine(machine=model.machine, by=BY)
    follow()
    assert not ABTest.objects.exists()
    registry.return_machine(machine=model.machine, by=BY)
    follow()
    assert ABTest.objects.get().training_run == run


# --- decided ----------------------------------------------------------------------------------


@pytest.fixture
def tested(clock: time_machine.Traveller) -> ABTest:
    """Return a test of a version that was trained since a fall, twenty days on."""
    fallen(45, after_training="test", test_duration_hours=24 * 25)
    follow()
    loop.trained()
    clock.shift(20 * DAY)
    return ABTest.objects.select_related("model_a", "model_b", "machine").get()


def shown(test: ABTest, *, new: float, old: float = 1.5) -> None:
    """Record what both versions have shown since the test began."""
    loop.record(test.model_a, noisy(101, 20, level=old), first=N)
    loop.record(test.model_b, noisy(102, 20, level=new), first=N)


def test_the_new_version_that_wins_is_promoted_and_ends_the_alert(tested: ABTest) -> None:
    shown(tested, new=1.0)
    followed = follow()
    alert = alert_of(tested.model_a)
    assert (followed.decided, followed.resolved) == ([tested], [alert])
    tested.refresh_from_db()
    assert (tested.test_status, tested.decision) == ("completed", "promote_b")
    assert (tested.decided_by, tested.winner_model) == (ACTOR, tested.model_b)
    activation = ModelActivation.objects.get()
    assert (activation.kind, activation.model) == ("promoted", tested.model_b)
    assert activation.reason.startswith(f"A/B test “{tested.test_name}”: Promote v2: its mae")
    assert (activation.previous, activation.activated_by) == (tested.model_a, ACTOR)
    assert (alert.resolution_action, alert.resolved_by) == ("retrained_model", "system")
    assert alert.resolution_notes == f"Version 2 won the test “{tested.test_name}”."
    assert LatestPerformance.objects.get().model_version == 2
    assert follow().decided == []
    assert follow().waiting == []
    assert not Alert.objects.unresolved().exists()


def test_a_winner_that_a_person_rolled_back_has_not_helped(
    tested: ABTest, clock: time_machine.Traveller
) -> None:
    policies.set_policy(model_type="baseline", values={"retrain_tries": 1}, by=BY)
    shown(tested, new=1.0)
    follow()
    assert alert_of(tested.model_a).is_resolved
    clock.shift(SOON)
    machine = tested.machine
    registry.rollback(machine=machine, model_type="baseline", reason="wrong", by="user:ada")
    assert not alert_of(tested.model_a).is_resolved
    clock.shift(2 * DAY)
    checks.run(by=BY)
    training.trigger(machine=machine, model_type="baseline", reason="mine", by="user:ada")
    training.cancel(run=TrainingRun.objects.latest("created_at"), by="user:ada")
    clock.shift(2 * DAY)
    assert loop.reasons(follow()) == ["1 retraining has not helped."]


def test_a_person_may_have_resolved_it_before(tested: ABTest) -> None:
    shown(tested, new=1.0)
    alerts.resolve(alert=alert_of(tested.model_a), by="user:ada", action="accepted")
    assert follow().resolved == []
    assert active(tested.model_a) == 2
    assert alert_of(tested.model_a).resolved_by == "user:ada"


def test_the_old_version_that_wins_stays(tested: ABTest, clock: time_machine.Traveller) -> None:
    shown(tested, new=3.0)
    assert follow().decided == [tested]
    tested.refresh_from_db()
    assert (tested.decision, tested.winner_model) == ("promote_a", tested.model_a)
    assert active(tested.model_a) == 1
    assert not ModelActivation.objects.exists()
    assert not alert_of(tested.model_a).is_resolved
    clock.shift(DAY + SOON)
    assert len(follow().triggered) == 1


@pytest.mark.parametrize("completes_first", [False, True])
def test_a_test_that_is_over_without_a_winner_is_decided(
    tested: ABTest, clock: time_machine.Traveller, completes_first: bool
) -> None:
    shown(tested, new=1.49)
    assert follow().decided == []
    clock.shift(6 * DAY)
    if completes_first:
        assert ab_tests.complete_expired(by="worker").ended == [tested]
    assert follow().decided == [tested]
    tested.refresh_from_db()
    assert (tested.test_status, tested.decision) == ("completed", "no_winner")
    assert active(tested.model_a) == 1
    assert not alert_of(tested.model_a).is_resolved


def test_a_winner_is_promoted_after_the_test_was_completed(
    tested: ABTest, clock: time_machine.Traveller
) -> None:
    shown(tested, new=1.0)
    clock.shift(6 * DAY)
    assert ab_tests.complete_expired(by="worker").ended == [tested]
    follow()
    assert active(tested.model_a) == 2
    assert alert_of(tested.model_a).resolution_action == "retrained_model"


def test_versions_that_do_not_differ_are_not_tested_to_the_end(tested: ABTest) -> None:
    ABTest.objects.update(margin=0.5)
    shown(tested, new=1.5)
    assert follow().decided == [tested]
    tested.refresh_from_db()
    assert tested.decision == "no_winner"
    assert tested.evidence["outcome"] == "equivalent"


def test_where_a_person_has_activated_another_people_decide(tested: ABTest) -> None:
    shown(tested, new=1.0)
    other = ModelVersionFactory.create(machine=tested.machine)
    registry.activate_model(model=other, by="user:ada")
    assert follow().decided == [tested]
    tested.refresh_from_db()
    assert (tested.decision, tested.winner_model) == ("manual_review", tested.model_b)
    assert active(tested.model_a) == 3
    assert not alert_of(tested.model_a).is_resolved


@pytest.mark.parametrize(("new", "decision"), [(1.0, "promote_b"), (3.0, "manual_review")])
def test_where_a_person_has_activated_it_already_the_test_says_whether_rightly(
    tested: ABTest, new: float, decision: str
) -> None:
    registry.activate_model(model=tested.model_b, by="user:ada")
    shown(tested, new=new)
    assert follow().decided == [tested]
    tested.refresh_from_db()
    assert tested.decision == decision
    assert active(tested.model_a) == 2
    assert alert_of(tested.model_a).is_resolved is (decision == "promote_b")


def test_a_person_who_promotes_the_winner_ends_the_alert_too(tested: ABTest) -> None:
    shown(tested, new=1.0)
    ab_tests.decide(test=tested, decision="promote_b", by="user:ada")
    assert ModelActivation.objects.get().activated_by == "user:ada"
    followed = follow()
    assert followed.decided == []
    assert followed.resolved == [alert_of(tested.model_a)]
    assert alert_of(tested.model_a).resolution_action == "retrained_model"


def test_a_person_who_promotes_what_has_not_won_ends_no_alert(tested: ABTest) -> None:
    ab_tests.decide(test=tested, decision="promote_b", by="user:ada")
    assert active(tested.model_a) == 2
    assert follow().resolved == []
    assert not alert_of(tested.model_a).is_resolved


def test_a_person_who_decides_against_it_keeps_the_alert(tested: ABTest) -> None:
    shown(tested, new=1.0)
    ab_tests.decide(test=tested, decision="no_winner", by="user:ada")
    assert follow().decided == []
    assert active(tested.model_a) == 1
    assert not alert_of(tested.model_a).is_resolved


def test_the_test_of_a_retired_machine_waits_for_its_return(tested: ABTest) -> None:
    shown(tested, new=1.0)
    registry.retire_machine(machine=tested.machine, by=BY)
    assert follow().decided == []
    registry.return_machine(machine=tested.machine, by=BY)
    assert follow().decided == [tested]
    assert active(tested.model_a) == 2


def test_the_test_of_a_person_is_left_to_people(tested: ABTest) -> None:
    ABTest.objects.update(training_run=None)
    shown(tested, new=1.0)
    assert follow().decided == []
    assert active(tested.model_a) == 1
