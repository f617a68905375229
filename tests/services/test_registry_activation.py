"""Which version serves: activated, rolled back, one at every moment, and alerts that follow it."""

from threading import Event

import pytest

from modelperf.models import (
    Alert,
    LatestModelPerformance,
    Machine,
    ModelActivation,
    ModelVersion,
    Series,
)
from modelperf.services import checks, metrics, policies, registry
from modelperf.services.errors import ConflictError, InvalidError
from tests.factories import MachineFactory, ModelVersionFactory
from tests.services.builders import evaluation, noisy, series
from tests.services.concurrency import at_once

BY = "user:tests"


def register(machine: Machine, **values):
    return registry.register_model(machine=machine, model_type="baseline", by=BY, **values)


# --- activation -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_activate_model_takes_the_place_of_the_other_version_of_its_series_only():
    machine = MachineFactory.create()
    first, _ = register(machine, is_active=True)
    second, _ = register(machine)
    other = ModelVersionFactory.create(is_active=True)
    activated = registry.activate_model(model=second, by=BY)
    assert activated.is_active
    assert set(ModelVersion.objects.active()) == {second, other}
    assert registry.activate_model(model=activated, by=BY) == second
    assert registry.activate_model(model=first, by=BY).is_active
    assert set(ModelVersion.objects.active()) == {first, other}


@pytest.mark.django_db
def test_register_model_as_active_takes_over():
    machine = MachineFactory.create()
    register(machine, is_active=True)
    second, _ = register(machine, is_active=True)
    assert ModelVersion.objects.active().get() == second


@pytest.mark.django_db
def test_activate_model_makes_its_evaluation_the_newest_of_equal_windows():
    machine = MachineFactory.create()
    first, _ = register(machine, is_active=True)
    second, _ = register(machine)
    for model in (first, second):
        metrics.record(evaluation=evaluation(model), by=BY)
    assert LatestModelPerformance.objects.get().model_id == first.pk
    registry.activate_model(model=second, by=BY)
    assert LatestModelPerformance.objects.get().model_id == second.pk


@pytest.mark.django_db
def test_activate_model_lets_the_alerts_of_its_series_follow_its_verdict():
    machine = MachineFactory.create()
    sound, _ = register(machine)
    worse, _ = register(machine, is_active=True)
    for one in series(worse, noisy(1, 80, fall_at=60)) + series(sound, noisy(2, 80)):
        metrics.record(evaluation=one, by=BY)
    alert = Alert.objects.get()
    assert (alert.model, alert.is_resolved) == (worse, False)
    registry.activate_model(model=sound, by=BY)
    alert.refresh_from_db()
    assert alert.is_resolved
    registry.activate_model(model=worse, by=BY)
    assert Alert.objects.unresolved().get().model == worse


@pytest.mark.django_db
def test_activate_model_is_kept_with_what_it_replaced_and_why():
    machine = MachineFactory.create()
    first, _ = register(machine, is_active=True)
    second, _ = register(machine)
    promoted = ModelActivation.Kind.PROMOTED
    registry.activate_model(model=second, reason="it won", kind=promoted, by=BY)
    registry.activate_model(model=second, reason="again", by=BY)
    kept = ModelActivation.objects.order_by("activated_at")
    told = [
        (one.model, one.previous, one.previous_version, one.kind, one.reason, one.activated_by)
        for one in kept
    ]
    assert told == [
        (first, None, None, "activated", "Registered as active.", BY),
        (second, first, 1, "promoted", "it won", BY),
    ]


@pytest.mark.django_db
def test_activate_model_with_a_reason_that_cannot_be_stored_is_refused():
    model, _ = register(MachineFactory.create())
    with pytest.raises(InvalidError, match="reason"):
        registry.activate_model(model=model, reason="a\x00", by=BY)
    assert not ModelVersion.objects.active().exists()


def back(machine: Machine, **values):
    given = {"machine": machine, "model_type": "baseline", "reason": "it is worse", "by": BY}
    return registry.rollback(**given | values)


def served(machine: Machine, n: int) -> list[ModelVersion]:
    """Return versions of which each has served after the one before."""
    return [register(machine, is_active=True)[0] for _ in range(n)]


@pytest.mark.django_db
def test_rollback_goes_back_one_version_at_a_time():
    machine = MachineFactory.create()
    first, second, third = served(machine, 3)
    for expected, left in ((second, third), (first, second)):
        assert back(machine) == expected
        assert ModelVersion.objects.active().get() == expected
        newest = ModelActivation.objects.first()
        assert (newest.kind, newest.model, newest.previous) == ("rolled_back", expected, left)
        assert (newest.reason, newest.activated_by) == ("it is worse", BY)
    with pytest.raises(ConflictError, match="served before"):
        back(machine)
    assert ModelVersion.objects.active().get() == first


