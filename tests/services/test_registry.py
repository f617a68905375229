"""Machines and model versions: repeatable, checked, and safe under concurrency."""

import uuid
from datetime import UTC, datetime

import pytest

from modelperf.models import (
    Machine,
    ModelVersion,
    Series,
)
from modelperf.models.keys import uuid7
from modelperf.services import registry, registry_checks
from modelperf.services.errors import ConflictError, InvalidError
from tests.factories import MachineFactory
from tests.services.concurrency import at_once

BY = "user:tests"


def register(machine: Machine, **values):
    return registry.register_model(machine=machine, model_type="baseline", by=BY, **values)


# --- machines -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_create_machine_stores_what_was_given():
    machine, created = registry.create_machine(
        name="Pump 7",
        type="pump",
        location="hall 2",
        data_interval_seconds=60,
        metadata={"unit": "bar"},
        by=BY,
    )
    assert created
    stored = Machine.objects.get()
    assert stored == machine
    assert (stored.name, stored.type, stored.location) == ("Pump 7", "pump", "hall 2")
    assert (stored.data_interval_seconds, stored.metadata) == (60, {"unit": "bar"})
    assert stored.is_active


@pytest.mark.django_db
def test_create_machine_again_under_its_id_answers_the_first():
    key = uuid7()
    first, _ = registry.create_machine(id=key, name="Pump", metadata={"a": [1, 2.5]}, by=BY)
    again, created = registry.create_machine(id=key, name="Pump", metadata={"a": [1, 2.5]}, by=BY)
    assert (again, created) == (first, False)
    assert Machine.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "other",
    [{"name": "Fan"}, {"type": "fan"}, {"data_interval_seconds": 5}, {"metadata": {"a": 1}}],
)
def test_create_machine_with_other_values_under_the_same_id_conflicts(other):
    key = uuid7()
    registry.create_machine(id=key, name="Pump", by=BY)
    with pytest.raises(ConflictError, match=f"{key}.*another {next(iter(other))}"):
        registry.create_machine(**{"id": key, "name": "Pump", "by": BY} | other)


@pytest.mark.django_db(transaction=True)
def test_create_machine_at_once_under_one_id_makes_one():
    key = uuid7()
    answers = at_once(12, lambda _: registry.create_machine(id=key, name="Pump", by=BY))
    assert sorted(created for _, created in answers) == [False] * 11 + [True]
    assert Machine.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"type": "x" * 101}, "type"),
        ({"location": "x" * 201}, "location"),
        ({"data_interval_seconds": 0}, "data_interval_seconds"),
        ({"data_interval_seconds": -5}, "data_interval_seconds"),
        ({"data_interval_seconds": 2**40}, "data_interval_seconds"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {"a": float("nan")}}, "metadata"),
        ({"metadata": {"a": "\x00"}}, "metadata"),
        ({"metadata": {"a": [{"b\x00": 1}]}}, "metadata"),
        ({"metadata": {"a": ["b", ("\udfff",)]}}, "metadata"),
        ({"metadata": {"a": object()}}, "metadata"),
    ],
)
def test_create_machine_with_a_wrong_value_names_the_field(values, field):
    with pytest.raises(InvalidError) as caught:
        registry.create_machine(**{"name": "Pump", "by": BY} | values)
    assert caught.value.errors[0].loc == ("body", field)
    assert not Machine.objects.exists()


@pytest.mark.django_db
def test_update_machine_changes_the_named_fields_only():
    machine = MachineFactory.create(name="Pump", location="hall 1")
    updated = registry.update_machine(machine=machine, changes={"location": "hall 2"}, by=BY)
    assert (updated.name, updated.location) == ("Pump", "hall 2")
    assert Machine.objects.get().location == "hall 2"


@pytest.mark.django_db
@pytest.mark.parametrize("changes", [{"id": uuid.uuid4()}, {"is_active": False}, {"name": ""}])
def test_update_machine_with_what_cannot_be_changed_is_refused(changes):
    machine = MachineFactory.create(name="Pump")
    with pytest.raises(InvalidError, match=next(iter(changes))):
        registry.update_machine(machine=machine, changes=changes, by=BY)
    assert Machine.objects.get().name == "Pump"


@pytest.mark.django_db
def test_retire_machine_hides_it_and_return_machine_brings_it_back():
    machine = MachineFactory.create()
    assert not registry.retire_machine(machine=machine, by=BY).is_active
    assert not Machine.objects.in_service().exists()
    with pytest.raises(ConflictError, match="retired already"):
        registry.retire_machine(machine=machine, by=BY)
    assert registry.return_machine(machine=machine, by=BY).is_active
    assert Machine.objects.in_service().get() == machine
    with pytest.raises(ConflictError, match="in service already"):
        registry.return_machine(machine=machine, by=BY)


