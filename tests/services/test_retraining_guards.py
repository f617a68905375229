"""When automatic retraining holds back, gives up, and begins anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from modelperf.models import Alert, ModelVersion, TrainingRun
from modelperf.services import ab_tests, alerts, checks, policies, registry, training
from modelperf.services.retraining_guards import LONGEST_PAUSE, ROLLED_BACK
from modelperf.services.retraining_tried import TELLING, Tried
from tests.factories import ABTestFactory, ModelVersionFactory
from tests.services import loop
from tests.services.builders import noisy
from tests.services.loop import BY, CHECKED, DAY, N, alert_of, fallen, follow, reasons

pytestmark = pytest.mark.django_db

FAILS = {"trainer": {"kind": "tests-loop", "outcome": "fails"}}
SOON = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(CHECKED) as clock:
        yield clock


def not_helping() -> Alert:
    return Alert.objects.get(alert_type="retraining_not_helping")


def use_up(clock: time_machine.Traveller, tries: int = 3, *, after: int = 0) -> None:
    """Let tries fail up to so many, each as soon as it is due, and one more look follow."""
    for at in range(after, tries):
        assert len(follow().triggered) == 1
        loop.trained()
        clock.shift(DAY * 2**at + SOON)
    follow()


# --- cool-down and tries ----------------------------------------------------------------------


def test_each_try_that_fails_doubles_the_pause(clock: time_machine.Traveller) -> None:
    fallen(45, **FAILS, retrain_tries=4)
    for at in range(4):
        assert len(follow().triggered) == 1
        assert loop.trained() == ["failed"]
        if at == 3:
            break
        clock.shift(DAY * 2**at - SOON)
        (reason,) = reasons(follow())
        assert reason.startswith("Cools down until 2026-03-")
        clock.shift(2 * SOON)
    assert reasons(follow()) == ["4 retrainings have not helped; 4 failed."]


def test_the_pause_is_the_policys_and_ends_at_a_year(clock: time_machine.Traveller) -> None:
    fallen(45, **FAILS, retrain_tries=20, retrain_cooldown_seconds=2**31 - 1)
    follow()
    loop.trained()
    clock.shift(LONGEST_PAUSE - SOON)
    assert follow().triggered == []
    clock.shift(2 * SOON)
    assert len(follow().triggered) == 1


def test_a_trainer_that_is_away_is_one_try_until_patience_is_over(
    clock: time_machine.Traveller, settings: object
) -> None:
    settings.TRAINING_PATIENCE_SECONDS = 60  # type: ignore[attr-defined]
    fallen(45, trainer={"kind": "tests-loop", "outcome": "away"})
    follow()
    assert loop.trained() == ["pending"]
    assert reasons(follow()) == ["A training is under way."]
    clock.shift(70)
    assert loop.trained() == ["failed"]
    assert reasons(follow())[0].startswith("Cools down")


def test_what_a_person_trained_or_cancelled_just_now_is_left_alone(
    clock: time_machine.Traveller,
) -> None:
    (model,) = fallen(45, **FAILS)
    training.trigger(machine=model.machine, model_type="baseline", reason="mine", by="user:ada")
    assert reasons(follow()) == ["A training is under way."]
    training.cancel(run=TrainingRun.objects.get(), by="user:ada")
    assert reasons(follow())[0].startswith("Cools down")
    clock.shift(DAY + SOON)
    use_up(clock)  # a person's run is no try
    assert not_helping().alert_message.endswith(
        "retraining is not helping. 3 retrainings have not helped; 3 failed."
        " No more is tried until this is resolved."
    )


@pytest.mark.parametrize("said", ["scheduled", "drift_detected", "performance_degradation"])
def test_what_a_caller_says_it_was_asked_for_by_takes_no_tries_and_no_room(
    clock: time_machine.Traveller, said: str
) -> None:
    (model,) = fallen(45, retrain_tries=1, retrain_daily_cap=1)
    asked = {"model_type": "baseline", "reason": "x", "trigger_type": said, "by": "key:ci"}
    training.trigger(machine=model.machine, **asked)
    training.cancel(run=TrainingRun.objects.get(), by="key:ci")
    clock.shift(DAY + SOON)
    training.trigger(machine=ModelVersionFactory.create().machine, **asked)
    assert len(follow().triggered) == 1


def test_tries_that_are_used_up_are_one_alert_that_blocks(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, **FAILS)
    use_up(clock)
    alert = not_helping()
    assert (alert.machine, alert.severity, alert.is_resolved) == (model.machine, "critical", False)
    assert alert.alert_details["alert"] == str(alert_of(model).pk)
    for _ in range(60):
        clock.shift(DAY)
        assert follow().triggered == []
    assert not_helping().occurrences == 1
    assert TrainingRun.objects.count() == 3
    waits = "Retraining has not helped; a person has to look."
    assert (alert_of(model).auto_action_result or {})["waits"] == waits


def test_tries_count_as_long_as_their_alert_lasts(clock: time_machine.Traveller) -> None:
    fallen(45, **FAILS, retrain_cooldown_seconds=40 * 86_400)
    for at in range(3):
        assert len(follow().triggered) == 1
        loop.trained()
        clock.shift(40 * DAY * 2**at + SOON)
    assert reasons(follow()) == ["3 retrainings have not helped; 3 failed."]
    assert not not_helping().is_resolved


def test_an_alert_that_comes_and_goes_brings_no_new_tries(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, **FAILS)
    follow()
    loop.trained()
    goes_and_comes(model, clock)
    use_up(clock, after=1)
    assert not_helping().alert_message.count("3 retrainings") == 1
    goes_and_comes(model, clock)
    assert follow().triggered == []
    assert not not_helping().is_resolved


def goes_and_comes(model: ModelVersion, clock: time_machine.Traveller) -> None:
    """Let an alert end by itself, and open again an hour later."""
    alert = alert_of(model)
    ended = {"state": "resolved", "is_resolved": True, "resolved_at": CHECKED}
    Alert.objects.filter(pk=alert.pk).update(
        **ended, resolved_by="system", resolution_action="recovered"
    )
    follow()
    clock.shift(timedelta(hours=1))
    alerts.reopen(alert=alert_of(model), by=BY)
    Alert.objects.filter(pk=alert.pk).update(alert_timestamp=alert.alert_timestamp + DAY)
    clock.shift(DAY + SOON)
    checks.run(by=BY)


@pytest.mark.parametrize(("days", "n"), [(48, 0), (52, 1)])
def test_a_month_a_test_and_a_pause_after_it_recovered_there_are_new_tries(
    clock: time_machine.Traveller, days: int, n: int
) -> None:
    (model,) = fallen(45, **FAILS, retrain_tries=1, test_duration_hours=24 * 19)
    use_up(clock, tries=1)
    alert = alert_of(model)
    alerts.resolve(alert=alert, by="user:ada", action="fixed")
    follow()
    assert not_helping().resolution_action == "recovered"
    clock.shift(days * DAY)
    alerts.reopen(alert=alert, by="user:ada")
    Alert.objects.filter(pk=alert.pk).update(alert_timestamp=CHECKED + days * DAY)
    clock.shift(DAY)
    checks.run(by=BY)
    assert len(follow().triggered) == n


def test_a_try_counts_from_the_end_of_its_test(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, after_training="test", retrain_tries=1)  # tests of four weeks
    follow()
    loop.trained()
    clock.shift(28 * DAY + SOON)
    assert len(follow().decided) == 1
    goes_and_comes(model, clock)
    clock.shift(30 * DAY)
    Alert.objects.filter(pk=alert_of(model).pk).update(alert_timestamp=CHECKED + 50 * DAY)
    checks.run(by=BY)
    assert reasons(follow()) == ["1 retraining has not helped."]


def test_a_person_who_resolves_it_allows_as_many_tries_again(
    clock: time_machine.Traveller,
) -> None:
    fallen(45, **FAILS, retrain_tries=2)
    for _ in range(3):
        use_up(clock, tries=2)
        assert not not_helping().is_resolved
        clock.shift(DAY)
        alerts.resolve(alert=not_helping(), by="user:ada", action="fixed")
    assert TrainingRun.objects.count() == 6
    assert Alert.objects.filter(alert_type="retraining_not_helping").count() == 1


def test_it_ends_by_itself_once_nothing_is_wrong_any_more(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, **FAILS)
    use_up(clock)
    loop.record(model, noisy(9, 40), first=N)
    clock.shift(40 * DAY)
    checks.run(by=BY)
    assert alert_of(model).resolution_action == "recovered"
    follow()
    ended = not_helping()
    assert (ended.resolution_action, ended.resolved_by) == ("recovered", "system")


@pytest.mark.parametrize(
    ("changed", "n"),
    [
        ({"retrain_tries": 3}, 1),
        ({"retrain_automatically": False}, 0),
        ({"retrain_tries": 2}, None),
        ({"retrain_tries": 1}, None),
    ],
)
def test_it_ends_by_itself_where_the_policy_says_otherwise_since(
    clock: time_machine.Traveller, changed: dict[str, object], n: int | None
) -> None:
    fallen(45, **FAILS, retrain_tries=2)
    use_up(clock, tries=2)
    clock.shift(DAY)
    policies.set_policy(model_type="baseline", values=changed, by="user:ada")
    followed = follow()
    assert not_helping().is_resolved is (n is not None)
    assert len(followed.triggered) == (n or 0)
    if n is None:
        return
    assert (not_helping().resolution_action, not_helping().resolved_by) == (
        "policy_changed",
        "system",
    )
    loop.trained()
    clock.shift(10 * DAY)
    policies.set_policy(model_type="baseline", values={"retrain_automatically": True}, by=BY)
    follow()  # what has not helped is not forgotten by that
    assert not not_helping().is_resolved
    assert TrainingRun.objects.count() == 2 + n


@pytest.fixture
def ended(clock: time_machine.Traveller) -> Alert:
    """Return an alert that ended after the one try there is, with a new version in service."""
    (model,) = fallen(45, retrain_tries=1, after_training="activate")
    follow()
    loop.trained()
    alert = alert_of(model)
    solved = {"state": "resolved", "is_resolved": True, "resolved_at": CHECKED + SOON}
    Alert.objects.filter(pk=alert.pk).update(
        **solved, resolved_by="system", resolution_action="retrained_model"
    )
    alert.refresh_from_db()
    return alert


def comes_again(alert: Alert, clock: time_machine.Traveller) -> None:
    """Let an alert open again, which then no longer says how it ended."""
    follow()
    alerts.reopen(alert=alert, by=BY)
    Alert.objects.filter(pk=alert.pk).update(alert_timestamp=CHECKED + timedelta(hours=1))
    clock.shift(timedelta(hours=2))
    checks.run(by=BY)


def test_what_proved_better_ends_the_count_but_not_the_pause(
    ended: Alert, clock: time_machine.Traveller
) -> None:
    new = str(ModelVersion.objects.active().get().pk)
    proved = ended.alert_details | {"proof": {"new_model_id": new}}
    Alert.objects.filter(pk=ended.pk).update(alert_details=proved)
    comes_again(ended, clock)
    assert reasons(follow())[0].startswith("Cools down until 2026-03-03")
    clock.shift(DAY)
    assert len(follow().triggered) == 1


def test_an_alert_that_was_merely_cleared_since_has_not_been_helped(
    ended: Alert, clock: time_machine.Traveller
) -> None:
    comes_again(ended, clock)
    assert reasons(follow()) == ["1 retraining has not helped."]


def test_after_a_person_went_back_the_next_training_is_theirs_to_ask_for(
    clock: time_machine.Traveller,
) -> None:
    (model,) = fallen(45, after_training="activate", retrain_every_seconds=7 * 86_400)
    follow()
    loop.trained()
    clock.shift(timedelta(hours=1))
    registry.rollback(
        machine=model.machine, model_type="baseline", reason="wrong in the field", by="user:ada"
    )
    for _ in range(40):
        clock.shift(DAY)
        followed = follow()
        assert followed.triggered == []
        assert set(reasons(followed)) == {ROLLED_BACK}
    training.trigger(machine=model.machine, model_type="baseline", reason="mine", by="user:ada")
    assert loop.trained() == ["completed"]
    assert reasons(follow()) == [f"Version 3 has 0 of {TELLING} evaluations."]


def test_one_that_a_person_activates_after_going_back_ends_the_pause(
    clock: time_machine.Traveller,
) -> None:
    (model,) = fallen(45, after_training="activate")
    follow()
    loop.trained()
    clock.shift(timedelta(hours=1))
    registry.rollback(machine=model.machine, model_type="baseline", reason="wrong", by="user:ada")
    clock.shift(2 * DAY)
    assert reasons(follow()) == [ROLLED_BACK]
    registry.activate_model(model=loop.newest(model), by="user:ada")
    assert reasons(follow()) == [f"Version 2 has 0 of {TELLING} evaluations."]


# --- what the last version has to show --------------------------------------------------------


def test_a_version_that_waits_for_a_person_is_waited_for(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45)
    follow()
    assert loop.trained() == ["completed"]
    for _ in range(40):
        clock.shift(DAY)
        assert reasons(follow()) == ["Version 2 waits for a person."]
    # Somebody else's choice is an answer, too.
    other = ModelVersionFactory.create(machine=model.machine)
    registry.activate_model(model=other, by="user:ada")
    assert reasons(follow()) == [f"Version 3 has 0 of {TELLING} evaluations."]


@pytest.mark.parametrize("trigger", ["drift_detected", "scheduled"])
def test_a_version_that_waits_is_not_forgotten_when_a_later_alert_opens(
    clock: time_machine.Traveller, trigger: str
) -> None:
    (model,) = fallen(45)
    follow()
    loop.trained()
    TrainingRun.objects.update(trigger_type=trigger)
    clock.shift(400 * DAY)
    Alert.objects.filter(pk=alert_of(model).pk).update(alert_timestamp=CHECKED + 399 * DAY)
    checks.run(by=BY)
    assert reasons(follow()) == ["Version 2 waits for a person."]


def test_who_asked_for_a_run_since_they_went_back_has_done_so_for_good(
    clock: time_machine.Traveller,
) -> None:
    (model,) = fallen(45, after_training="activate")
    follow()
    loop.trained()
    clock.shift(SOON)
    registry.rollback(machine=model.machine, model_type="baseline", reason="wrong", by="user:ada")
    training.trigger(machine=model.machine, model_type="baseline", reason="mine", by="user:ada")
    training.cancel(run=TrainingRun.objects.latest("created_at"), by="user:ada")
    clock.shift(50 * DAY)
    Alert.objects.filter(pk=alert_of(model).pk).update(alert_timestamp=CHECKED + 49 * DAY)
    checks.run(by=BY)
    assert len(follow().triggered) == 1


def test_a_version_in_service_shows_what_it_is_worth_first(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, after_training="activate")
    follow()
    loop.trained()
    new = loop.newest(model)
    # On windows that it was trained on it shows nothing.
    loop.record(new, [1.5] * 20, first=N - 20)
    assert reasons(follow()) == [f"Version 2 has 0 of {TELLING} evaluations."]
    clock.shift(TELLING * DAY)
    loop.record(new, [1.5] * (TELLING - 1), first=N)
    assert reasons(follow()) == [f"Version 2 has {TELLING - 1} of {TELLING} evaluations."]
    loop.record(new, [1.5], first=N + TELLING - 1)
    (run,) = follow().triggered
    assert run.alert == alert_of(model)
    assert TrainingRun.objects.filter(alert=run.alert).count() == 2


def test_more_series_take_no_more_statements_to_look_at(clock: time_machine.Traveller) -> None:
    fallen(30, 40, 50, after_training="activate")
    assert len(follow().triggered) == 3
    loop.trained()
    opened = {
        (alert.machine_id, alert.model_type): alert.alert_timestamp
        for alert in Alert.objects.unresolved()
        if alert.machine_id
    }
    needed = []
    for n in (1, 3):
        with CaptureQueriesContext(connection) as queries:
            found = Tried.read(dict(list(opened.items())[:n]), CHECKED)
        assert list(found.n_seen.values()) == [0] * n
        needed.append(len(queries))
    assert needed[0] == needed[1]


def test_a_test_of_the_last_version_is_waited_for(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, after_training="test", test_duration_hours=24 * 10)
    follow()
    loop.trained()
    clock.shift(9 * DAY)
    assert reasons(follow()) == ["A test of version 2 runs."]
    clock.shift(DAY + SOON)
    (test,) = follow().decided
    test.refresh_from_db()
    assert test.decision == "no_winner"
    # It rests from then on: before, nobody knew that it did not help.
    assert reasons(follow())[0].startswith("Cools down until 2026-03-13")
    clock.shift(DAY + SOON)
    assert len(follow().triggered) == 1
    assert model.is_active


def test_a_test_that_a_person_cancelled_is_not_waited_for(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, after_training="test")
    follow()
    loop.trained()
    clock.shift(5 * DAY)
    ab_tests.cancel(test=model.machine.ab_tests.get(), by="user:ada")
    # It rests from then on: they may have something else in mind.
    assert reasons(follow())[0].startswith("Cools down until 2026-03-08 01:00")
    clock.shift(DAY + SOON)
    assert len(follow().triggered) == 1


@pytest.mark.parametrize("decision", ["promote_a", "no_winner", "manual_review", None])
def test_a_person_who_has_tested_a_version_that_waited_has_acted(
    clock: time_machine.Traveller, decision: str | None
) -> None:
    (model,) = fallen(45)
    follow()
    loop.trained()
    started = ab_tests.start(
        test_name="mine",
        machine=model.machine,
        model_type="baseline",
        model_a=model,
        model_b=loop.newest(model),
        duration_hours=480,
        by="user:ada",
    )
    clock.shift(2 * DAY)
    assert reasons(follow()) == ["A test of version 2 runs."]
    if decision is None:
        ab_tests.cancel(test=started.test, by="user:ada")
    else:
        ab_tests.decide(test=started.test, decision=decision, by="user:ada")
    assert reasons(follow())[0].startswith("Cools down until 2026-03-05")
    clock.shift(DAY + SOON)
    assert len(follow().triggered) == 1


def test_a_test_that_could_not_start_is_waited_for(clock: time_machine.Traveller) -> None:
    (model,) = fallen(45, after_training="test")
    rival = ModelVersionFactory.create(machine=model.machine)
    ABTestFactory.create(
        machine=model.machine, model_a=model, model_b=rival, test_end=CHECKED + 5 * DAY
    )
    follow()
    loop.trained()
    clock.shift(2 * DAY)
    assert reasons(follow()) == ["Version 3 waits for its test."]
    clock.shift(4 * DAY)
    assert reasons(follow()) == ["A test of version 3 runs."]


def test_a_run_of_a_person_is_followed_before_another_is_asked_for(
    clock: time_machine.Traveller,
) -> None:
    (model,) = fallen(45, after_training="test")
    training.trigger(machine=model.machine, model_type="baseline", reason="mine", by="user:ada")
    loop.trained()
    clock.shift(2 * DAY)
    assert reasons(follow()) == ["A test of version 2 runs."]
