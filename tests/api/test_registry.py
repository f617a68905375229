"""Machines and model versions over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from modelperf.models import Machine, ModelVersion, Series
from modelperf.services import registry
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem, series_of

pytestmark = pytest.mark.django_db


def test_a_machine_is_added_and_told_about(api: APIClient) -> None:
    given = {
        "name": "press 3",
        "type": "press",
        "location": "hall 2",
        "data_interval_seconds": 900,
        "metadata": {"line": [1, 2]},
    }
    response = api.post(f"{ROOT}/machines", given)
    assert response.status_code == 201
    machine = response.json()
    assert machine.items() >= given.items()
    assert machine["is_active"] is True
    assert machine["created_at"].endswith("Z")
    assert api.get(f"{ROOT}/machines/{machine['id']}").json() == machine


def test_adding_a_machine_can_be_repeated_under_its_id(api: APIClient) -> None:
    given = {"id": str(uuid.uuid4()), "name": "m", "type": "t"}
    statuses = [api.post(f"{ROOT}/machines", given).status_code for _ in range(2)]
    assert statuses == [201, 200]
    problem(api.post(f"{ROOT}/machines", given | {"name": "other"}), 409)
    assert Machine.objects.get().name == "m"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": None}, "name"),
        ({"type": 5}, "type"),
        ({"id": "x"}, "id"),
        ({"data_interval_seconds": 0}, "data_interval_seconds"),
        ({"data_interval_seconds": 2**31}, "data_interval_seconds"),
        ({"data_interval_seconds": 1.5}, "data_interval_seconds"),
        ({"metadata": "x"}, "metadata"),
    ],
)
def test_a_wrong_machine_is_refused(api: APIClient, changes: dict[str, Any], place: str) -> None:
    response = api.post(f"{ROOT}/machines", {"name": "m", "type": "t"} | changes)
    assert places(response) == [["body", place]]
    assert not Machine.objects.exists()


def test_a_machine_changes_only_what_is_sent(api: APIClient) -> None:
    machine = factories.MachineFactory(data_interval_seconds=60, metadata={"a": 1})
    address = f"{ROOT}/machines/{machine.pk}"
    changed = api.patch(address, {"name": "new", "data_interval_seconds": None}).json()
    assert (changed["name"], changed["data_interval_seconds"]) == ("new", None)
    assert (changed["type"], changed["metadata"]) == ("pump", {"a": 1})
    assert places(api.patch(address, {"id": NOWHERE})) == [["body", "id"]]
    problem(api.patch(f"{ROOT}/machines/{NOWHERE}", {"name": "x"}), 404)


def test_a_retired_machine_is_hidden_and_kept(api: APIClient) -> None:
    machine = factories.MachineFactory()
    address = f"{ROOT}/machines/{machine.pk}"
    for _ in range(2):
        assert api.patch(address, {"is_active": False}).json()["is_active"] is False
    assert api.get(f"{ROOT}/machines").json()["results"] == []
    assert api.get("/api/v1/machines").json() == []
    assert len(api.get(f"{ROOT}/machines?is_active=false").json()["results"]) == 1
    assert api.get(address).json()["name"] == machine.name
    returned = api.patch(address, {"is_active": True, "name": "back"}).json()
    assert (returned["is_active"], returned["name"]) == (True, "back")


def test_current_lists_hide_a_retired_machine_unless_it_is_named(api: APIClient) -> None:
    model = factories.ModelVersionFactory(is_active=True)
    alert = factories.AlertFactory(model=model)
    fleet = factories.AlertFactory(fleet=True)
    metric = factories.ModelPerformanceMetricFactory(model=model)
    factories.LatestPerformanceFactory.of(metric)
    test = factories.ABTestFactory(machine=model.machine, model_a=model)
    run = factories.TrainingRunFactory(machine=model.machine)
    lists = ("alerts/active", "metrics/latest", "ab-test/active", "models")

    def listed(path: str) -> list[str]:
        answer = api.get(f"{ROOT}/{path}").json()
        return [row["id"] for row in (answer if isinstance(answer, list) else answer["results"])]

    before = {path: listed(path) for path in lists}
    assert all(before.values())
    registry.retire_machine(machine=model.machine, by="key:tests")

    assert [listed(path) for path in lists] == [[str(fleet.pk)], [], [], []]
    named = {path: listed(f"{path}?machine_id={model.machine_id}") for path in lists}
    assert named == before | {"alerts/active": [str(alert.pk)]}
    kept = {"metrics": metric, "training": run, "ab-test": test}
    assert {path: listed(path) for path in kept} == {p: [str(r.pk)] for p, r in kept.items()}
    assert len(listed("alerts")) == 2


def test_a_model_of_a_retired_machine_is_not_activated(api: APIClient) -> None:
    model = factories.ModelVersionFactory(machine__is_active=False)
    document = problem(api.post(f"{ROOT}/models/{model.pk}/activate"), 409)
    assert "retired" in document["detail"]
    model.refresh_from_db()
    assert not model.is_active


def test_an_id_that_a_hidden_model_has_tells_nothing_of_it(
    client_with: Callable[..., APIClient],
) -> None:
    hidden = factories.ModelVersionFactory(model_type="secret")
    own = factories.MachineFactory()
    client = client_with("write", machines=[own])
    given = {"id": str(hidden.pk), "machine_id": str(own.pk), "model_type": "baseline"}
    document = problem(client.post(f"{ROOT}/models", given), 409)
    assert document["detail"] == f"The id {hidden.pk} belongs to another model."
    assert document["state"] == {"id": str(hidden.pk)}


def test_a_refused_change_of_a_machine_changes_nothing(api: APIClient) -> None:
    machine = factories.MachineFactory()
    response = api.patch(f"{ROOT}/machines/{machine.pk}", {"is_active": False, "name": " "})
    assert places(response) == [["body", "name"]]
    machine.refresh_from_db()
    assert machine.is_active


def test_machines_are_filtered_by_type(api: APIClient) -> None:
    factories.MachineFactory(type="pump")
    press = factories.MachineFactory(type="press")
    found = api.get(f"{ROOT}/machines?type=press").json()["results"]
    assert [one["id"] for one in found] == [str(press.pk)]


def test_a_model_is_registered_with_the_next_number(api: APIClient) -> None:
    first = factories.ModelVersionFactory(model_version=4)
    given = series_of(first) | {
        "trained_at": "2024-05-01T02:00:00+02:00",
        "artefact": {"a": 1},
        "feature_names": ["temperature"],
        "hyperparameters": {"depth": 3},
        "metadata": {"by": "night"},
    }
    response = api.post(f"{ROOT}/models", given)
    assert response.status_code == 201, response.content
    model = response.json()
    assert model["model_version"] == 5
    assert model["trained_at"] == "2024-05-01T00:00:00Z"
    assert "artefact" not in model
    stored = ModelVersion.objects.get(pk=model["id"])
    assert (stored.artefact, stored.feature_names) == ({"a": 1}, ["temperature"])


def test_registering_a_model_can_be_repeated_under_its_id(api: APIClient) -> None:
    machine = factories.MachineFactory()
    given = {"id": str(uuid.uuid4()), "machine_id": str(machine.pk), "model_type": "baseline"}
    statuses = [api.post(f"{ROOT}/models", given).status_code for _ in range(2)]
    assert statuses == [201, 200]
    problem(api.post(f"{ROOT}/models", given | {"model_type": "other"}), 409)
    problem(api.post(f"{ROOT}/models", given | {"machine_id": NOWHERE}), 404)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"model_type": "two words"}, "model_type"),
        ({"model_type": "x" * 51}, "model_type"),
        ({"model_version": 0}, "model_version"),
        ({"model_version": 2**31}, "model_version"),
        ({"trained_at": "2024-05-01T00:00:00"}, "trained_at"),
        ({"feature_names": [1]}, "feature_names"),
        ({"feature_names": "a"}, "feature_names"),
        ({"artefact": [1]}, "artefact"),
        ({"is_active": 1}, "is_active"),
    ],
)
def test_a_wrong_model_is_refused(api: APIClient, changes: dict[str, Any], place: str) -> None:
    given = {"machine_id": str(factories.MachineFactory().pk), "model_type": "a"} | changes
    assert places(api.post(f"{ROOT}/models", given)) == [["body", place]]


def test_activation_leaves_one_version_active(api: APIClient) -> None:
    first = factories.ModelVersionFactory(is_active=True)
    second = factories.ModelVersionFactory(machine=first.machine)
    answer = api.post(f"{ROOT}/models/{second.pk}/activate").json()
    assert (answer["id"], answer["is_active"]) == (str(second.pk), True)
    assert [model.pk for model in ModelVersion.objects.active()] == [second.pk]
    problem(api.post(f"{ROOT}/models/{NOWHERE}/activate"), 404)


def test_an_activation_is_kept_with_its_reason(api: APIClient) -> None:
    first = factories.ModelVersionFactory(is_active=True)
    second = factories.ModelVersionFactory(machine=first.machine)
    address = f"{ROOT}/models/{second.pk}"
    api.post(f"{address}/activate", {"reason": "it knows the new boiler"})
    (kept,) = api.get(address).json()["activations"]
    assert kept.pop("activated_at").endswith("Z")
    assert kept == {
        "model_id": str(second.pk),
        "model_version": second.model_version,
        "previous_id": str(first.pk),
        "previous_version": first.model_version,
        "kind": "activated",
        "reason": "it knows the new boiler",
        "activated_by": "key:tests",
    }
    assert places(api.post(f"{address}/activate", {"reason": "x" * 2001})) == [["body", "reason"]]
    assert places(api.post(f"{address}/activate?reason=x")) == [["query", "reason"]]


def test_a_series_is_rolled_back_to_the_version_that_served_before(api: APIClient) -> None:
    first = factories.ModelVersionFactory()
    second, third = factories.ModelVersionFactory.create_batch(2, machine=first.machine)
    for model in (first, second, third):
        api.post(f"{ROOT}/models/{model.pk}/activate")
    given = series_of(first) | {"reason": "the new one counts holidays twice"}
    for expected in (second, first):
        answer = api.post(f"{ROOT}/series/rollback", given).json()
        assert (answer["id"], answer["is_active"]) == (str(expected.pk), True)
        assert ModelVersion.objects.active().get() == expected
    assert "served before" in problem(api.post(f"{ROOT}/series/rollback", given), 409)["detail"]
    assert ModelVersion.objects.active().get() == first
    newest, oldest = (
        api.get(f"{ROOT}/models/{first.pk}").json()["activations"][n] for n in (0, -1)
    )
    assert (newest["kind"], newest["previous_id"]) == ("rolled_back", str(second.pk))
    assert (newest["reason"], newest["activated_by"]) == (given["reason"], "key:tests")
    assert (oldest["kind"], oldest["previous_id"]) == ("activated", None)


@pytest.mark.parametrize("missing", ["machine_id", "model_type", "reason"])
def test_a_rollback_names_its_series_and_says_why(api: APIClient, missing: str) -> None:
    given = series_of(factories.ModelVersionFactory(is_active=True)) | {"reason": "r"}
    response = api.post(f"{ROOT}/series/rollback", given | {missing: ""})
    assert places(response) == [["body", missing]]
    del given[missing]
    assert places(api.post(f"{ROOT}/series/rollback", given)) == [["body", missing]]


def test_a_rollback_of_what_is_not_there_is_refused(api: APIClient) -> None:
    model = factories.ModelVersionFactory(is_active=True)
    given = series_of(model) | {"reason": "r"}
    problem(api.post(f"{ROOT}/series/rollback", given | {"machine_id": NOWHERE}), 404)
    problem(api.post(f"{ROOT}/series/rollback", given | {"model_type": "another"}), 409)
    assert places(api.post(f"{ROOT}/series/rollback", given | {"reason": " "})) == [
        ["body", "reason"]
    ]
    problem(api.post(f"{ROOT}/series/rollback", given), 409)
    assert not Series.objects.filter(model_type="another").exists()
    registry.retire_machine(machine=model.machine, by="user:tests")
    assert "retired" in problem(api.post(f"{ROOT}/series/rollback", given), 409)["detail"]


def test_models_are_filtered(api: APIClient) -> None:
    wanted = factories.ModelVersionFactory(is_active=True, model_type="anomaly")
    factories.ModelVersionFactory()
    for query in ("model_type=anomaly", f"machine_id={wanted.machine_id}", "is_active=true"):
        found = api.get(f"{ROOT}/models?{query}").json()["results"]
        assert [one["id"] for one in found] == [str(wanted.pk)]