@pytest.mark.django_db
def test_rollback_after_a_rollback_and_a_new_version_returns_to_what_it_replaced():
    machine = MachineFactory.create()
    first, _ = served(machine, 2)
    back(machine)
    third, _ = register(machine, is_active=True)
    assert registry.previous_active(machine=machine, model_type="baseline") == first
    assert back(machine) == first
    registry.activate_model(model=third, by=BY)
    assert back(machine) == first


@pytest.mark.django_db
def test_rollback_of_one_series_leaves_the_others():
    machine = MachineFactory.create()
    served(machine, 2)
    other, _ = registry.register_model(machine=machine, model_type="anomaly", is_active=True, by=BY)
    elsewhere = served(MachineFactory.create(), 2)
    back(machine)
    assert {other, elsewhere[1]} < set(ModelVersion.objects.active())


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"reason": " "}, InvalidError),
        ({"reason": "a\x00"}, InvalidError),
        ({"model_type": "two words"}, InvalidError),
        ({"model_type": "another"}, ConflictError),
    ],
)
def test_rollback_of_what_cannot_be_is_refused_and_changes_nothing(values, error):
    machine = MachineFactory.create()
    _, second = served(machine, 2)
    with pytest.raises(error):
        back(machine, **values)
    assert ModelVersion.objects.active().get() == second
    assert Series.objects.count() == 1
    assert ModelActivation.objects.count() == 2


@pytest.mark.django_db
def test_rollback_of_a_retired_machine_conflicts():
    machine = MachineFactory.create()
    served(machine, 2)
    registry.retire_machine(machine=Machine.objects.get(), by=BY)
    with pytest.raises(ConflictError, match="retired"):
        back(machine)  # as it was read before it was retired


@pytest.mark.django_db
def test_rollback_makes_the_evaluations_of_the_version_before_current():
    machine = MachineFactory.create()
    first, second = served(machine, 2)
    for model in (first, second):
        metrics.record(evaluation=evaluation(model), by=BY)
    assert LatestModelPerformance.objects.get().model_id == second.pk
    back(machine)
    assert LatestModelPerformance.objects.get().model_id == first.pk


@pytest.mark.django_db(transaction=True)
def test_rollback_at_once_goes_back_once_each():
    machine = MachineFactory.create()
    versions = served(machine, 5)
    found = at_once(8, lambda _: back(machine))
    assert {one.pk for one in found if isinstance(one, ModelVersion)} == {
        one.pk for one in versions[:4]
    }
    assert sum(isinstance(one, ConflictError) for one in found) == 4
    assert ModelVersion.objects.active().get() == versions[0]


@pytest.mark.django_db(transaction=True)
def test_readers_see_one_active_version_at_every_moment():
    machine = MachineFactory.create()
    served(machine, 2)
    is_over = Event()

    def swap() -> None:
        for _ in range(25):
            second = ModelVersion.objects.get(model_version=2)
            back(machine)
            registry.activate_model(model=second, by=BY)

    def work(number: int) -> list[int]:
        if number == 0:
            try:
                swap()
            finally:
                is_over.set()
            return []
        seen = []
        while not is_over.is_set():
            seen.append(ModelVersion.objects.active().count())
        return seen

    found = at_once(4, work)
    assert [one for one in found if isinstance(one, Exception)] == []
    assert all(found[1:])
    assert {count for seen in found[1:] for count in seen} == {1}


@pytest.mark.django_db(transaction=True)
def test_activate_model_at_once_leaves_exactly_one_active():
    machine = MachineFactory.create()
    models = [register(machine)[0] for _ in range(6)]
    answers = at_once(18, lambda n: registry.activate_model(model=models[n % 6], by=BY))
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    assert ModelVersion.objects.active().count() == 1


# --- alerts -------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("of", ["change", "limit"])
def test_alerts_of_the_version_before_stay_until_the_new_one_has_shown_better(of):
    machine = MachineFactory.create()
    before, _ = register(machine, is_active=True)
    limit = {"primary_metric": "mae", "limit_value": 1.4, "min_effect": 50.0}
    if of == "limit":
        policies.set_policy(model_type=before.model_type, values=limit, by=BY)
    values = noisy(1, 60, fall_at=45) if of == "change" else [*noisy(4, 40), 2.0, 2.0, 2.0]
    metrics.record_batch(evaluations=series(before, values), by=BY, judge=True)
    after, _ = register(machine)
    registry.activate_model(model=after, by=BY)
    checks.run(by=BY)
    alert = Alert.objects.get()
    assert (alert.is_resolved, alert.model) == (False, before)
    # What the version before does no longer matters, nor that its limit is gone.
    policies.set_policy(model_type=before.model_type, values=dict.fromkeys(limit), by=BY)
    metrics.record_batch(
        evaluations=series(before, [*values, *noisy(6, 40)])[len(values) :], by=BY, judge=True
    )
    for one in series(after, noisy(5, 40)):
        metrics.record(evaluation=one, by=BY)
    alert.refresh_from_db()
    # Within a limit is better. Stable by its own evaluations is not: a proof is awaited.
    expected = (False, "") if of == "change" else (True, "retrained_model")
    assert (alert.is_resolved, alert.resolution_action) == expected
