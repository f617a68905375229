"""Silences over HTTP: tried, set, changed, ended; by limited keys for their own machines alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from modelperf.models import Alert, Machine, Silence, SilenceEvent
from modelperf.services import silences
from modelperf.services.errors import ConflictError
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem
from tests.services.concurrency import at_once

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


CHANGES: dict[str, dict[str, Any] | None] = {"patch": {"reason": "filters"}, "delete": None}


@pytest.mark.parametrize("method", CHANGES)
def test_who_comes_second_with_a_tag_is_told_how_the_silence_stands(
    api: APIClient, method: str
) -> None:
    made = api.post(ADDRESS, given())
    seen = api.get(of(made.json()))
    assert made.headers["ETag"] == seen.headers["ETag"] == '"1"'
    first = api.patch(of(made.json()), {"owner": "bob"}, headers={"if-match": '"1"'})
    assert (first.status_code, first.headers["ETag"]) == (200, '"2"')

    second = getattr(api, method)
    stale = second(of(made.json()), CHANGES[method], headers={"if-match": seen.headers["ETag"]})
    document = problem(stale, 409)
    assert document["detail"] == "The silence is at revision 2, not 1."
    stands = first.json()
    assert document["state"] == {
        name: stands[name]
        for name in ("revision", "matchers", "reason", "owner", "starts_at", "ends_at")
    }
    assert SilenceEvent.objects.count() == 2

    done = second(of(made.json()), CHANGES[method], headers={"if-match": '"2"'})
    assert (done.status_code, done.headers["ETag"], done.json()["revision"]) == (200, '"3"', 3)


@pytest.mark.parametrize("method", CHANGES)
def test_a_tag_that_is_none_of_ours_changes_nothing(api: APIClient, method: str) -> None:
    made = api.post(ADDRESS, given()).json()
    response = getattr(api, method)(of(made), CHANGES[method], headers={"if-match": "1"})
    assert places(response) == [["header", "If-Match"]]
    assert SilenceEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_four_at_once_with_one_tag_one_changes_a_silence() -> None:
    known = {"matchers": {"machine": ["*"]}, "reason": "new filters", "owner": "ada"}
    ends = timezone.now() + timedelta(hours=1)
    silence = silences.create(**known, ends_at=ends, by="key:tests")

    def lengthen(number: int) -> Silence:
        by = f"user:{number}"
        return silences.change(silence=silence, owner=by, by=by, revision=1)

    outcomes = at_once(4, lengthen)
    assert Counter(type(one) for one in outcomes) == {Silence: 1, ConflictError: 3}
    assert SilenceEvent.objects.count() == 2


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


def test_a_preview_takes_what_a_silence_takes(api: APIClient) -> None:
    tried = problem(api.post(f"{ADDRESS}/preview", {"matchers": {}}), 422)
    assert tried == problem(api.post(ADDRESS, given(matchers={})), 422)


def test_a_preview_of_many_is_as_many_statements_and_reads_no_documents(api: APIClient) -> None:
    def statements() -> list[str]:
        with CaptureQueriesContext(connection) as made:
            found = api.post(f"{ADDRESS}/preview", {"matchers": {"machine": ["*"]}}).json()
        assert len(found["alerts"]) == Alert.objects.count()
        return [one["sql"] for one in made]

    factories.AlertFactory.create()
    of_one = statements()
    factories.AlertFactory.create_batch(4)
    of_five = statements()
    assert len(of_five) == len(of_one)
    assert not [one for one in of_five if "alert_details" in one or "auto_action_result" in one]


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


def test_an_id_may_be_written_in_capitals(api: APIClient, limited: APIClient, own: Machine) -> None:
    matchers = {"machine": [str(own.pk).upper()]}
    for client in (api, limited):
        made = client.post(ADDRESS, given(matchers=matchers))
        assert made.status_code == 201, made.content
        assert made.json()["matchers"] == {"machine": [str(own.pk)]}
        assert client.patch(of(made.json()), {"matchers": matchers}).status_code == 200
    alert = factories.AlertFactory.create(model=factories.ModelVersionFactory(machine=own))
    found = limited.post(f"{ADDRESS}/preview", {"matchers": matchers}).json()
    assert [one["id"] for one in found["alerts"]] == [str(alert.pk)]


def test_a_limited_key_silences_nothing_else(limited: APIClient, own: Machine) -> None:
    other = factories.MachineFactory.create()
    made = limited.post(ADDRESS, given(matchers={"machine": [str(own.pk)]})).json()
    for matchers in (
        {"machine": ["*"]},
        {"machine": [str(own.pk), str(other.pk)]},
        {"machine": [str(own.pk).replace("-", "")]},  # which may be a name
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