# --- models ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_register_model_numbers_the_versions_of_each_series_from_one():
    machine, other = MachineFactory.create_batch(2)
    numbers = [register(machine)[0].model_version for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert register(other)[0].model_version == 1
    assert Series.objects.count() == 2


@pytest.mark.django_db
def test_register_model_stores_what_was_given():
    trained_at = datetime(2026, 1, 1, tzinfo=UTC)
    model, created = register(
        MachineFactory.create(),
        model_version=7,
        trained_at=trained_at,
        artefact={"slope": 0.5},
        feature_names=["a", "b"],
        hyperparameters={"depth": 3},
        metadata={"team": "x"},
    )
    assert created
    stored = ModelVersion.objects.get()
    assert stored == model
    assert (stored.model_version, stored.trained_at, stored.artefact) == (
        7,
        trained_at,
        {"slope": 0.5},
    )
    assert (stored.feature_names, stored.hyperparameters) == (["a", "b"], {"depth": 3})
    assert stored.metadata == {"team": "x"}
    assert not stored.is_active


@pytest.mark.django_db
def test_register_model_stores_the_source_of_a_pattern_that_names_no_nul():
    artefact = {r"[^\u0000]": [r"\u0000-\ud800", 1.5]}  # backslashes and letters
    register(MachineFactory.create(), artefact=artefact)
    assert ModelVersion.objects.get().artefact == artefact


@pytest.mark.django_db
def test_register_model_after_a_given_number_goes_on_from_there():
    machine = MachineFactory.create()
    register(machine, model_version=7)
    assert register(machine)[0].model_version == 8


@pytest.mark.django_db
def test_register_model_under_a_number_that_is_taken_conflicts():
    machine = MachineFactory.create()
    register(machine, model_version=7)
    with pytest.raises(ConflictError, match="version 7 already"):
        register(machine, model_version=7)


@pytest.mark.django_db
def test_register_model_again_under_its_id_answers_the_first_even_after_activation():
    machine, key = MachineFactory.create(), uuid7()
    first, _ = register(machine, id=key, artefact={"a": 1})
    registry.activate_model(model=first, by=BY)
    again, created = register(machine, id=key, artefact={"a": 1})
    assert (again, created, again.is_active) == (first, False, True)
    assert register(machine, id=key, artefact={"a": 1}, model_version=1) == (first, False)
    assert ModelVersion.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "other",
    [{"artefact": {"a": 2}}, {"model_version": 3}, {"feature_names": ["x"]}, {"machine": None}],
)
def test_register_model_with_other_values_under_the_same_id_conflicts(other):
    machine, key = MachineFactory.create(), uuid7()
    register(machine, id=key)
    if "machine" in other:
        other = {"machine": MachineFactory.create()}
    with pytest.raises(ConflictError, match=str(key)):
        register(**{"machine": machine, "id": key} | other)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"model_type": "two words"}, "model_type"),
        ({"model_type": "x" * 51}, "model_type"),
        ({"model_type": ""}, "model_type"),
        ({"model_version": 0}, "model_version"),
        ({"model_version": 2**31}, "model_version"),
        ({"trained_at": datetime(2026, 1, 1)}, "trained_at"),  # noqa: DTZ001
        ({"artefact": [1]}, "artefact"),
        ({"artefact": {"a": float("inf")}}, "artefact"),
        ({"hyperparameters": [1]}, "hyperparameters"),
        ({"metadata": "x"}, "metadata"),
        ({"feature_names": ["a\x00"]}, "feature_names"),
    ],
)
def test_register_model_with_a_wrong_value_names_the_field(values, field):
    given = {"machine": MachineFactory.create(), "model_type": "baseline", "by": BY}
    with pytest.raises(InvalidError) as caught:
        registry.register_model(**given | values)
    assert caught.value.errors[0].loc == ("body", field)
    assert not Series.objects.exists()


@pytest.mark.django_db
def test_register_model_of_a_retired_machine_conflicts():
    machine = MachineFactory.create(is_active=False)
    with pytest.raises(ConflictError, match="retired"):
        register(machine)


@pytest.mark.django_db(transaction=True)
def test_register_model_at_once_numbers_without_gap_or_double():
    machine = MachineFactory.create()
    answers = at_once(16, lambda _: register(machine)[0].model_version)
    assert sorted(answers) == list(range(1, 17))


@pytest.mark.django_db(transaction=True)
def test_register_model_at_once_under_one_id_in_two_series_makes_one():
    key, machines = uuid7(), MachineFactory.create_batch(2)
    answers = at_once(8, lambda n: register(machines[n % 2], id=key))
    assert sum(isinstance(answer, ConflictError) for answer in answers) == 4
    assert sum(not isinstance(answer, Exception) and answer[1] for answer in answers) == 1
    assert ModelVersion.objects.count() == 1


# --- checks ---------------------------------------------------------------------------------


def test_check_model_type_accepts_slugs_only():
    registry_checks.check_model_type("forecast_arima-2")
    with pytest.raises(InvalidError):
        registry_checks.check_model_type("-x")
    with pytest.raises(InvalidError):
        registry_checks.check_model_type("x\n")
