"""Machines and model versions in the admin."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from modelperf.models import Machine, ModelVersion, Series
from tests import factories

MACHINES, MODELS = "/admin/modelperf/machine/", "/admin/modelperf/modelversion/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def machine_form(**values: object) -> dict[str, object]:
    return {
        "name": "pump 1",
        "type": "pump",
        "location": "",
        "data_interval_seconds": "3600",
        "metadata": "{}",
    } | values


def test_add_machine_registers_it_through_the_service(desk: Client) -> None:
    form = machine_form(metadata=json.dumps({"unit": "kWh"}))

    response = desk.post(f"{MACHINES}add/", form, follow=True)

    machine = Machine.objects.get()
    assert (machine.name, machine.metadata) == ("pump 1", {"unit": "kWh"})
    assert b"was added successfully" in response.content
    assert LogEntry.objects.get().object_id == str(machine.pk)


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"metadata": "[1]"}, {"metadata": "{"}, {"data_interval_seconds": "0"}]
)
def test_add_machine_with_wrong_values_stores_nothing(
    desk: Client, wrong: dict[str, object]
) -> None:
    response = desk.post(f"{MACHINES}add/", machine_form(**wrong), follow=True)

    assert response.status_code == 200
    assert b"error" in response.content
    assert not Machine.objects.exists()


def test_change_machine_changes_what_was_changed(desk: Client) -> None:
    machine = factories.MachineFactory.create(name="pump 1", data_interval_seconds=3600)

    desk.post(f"{MACHINES}{machine.pk}/change/", machine_form(name="pump 2"))

    machine.refresh_from_db()
    assert machine.name == "pump 2"


def test_empty_metadata_is_an_empty_object(desk: Client) -> None:
    desk.post(f"{MACHINES}add/", machine_form(metadata=""))

    assert Machine.objects.get().metadata == {}


def test_retire_and_return_are_verbs_of_the_list(desk: Client) -> None:
    machine = factories.MachineFactory.create()

    desk.post(MACHINES, {"action": "retire", "_selected_action": [machine.pk]})
    machine.refresh_from_db()
    assert not machine.is_active

    response = desk.post(
        MACHINES, {"action": "retire", "_selected_action": [machine.pk]}, follow=True
    )
    assert b"is retired already" in response.content

    desk.post(MACHINES, {"action": "return_to_service", "_selected_action": [machine.pk]})
    machine.refresh_from_db()
    assert machine.is_active


def test_machines_are_not_deleted(desk: Client) -> None:
    machine = factories.MachineFactory.create()

    assert desk.post(f"{MACHINES}{machine.pk}/delete/", {"post": "yes"}).status_code == 403


def model_form(machine: Machine, **values: object) -> dict[str, object]:
    return {
        "machine": str(machine.pk),
        "model_type": "baseline",
        "model_version": "",
        "feature_names": "temperature, hour",
        "hyperparameters": "{}",
        "metadata": "{}",
    } | values


def test_add_model_registers_the_next_version_of_its_series(desk: Client) -> None:
    machine = factories.ModelVersionFactory.create(is_active=True).machine

    response = desk.post(f"{MODELS}add/", model_form(machine, is_active="on"), follow=True)

    assert b"was added successfully" in response.content
    second = ModelVersion.objects.get(model_version=2)
    assert second.is_active
    assert second.feature_names == ["temperature", "hour"]
    assert ModelVersion.objects.filter(is_active=True).count() == 1


def test_add_model_makes_its_series(desk: Client) -> None:
    machine = factories.MachineFactory.create()

    desk.post(f"{MODELS}add/", model_form(machine))

    assert Series.objects.filter(machine=machine, model_type="baseline").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"model_version": "1"}, "already"),
        ({"model_type": "not a slug"}, "slug"),
        ({"hyperparameters": "3"}, "Write an object"),
        ({"metadata": '"x"'}, "Write an object"),
    ],
)
def test_add_model_with_wrong_values_says_why_and_stores_nothing(
    desk: Client, wrong: dict[str, object], says: str
) -> None:
    machine = factories.ModelVersionFactory.create().machine

    response = desk.post(f"{MODELS}add/", model_form(machine, **wrong), follow=True)

    html = response.content.decode()
    assert says in html
    assert 'value="temperature, hour"' in html  # what was typed is kept
    assert ModelVersion.objects.count() == 1


def test_model_page_shows_the_artefact_only_to_those_who_may_train(user: User) -> None:
    model = factories.ModelVersionFactory.create(artefact={"coefficients": [1, 2]})
    user.is_staff = True
    user.save()
    shown = []
    for name in ("view_modelversion", "add_trainingrun"):
        user.user_permissions.add(Permission.objects.get(codename=name))
        client = Client()
        client.force_login(user)
        response = client.get(f"{MODELS}{model.pk}/change/")
        assert response.status_code == 200
        shown.append(b"coefficients" in response.content)

    assert shown == [False, True]


def test_model_page_shows_the_artefact_and_changes_nothing(desk: Client) -> None:
    model = factories.ModelVersionFactory.create(artefact={"coefficients": [1, 2]})
    address = f"{MODELS}{model.pk}/change/"

    assert b"coefficients" in desk.get(address).content
    assert desk.post(address, {"model_type": "other"}).status_code == 403


@pytest.mark.parametrize(("address", "queries"), [(MACHINES, 5), (MODELS, 5)])
def test_lists_need_the_same_queries_for_one_row_and_for_many(
    desk: Client, address: str, queries: int
) -> None:
    factories.ModelVersionFactory.create()
    with CaptureQueriesContext(connection) as few:
        desk.get(address)
    factories.ModelVersionFactory.create_batch(9)

    with CaptureQueriesContext(connection) as many:
        desk.get(address)

    # session, user; values of a filter; count, rows
    assert len(few) == len(many) == queries
