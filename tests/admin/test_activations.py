"""Which version serves: changed by actions that ask why, and kept as a history."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from modelperf.models import ModelActivation, ModelVersion
from modelperf.services import registry
from tests import factories

MODELS, HISTORY = "/admin/modelperf/modelversion/", "/admin/modelperf/modelactivation/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


@pytest.fixture
def versions() -> list[ModelVersion]:
    """Return the versions of a series, of which the second serves after the first."""
    machine = factories.MachineFactory.create(name="pump 7")
    made = factories.ModelVersionFactory.create_batch(2, machine=machine)
    for model in made:
        registry.activate_model(model=model, by="user:ada")
    return made


def active() -> int:
    return ModelVersion.objects.get(is_active=True).model_version


def act(desk: Client, action: str, *models: ModelVersion, **fields: str) -> str:
    """Choose an action of the list, and return what came of it."""
    chosen = {"action": action, "_selected_action": [model.pk for model in models]} | fields
    return desk.post(MODELS, chosen, follow=True).content.decode()


def test_activate_asks_first_and_says_what_will_happen(
    desk: Client, versions: list[ModelVersion]
) -> None:
    html = act(desk, "activate", *versions)
    assert "These versions will serve their series" in html
    assert "<li>pump 7 · baseline v1</li>" in html
    assert "pump 7 · baseline v2 is active already." in html
    assert active() == 2


def test_activate_keeps_who_and_why(
    desk: Client, superuser: User, versions: list[ModelVersion]
) -> None:
    html = act(desk, "activate", versions[0], confirm="Activate", reason="calmer")
    assert "1 activated." in html
    assert active() == 1
    newest = ModelActivation.objects.latest("activated_at")
    assert (newest.kind, newest.reason) == ("activated", "calmer")
    assert newest.activated_by == f"user:{superuser.username}"
    assert LogEntry.objects.get().object_id == str(versions[0].pk)


def test_activate_needs_no_reason_and_does_nothing_twice(
    desk: Client, versions: list[ModelVersion]
) -> None:
    act(desk, "activate", versions[0], confirm="Activate", reason="")
    assert active() == 1
    assert "It is active already." in act(desk, "activate", versions[0], confirm="Activate")
    assert ModelActivation.objects.count() == 3


def test_roll_back_asks_for_a_reason(desk: Client, versions: list[ModelVersion]) -> None:
    html = act(desk, "roll_back", versions[1])
    assert "<li>pump 7 · baseline: back to version 1</li>" in html
    html = act(desk, "roll_back", versions[1], confirm="Roll back", reason="  ")
    assert "This field is required." in html
    assert active() == 2


def test_roll_back_goes_back_once_however_many_versions_are_selected(
    desk: Client, superuser: User, versions: list[ModelVersion]
) -> None:
    third = factories.ModelVersionFactory.create(machine=versions[0].machine)
    registry.activate_model(model=third, by="user:ada")
    html = act(desk, "roll_back", *versions, third, confirm="Roll back", reason="it is worse")
    assert "1 rolled back." in html
    assert active() == 2
    newest = ModelActivation.objects.latest("activated_at")
    assert (newest.kind, newest.reason, newest.activated_by) == (
        "rolled_back",
        "it is worse",
        f"user:{superuser.username}",
    )


def test_roll_back_without_anything_before_says_so(desk: Client) -> None:
    model = factories.ModelVersionFactory.create(machine__name="pump 7")
    registry.activate_model(model=model, by="user:ada")
    html = act(desk, "roll_back", model)
    assert "pump 7 · baseline: no version is known to have served before." in html
    assert 'name="confirm"' not in html
    html = act(desk, "roll_back", model, confirm="Roll back", reason="it is worse")
    assert "No version is known to have served before" in html
    assert active() == 1


def test_who_may_only_see_versions_changes_none(user: User, versions: list[ModelVersion]) -> None:
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename="view_modelversion"))
    client = Client()
    client.force_login(user)
    for action in ("activate", "roll_back"):
        act(client, action, versions[0], confirm="Yes", reason="x")
    assert active() == 2


def test_the_history_is_shown_and_never_changed(desk: Client, versions: list[ModelVersion]) -> None:
    registry.rollback(
        machine=versions[0].machine, model_type="baseline", reason="it is worse", by="user:eve"
    )
    html = desk.get(HISTORY).content.decode()
    for told in ("pump 7 · baseline", "Rolled back", "it is worse", "user:eve", "just now"):
        assert told in html
    newest = ModelActivation.objects.latest("activated_at")
    address = f"{HISTORY}{newest.pk}/change/"
    assert desk.get(address).status_code == 200
    assert desk.post(address, {"reason": "x"}).status_code == 403
    assert desk.get(f"{HISTORY}add/").status_code == 403


def test_a_version_tells_when_it_came_to_serve(desk: Client, versions: list[ModelVersion]) -> None:
    registry.activate_model(model=versions[0], reason="calmer", by="user:eve")
    html = desk.get(f"{MODELS}{versions[0].pk}/change/").content.decode()
    assert "calmer" in html
    assert html.count('class="field-kind"') == 2
    assert desk.get(f"{MODELS}add/").content.decode().count("field-kind") == 0
