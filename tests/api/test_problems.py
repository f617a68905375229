"""Errors of every kind are problem documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from modelperf.models import Machine
from tests import factories
from tests.api.calls import JSON, ROOT, evaluation, places, problem

pytestmark = pytest.mark.django_db
RECORD = f"{ROOT}/metrics/record"


NO_PATHS = ["/api/", "/api/nothing", f"{ROOT}/", f"{ROOT}/machines/", f"{ROOT}/%00"]
NOT_JSON = [
    "text/plain",
    "text/json",
    "application/x-www-form-urlencoded",
    "application/xml",
    "multipart/form-data; boundary=x",
    "x" * 400,
]
IS_JSON = [
    JSON,
    "application/json; charset=utf-8",
    "Application/JSON",
    "application/vnd.own+json",
]
ODD = ["a%00b", "%00", "%ed%a0%80", "%ff", "é", "%F0%9F%92%A9", "'", '"--;', "%25s"]


@pytest.mark.parametrize("path", NO_PATHS)
def test_an_unknown_path_is_a_problem(api: APIClient, path: str) -> None:
    problem(api.get(path), 404)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize(
    ("path", "status"), [(f"{ROOT}/nothing", 404), ("/api/", 404), (f"{ROOT}/verdicts", 405)]
)
def test_a_path_without_such_a_method_is_a_problem(
    make_key: Callable[..., str], method: str, path: str, status: int
) -> None:
    api = APIClient(enforce_csrf_checks=True)
    api.credentials(HTTP_AUTHORIZATION=f"Api-Key {make_key('read', 'write')}")
    problem(api.generic(method, path, "{}", JSON), status)


def test_an_unknown_page_is_not(client: Client) -> None:
    response = client.get("/nothing")
    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("method", ["DELETE", "PUT", "GET", "OPTIONS", "PATCH"])
def test_a_method_that_does_not_exist_is_a_problem(api: APIClient, method: str) -> None:
    response = api.generic(method, RECORD)
    assert problem(response, 405)["detail"] == f'Method "{method}" not allowed. Send POST.'
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("kind", NOT_JSON)
def test_a_body_that_is_not_called_json_is_a_problem(api: APIClient, kind: str) -> None:
    detail = problem(api.generic("POST", RECORD, "{}", kind), 415)["detail"]
    assert detail.endswith(" Send application/json.")


def test_a_body_of_another_form_is_told_every_form_that_is_read(api: APIClient) -> None:
    detail = problem(api.generic("POST", f"{RECORD}/bulk", "{}", "text/plain"), 415)["detail"]
    assert detail.endswith(" Send application/json, application/x-ndjson.")


def test_a_wrong_choice_is_told_the_right_ones(api: APIClient) -> None:
    (error,) = problem(api.get(f"{ROOT}/verdicts?status=year"), 422)["errors"]
    assert error["msg"] == (
        "Invalid enum value 'year'. Send one of"
        " degraded, improved, improvement_lost, insufficient_data, stable."
    )


def test_a_request_without_a_key_is_told_how_to_send_one(anonymous: APIClient) -> None:
    detail = problem(anonymous.get(f"{ROOT}/machines"), 401)["detail"]
    assert detail == "A key is needed: send the header Authorization: Api-Key <key>."


@pytest.mark.parametrize("kind", IS_JSON)
def test_a_body_that_is_called_json_is_read(api: APIClient, kind: str) -> None:
    assert places(api.generic("POST", RECORD, "{}", kind))


def test_malformed_json_is_a_problem(api: APIClient) -> None:
    problem(api.generic("POST", RECORD, "{", JSON), 400)


@pytest.mark.parametrize("body", ["[]", "1", '"a"', "true", "null", "[[[]]]"])
@pytest.mark.parametrize("path", ["metrics/record", "machines", "drift/check"])
def test_json_that_is_no_object_is_a_problem(api: APIClient, path: str, body: str) -> None:
    assert places(api.generic("POST", f"{ROOT}/{path}", body, JSON))


def test_a_duplicate_name_is_a_problem(api: APIClient) -> None:
    response = api.generic("POST", RECORD, '{"mae":1,"mae":1}', JSON)
    assert places(response) == [["body", "mae"]]


def test_a_duplicate_name_in_a_batch_names_its_row(api: APIClient) -> None:
    response = api.generic("POST", f"{RECORD}/bulk", '[{},{"metrics":{"mae":1,"mae":1}}]', JSON)
    assert places(response) == [["body", 1, "mae"]]


def test_a_parameter_given_twice_is_a_problem(api: APIClient) -> None:
    response = api.get(f"{ROOT}/alerts/active?severity=critical&severity=critical")
    assert places(response) == [["query", "severity"]]


def test_two_thousand_levels_are_a_problem(api: APIClient) -> None:
    assert places(api.generic("POST", RECORD, "[" * 2000 + "]" * 2000, JSON)) == [["body"]]
    text = json.dumps(evaluation(factories.ModelVersionFactory()) | {"metadata": "@"})
    deep = text.replace('"@"', '{"a":' * 2000 + "1" + "}" * 2000)
    assert places(api.generic("POST", RECORD, deep, JSON)) == [["body"]]


def test_a_body_that_is_too_large_is_a_problem(api: APIClient, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    problem(api.generic("POST", RECORD, json.dumps({"mae": "x" * 200}), JSON), 413)


def test_a_body_in_chunks_is_a_problem(api: APIClient) -> None:
    problem(api.post(RECORD, headers={"transfer-encoding": "chunked"}), 411)


def test_too_many_parameters_are_a_problem(api: APIClient) -> None:
    problem(api.get(f"{ROOT}/alerts/active?" + "&".join(f"a{n}=1" for n in range(1001))), 400)


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("name", ["model_type", "machine_id", "cursor", "limit", "severity"])
def test_odd_text_in_the_query_string_is_a_problem(api: APIClient, name: str, text: str) -> None:
    assert places(api.get(f"{ROOT}/alerts/active?{name}={text}")) == [["query", name]]


@pytest.mark.parametrize("text", ["a%00b", "%ff", "é", "x" * 5000])
def test_odd_text_in_the_path_is_a_problem(api: APIClient, text: str) -> None:
    for path in (f"machines/{text}", f"ab-test/{text}/results", f"policies/{text}"):
        assert places(api.get(f"{ROOT}/{path}"))[0][0] == "path"


def test_a_lone_surrogate_is_a_problem(api: APIClient) -> None:
    body = '{"name":"\\ud800","type":"t"}'
    problem(api.generic("POST", f"{ROOT}/machines", body, JSON), 400)


def test_an_unknown_parameter_is_a_problem(api: APIClient) -> None:
    machine = {"name": "m", "type": "t", "place": "here"}
    assert places(api.post(f"{ROOT}/machines", machine)) == [["body", "place"]]
    assert places(api.post(f"{ROOT}/machines?name=m", {"type": "t"})) == [["query", "name"]]


@pytest.mark.parametrize("hours", ["nan", "inf", "-inf", "1e999", "0x10", "1_0", "true", " "])
def test_odd_numbers_in_the_query_string_are_a_problem(api: APIClient, hours: str) -> None:
    response = api.post(f"{ROOT}/ab-test/start?duration_hours={hours}")
    assert ["query", "duration_hours"] in places(response)


def test_a_page_for_another_host_is_refused_as_a_page(client: Client) -> None:
    response = client.get("/", headers={"host": "evil.example"})
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("text/html")


def test_a_host_that_is_not_ours_is_a_problem(api: APIClient) -> None:
    problem(api.get(f"{ROOT}/machines", headers={"host": "evil.example"}), 400)


def test_an_error_of_ours_is_a_problem_that_tells_nothing(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A column that the database lacks stands for any mistake of ours.
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE machines RENAME COLUMN location TO place")
    api.raise_request_exception = False
    document = problem(api.get(f"{ROOT}/machines"), 500)
    assert "location" not in json.dumps(document)


def test_a_query_that_takes_too_long_is_a_problem(api: APIClient) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE machines RENAME TO all_machines")
        cursor.execute(
            "CREATE VIEW machines AS SELECT m.*"
            # The outer side of the join is read first, whatever the planner makes of it.
            " FROM pg_sleep(60) AS nap LEFT JOIN all_machines m ON true"
        )
        cursor.execute("SET LOCAL statement_timeout = 1")
    response = api.get(f"{ROOT}/machines")
    problem(response, 503)
    assert response.headers["Retry-After"] == "1"


def test_nothing_is_stored_by_a_refused_request(api: APIClient) -> None:
    api.post(f"{ROOT}/machines", {"name": "m", "type": "t", "metadata": {"a": "\0"}})
    assert not Machine.objects.exists()


def without_parameters() -> list[tuple[str, str]]:
    """Return calls that take nothing."""
    alert = factories.AlertFactory.create()
    run = factories.TrainingRunFactory.create()
    return [
        ("GET", "/api/v1/machines"),
        ("GET", f"{ROOT}/machines/{alert.machine_id}"),
        ("GET", f"{ROOT}/policies"),
        ("POST", f"{ROOT}/alerts/{alert.pk}/acknowledge"),
        ("POST", f"{ROOT}/models/{alert.model_id}/activate"),
        ("POST", f"{ROOT}/training/{run.pk}/cancel"),
    ]


def test_a_call_without_parameters_refuses_those_it_is_sent(api: APIClient) -> None:
    for method, path in without_parameters():
        assert places(api.generic(method, f"{path}?hepl=1")) == [["query", "hepl"]]
        assert places(api.generic(method, path, '{"hepl": 1}', JSON)) == [["body", "hepl"]]
        assert places(api.generic(method, path, "[1]", JSON)) == [["body"]]
        assert api.generic(method, path, "{}", JSON).status_code == 200


def test_a_call_with_parameters_in_the_query_refuses_a_body(api: APIClient) -> None:
    assert places(api.generic("GET", f"{ROOT}/models", '{"limit": 1}', JSON)) == [["body", "limit"]]
