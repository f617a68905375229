"""Silences over HTTP: tried, set, changed, ended; by limited keys for their own machines alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from modelperf.models import Machine, Silence, SilenceEvent
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem

pytestmark = pytest.mark.django_db
ClientWith = Callable[..., APIClient]
ADDRESS = f"{ROOT}/silences"


def at(hours: int) -> str:
    """Return a moment so many hours from now, as it is sent and answered."""
    return f"{timezone.now().replace(microsecond=0) + timedelta(hours=hours):%FT%TZ}"


def given(**changes: Any) -> dict[str, Any]:
    known = {"matchers": {"machine": ["pump *"]}, "reason": "new filters", "owner": "ada"}
    return {**known, "ends_at": at(2), **changes}


def of(silence: dict[str, Any]) -> str:
    return f"{ADDRESS}/{silence['id']}"


def test_a_silence_is_set_changed_and_ended_and_stays_with_its_history(api: APIClient) -> None:
    ends = at(2)
    response = api.post(ADDRESS, given(ends_at=ends))
    assert response.status_code == 201
    made = response.json()
    assert (made["owner"], made["reason"], made["ends_at"]) == ("ada", "new filters", ends)
    assert (made["matchers"], made["created_by"]) == ({"machine": ["pump *"]}, "key:tests")
    assert made["in_force"] is True

    later = at(4)
    changed = api.patch(of(made), {"ends_at": later, "owner": "bob"}).json()
    assert (changed["ends_at"], changed["owner"], changed["reason"]) == (
        later,
        "bob",
        "new filters",
    )

    ended = api.delete(of(made)).json()
    assert ended["in_force"] is False
    assert datetime.fromisoformat(ended["ends_at"]) <= timezone.now()
    assert [one["id"] for one in api.get(ADDRESS).json()["results"]] == [made["id"]]
    history = api.get(of(made)).json()["history"]
    assert [(one["event"], one["by"]) for one in history] == [
        (event, "key:tests") for event in ("end", "change", "create")
    ]
    assert [one["owner"] for one in history] == ["bob", "bob", "ada"]


def test_a_silence_that_is_over_is_not_changed(api: APIClient) -> None:
    made = api.post(ADDRESS, given()).json()
    api.delete(of(made))
    for response in (api.delete(of(made)), api.patch(of(made), {"reason": "again"})):
        document = problem(response, 409)
        assert "over" in document["detail"]
        assert document["state"]["ends_at"]


def test_a_silence_may_begin_later(api: APIClient) -> None:
    made = api.post(ADDRESS, given(starts_at=at(1))).json()
    assert made["in_force"] is False
    assert api.get(ADDRESS, {"in_force": "true"}).json()["results"] == []
    assert api.get(ADDRESS, {"in_force": "false"}).json()["results"][0]["id"] == made["id"]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"ends_at": "2020-01-01T00:00:00Z"}, ["body", "ends_at"]),
        ({"ends_at": None}, ["body", "ends_at"]),
        ({"starts_at": "2190-01-01T00:00:00Z"}, ["body", "ends_at"]),
        ({"reason": ""}, ["body", "reason"]),
        ({"reason": "  "}, ["body", "reason"]),
        ({"owner": "o" * 201}, ["body", "owner"]),
        ({"matchers": {}}, ["body", "matchers"]),
        ({"matchers": {"colour": ["red"]}}, ["body", "matchers"]),
        ({"matchers": {"machine": "pump"}}, ["body", "matchers"]),
        ({"matchers": {"severity": ["terrible"]}}, ["body", "matchers"]),
        ({"for_ever": True}, ["body", "for_ever"]),
    ],
)
def test_a_silence_that_says_too_little_is_refused(
    api: APIClient, changes: dict[str, Any], place: list[str]
) -> None:
    assert places(api.post(ADDRESS, given(**changes)))[0][:2] == place
    assert not Silence.objects.exists()


@pytest.mark.parametrize("name", ["matchers", "reason", "owner", "ends_at"])
def test_a_silence_needs_them_all(api: APIClient, name: str) -> None:
    sent = given()
    del sent[name]
    assert places(api.post(ADDRESS, sent)) == [["body", name]]


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_an_unknown_silence_is_404(api: APIClient, method: str) -> None:
    sent = {"reason": "r"} if method == "patch" else None
    response = getattr(api, method)(f"{ADDRESS}/{NOWHERE}", sent)
    assert problem(response, 404)["detail"] == "Silence not found"


def test_a_preview_tells_what_it_would_be_for_now_and_stores_nothing(api: APIClient) -> None:
    models = [
        factories.ModelVersionFactory.create(machine=factories.MachineFactory(name=name))
        for name in ("pump 1", "pump 2", "fan 1")
    ]
    warning, critical, _ = [
        factories.AlertFactory.create(model=model, severity=severity)
        for model, severity in zip(models, ("warning", "critical", "critical"), strict=True)
    ]
    factories.AlertFactory.create(model=models[0], resolved=True)

    found = api.post(f"{ADDRESS}/preview", {"matchers": {"machine": ["pump *"]}}).json()

    assert found["count"] == 2
    assert [one["id"] for one in found["alerts"]] == [str(critical.pk), str(warning.pk)]
    assert [one["machine_name"] for one in found["alerts"]] == ["pump 2", "pump 1"]
    assert not Silence.objects.exists()


def test_a_preview_names_a_hundred_and_counts_them_all(api: APIClient) -> None:
    model = factories.ModelVersionFactory.create()
    factories.AlertFactory.create_batch(101, model=model)
    found = api.post(f"{ADDRESS}/preview", {"matchers": {"severity": ["warning"]}}).json()
    assert (found["count"], len(found["alerts"])) == (101, 100)


# --- limited keys ---------------------------------------------------------------------------


@pytest.fixture
def own() -> Machine:
    return factories.MachineFactory.create(name="pump 1")


@pytest.fixture
def limited(client_with: ClientWith, own: Machine) -> APIClient:
    return client_with("read", "triage", machines=[own], name="hall 1")


def test_a_limited_key_silences_machines_of_its_own(limited: APIClient, own: Machine) -> None:
    matchers = {"machine": [str(own.pk)], "severity": ["warning"]}
    made = limited.post(ADDRESS, given(matchers=matchers)).json()
    assert made["created_by"] == "key:hall 1"
    assert limited.patch(of(made), {"reason": "newer filters"}).status_code == 200
    assert limited.delete(of(made)).status_code == 200


def test_a_limited_key_silences_nothing_else(limited: APIClient, own: Machine) -> None:
    other = factories.MachineFactory.create()
    made = limited.post(ADDRESS, given(matchers={"machine": [str(own.pk)]})).json()
    for matchers in (
        {"machine": ["*"]},
        {"machine": [str(own.pk), str(other.pk)]},
        {"machine": [own.name]},  # which another machine may be given
        {"machine": []},
        {"location": ["hall 1"]},
        {"severity": ["critical"]},
    ):
        refused = limited.post(ADDRESS, given(matchers=matchers))
        assert "ids" in problem(refused, 403)["detail"]
        problem(limited.patch(of(made), {"matchers": matchers}), 403)
    assert SilenceEvent.objects.count() == 1


def test_a_limited_key_sees_silences_of_its_own_machines(
    api: APIClient, limited: APIClient, own: Machine
) -> None:
    others = [
        api.post(ADDRESS, given(matchers=matchers)).json()
        for matchers in ({"machine": ["*"]}, {"severity": ["warning"]}, {"machine": [NOWHERE]})
    ]
    mine = api.post(ADDRESS, given(matchers={"machine": [str(own.pk)]})).json()
    assert [one["id"] for one in limited.get(ADDRESS).json()["results"]] == [mine["id"]]
    for silence in others:
        problem(limited.get(of(silence)), 404)
        problem(limited.patch(of(silence), {"reason": "mine"}), 404)
        problem(limited.delete(of(silence)), 404)
    assert Silence.objects.in_force(timezone.now()).count() == 4


def test_a_limited_key_previews_alerts_of_its_own_machines(
    limited: APIClient, own: Machine
) -> None:
    alert = factories.AlertFactory.create(model=factories.ModelVersionFactory(machine=own))
    factories.AlertFactory.create()
    found = limited.post(f"{ADDRESS}/preview", {"matchers": {"machine": ["*"]}}).json()
    assert [one["id"] for one in found["alerts"]] == [str(alert.pk)]
    assert found["count"] == 1
