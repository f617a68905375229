"""Tests that started by themselves: what people do meanwhile counts, and looking costs little."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.models import ABTest, Alert, ModelVersion
from modelperf.services import (
    ab_tests,
    ab_tests_observations,
    alerts,
    metrics,
    policies,
    registry,
    retraining_tests,
    training,
)
from modelperf.services.ab_tests_observations import Observation
from tests.factories import ModelVersionFactory
from tests.services import loop
from tests.services.builders import evaluation, noisy
from tests.services.loop import BY, CHECKED, DAY, N, alert_of, fallen, follow

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(CHECKED) as clock:
        yield clock


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


def active(model: ModelVersion) -> int:
    of_machine = ModelVersion.objects.active().filter(machine=model.machine)
    return of_machine.get().model_version


def roll_back(test: ABTest) -> ModelVersion:
    return registry.rollback(
        machine=test.machine, model_type=test.model_type, reason="wrong in the field", by="user:ada"
    )


# --- what people have done meanwhile ------------------------------------------------------------


def test_what_a_person_has_rolled_back_is_not_promoted(tested: ABTest) -> None:
    registry.activate_model(model=tested.model_b, by="user:ada")
    roll_back(tested)
    shown(tested, new=1.0)
    assert follow().decided == [tested]
    tested.refresh_from_db()
    assert (tested.decision, tested.winner_model) == ("manual_review", tested.model_b)
    assert active(tested.model_a) == 1


def test_what_a_person_has_replaced_is_not_promoted(tested: ABTest) -> None:
    registry.activate_model(model=tested.model_b, by="key:ci")
    registry.activate_model(model=tested.model_a, by="key:ci")
    shown(tested, new=1.0)
    follow()
    tested.refresh_from_db()
    assert tested.decision == "manual_review"
    assert active(tested.model_a) == 1


def test_an_alert_opened_again_by_a_person_stays(tested: ABTest) -> None:
    shown(tested, new=1.0)
    (alert,) = follow().resolved
    alerts.reopen(alert=alert, by="user:ada")
    assert follow().resolved == []
    assert alert_of(tested.model_a).state == "open"


def test_one_that_a_person_opened_again_before_is_resolved(tested: ABTest) -> None:
    alert = alert_of(tested.model_a)
    alerts.resolve(alert=alert, by="user:ada", action="fixed")
    alerts.reopen(alert=alert, by="user:ada")
    shown(tested, new=1.0)
    assert follow().resolved == [alert]


def test_a_win_that_was_rolled_back_ends_nothing_any_more(tested: ABTest) -> None:
    shown(tested, new=1.0)
    ab_tests.decide(test=tested, decision="promote_b", by="user:ada")
    roll_back(tested)
    Alert.objects.update(alert_timestamp=CHECKED)
    registry.activate_model(model=tested.model_b, by="user:ada")
    retraining_tests.settle(now=timezone.now())
    assert not alert_of(tested.model_a).is_resolved


@pytest.mark.parametrize("values", [{"after_training": "wait"}, {"retrain_automatically": False}])
def test_automation_that_is_switched_off_promotes_nothing_any_more(
    tested: ABTest, clock: time_machine.Traveller, values: dict[str, object]
) -> None:
    policies.set_policy(model_type="baseline", values=values, by=BY)
    shown(tested, new=1.0)
    assert follow().decided == []
    clock.shift(6 * DAY)
    assert ab_tests.complete_expired(by="worker").ended == [tested]
    assert follow().decided == []
    tested.refresh_from_db()
    assert (tested.test_status, tested.decision) == ("completed", None)
    assert tested.winner_model == tested.model_b
    assert active(tested.model_a) == 1


def test_what_a_person_has_trained_is_tested_without_automation() -> None:
    loop.automatic(retrain_automatically=False, after_training="test")
    model = ModelVersionFactory.create(is_active=True)
    training.trigger(machine=model.machine, model_type="baseline", reason="new", by="user:ada")
    loop.trained()
    ABTest.objects.update(test_start=CHECKED - 30 * DAY)
    test = ABTest.objects.get()
    loop.record(model, noisy(1, 20, level=1.5), first=N - 20)
    loop.record(test.model_b, noisy(2, 20), first=N - 20)
    assert follow().decided == [test]
    assert active(model) == 2


# --- what a look costs --------------------------------------------------------------------------


def statements(n: int) -> tuple[int, int]:
    """Return how many statements two looks at as many running tests take: the first and a later.

    To the second nothing is new.
    """
    models = ModelVersionFactory.create_batch(n, is_active=True)
    for model in models:
        training.trigger(machine=model.machine, model_type="baseline", reason="new", by="user:ada")
    loop.trained()
    assert ABTest.objects.running().count() == n
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            retraining_tests.settle(now=timezone.now())
        counts.append(len(captured))
    ABTest.objects.update(test_status="cancelled")
    return counts[0], counts[1]


def test_a_look_that_finds_nothing_new_costs_the_same_for_any_number_of_tests() -> None:
    loop.automatic(after_training="test")
    first_of_10, later_of_10 = statements(10)
    first_of_40, later_of_40 = statements(40)
    assert later_of_10 == later_of_40 <= 5
    assert first_of_10 < first_of_40


def test_what_comes_in_is_looked_at(tested: ABTest) -> None:
    assert follow().decided == []
    shown(tested, new=1.49)
    assert follow().decided == []
    assert ABTest.objects.get().metadata["looked_at"].startswith("40 40 ")
    # A correction is new, too: of as many evaluations, none of them later.
    for day in range(N, N + 20):
        corrected = evaluation(tested.model_b, day, metrics={"mae": 0.8 + day % 3 / 100})
        metrics.record(evaluation=corrected, by=BY)
    assert follow().decided == [tested]


def test_observations_that_come_in_are_looked_at(tested: ABTest) -> None:
    assert follow().decided == []
    rows = [
        Observation(unit=str(n), loss_a=1.5 + n % 7 / 50, loss_b=1.0 + n % 5 / 50)
        for n in range(400)
    ]
    ab_tests_observations.observe(test=tested, observations=rows, by=BY)
    assert follow().decided == [tested]
