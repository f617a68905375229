"""Batches of one evaluation a line: read as strictly as JSON, answered as asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError
from rest_framework.test import APIClient

from modelperf.api.parsers import NDJSON, decode_lines
from modelperf.models import ModelPerformanceMetric, ModelVersion
from modelperf.services.errors import InvalidError
from tests import factories
from tests.api.calls import ROOT, evaluation, places, problem
from tests.api.test_parsers import VALUES

BULK = f"{ROOT}/metrics/record/bulk"


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


def send(api: APIClient, *lines: Any, kind: str = NDJSON, **headers: str) -> Any:
    """Post lines, values or text as it is."""
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return api.generic("POST", BULK, text, kind, headers=headers)


# --- reading --------------------------------------------------------------------------------


@given(st.lists(VALUES | st.just("\u2028\x85"), max_size=6), st.booleans(), st.booleans())
def test_lines_are_decoded_as_json_says(values: list[Any], carriage: bool, last: bool) -> None:
    end = "\r\n" if carriage else "\n"
    text = end.join(json.dumps(value, ensure_ascii=False) for value in values)
    assert decode_lines((text + end * last).encode()) == values


def test_blank_lines_are_skipped_and_counted() -> None:
    lines = decode_lines(b"\n \t\r\n1\n\n  2 \n\n")
    assert (lines, lines.numbers) == ([1, 2], [3, 5])


@pytest.mark.parametrize("text", ["{}\n{", "{}\nnul", '{}\n{"a":1}{"b":2}', "{}\n1 2", "{}\n\f1"])
def test_a_line_that_is_no_json_is_refused_by_its_number(text: str) -> None:
    with pytest.raises(ParseError, match="Line 2"):
        decode_lines(text.encode())


@pytest.mark.parametrize(
    ("line", "place", "kind"),
    [
        ('{"a":1,"a":2}', ("body", 1, "a"), "duplicate"),
        ('{"metrics":{"b":1,"b":2}}', ("body", 1, "b"), "duplicate"),
        ('{"metrics":{"b":NaN}}', ("body", 1, "b"), "not_finite"),
        ('{"metrics":{"b":1e999}}', ("body", 1, "b"), "not_finite"),
        ('{"a":"\\u0000"}', ("body", 1, "a"), "nul_character"),
        ("[" * 65 + "]" * 65, ("body", 1), "too_deep"),
    ],
)
def test_a_line_is_read_as_strictly_as_a_body(line: str, place: tuple[Any, ...], kind: str) -> None:
    with pytest.raises(InvalidError, match="Line 4: ") as caught:
        decode_lines(f"{{}}\n\n\n{line}\n{{".encode())
    assert [(error.loc, error.type) for error in caught.value.errors] == [(place, kind)]


def test_no_line_is_decoded_after_the_first_that_is_too_many() -> None:
    assert len(decode_lines(b"1\n" * 5001 + b"{")) == 5001


# --- recording ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_lines_are_recorded_as_an_array_is(api: APIClient, model: ModelVersion) -> None:
    rows = [evaluation(model, day, mae=float(day)) for day in (3, 1, 2)]
    bare = {name: value for name, value in evaluation(model, 4).items() if name != "metrics"}
    answer = send(api, *rows, "", bare | {"own": 2.5})
    assert answer.headers["Content-Type"] == "application/json"
    assert [one["status"] for one in answer.json()] == ["created"] * 4
    assert [
        ModelPerformanceMetric.objects.get(pk=one["metric_id"]).metrics for one in answer.json()
    ] == [{"mae": 3.0}, {"mae": 1.0}, {"mae": 2.0}, {"own": 2.5}]
    again = api.post(BULK, rows).json()
    assert [one["status"] for one in again] == ["unchanged"] * 3
    assert [one["metric_id"] for one in again] == [one["metric_id"] for one in answer.json()[:3]]


@pytest.mark.django_db
@pytest.mark.parametrize("judge", ["false", "true"])
def test_the_answer_has_lines_where_asked(api: APIClient, model: ModelVersion, judge: str) -> None:
    rows = [evaluation(model, day) for day in (1, 2)]
    send(api, *rows)
    array = api.post(f"{BULK}?judge={judge}", rows).json()
    answer = api.post(f"{BULK}?judge={judge}", rows, headers={"Accept": NDJSON})
    assert answer.headers["Content-Type"] == NDJSON
    assert [json.loads(line) for line in answer.content.splitlines()] == array


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("accepted", "kind"),
    [
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        (f"application/json, {NDJSON}", "application/json"),
        (f"application/json;q=.5, {NDJSON}", NDJSON),
        (f"{NDJSON}, */*;q=.1", NDJSON),
    ],
)
def test_what_is_accepted_decides(
    api: APIClient, model: ModelVersion, accepted: str, kind: str
) -> None:
    answer = send(api, evaluation(model), Accept=accepted)
    assert answer.headers["Content-Type"] == kind


@pytest.mark.django_db
def test_lines_are_all_or_nothing_and_errors_name_them(api: APIClient, model: ModelVersion) -> None:
    good = evaluation(model, 9)
    late = evaluation(model, 1) | {"sample_count": "3"}
    answer = send(api, good, "", late, 5, evaluation(model, 2) | {"mae": "x"}, Accept=NDJSON)
    assert places(answer) == [["body", 1, "sample_count"], ["body", 2], ["body", 3, "mae"]]
    told = [error["msg"].partition(":")[0] for error in answer.json()["errors"]]
    assert told == ["Line 3", "Line 4", "Line 5"]
    assert not ModelPerformanceMetric.objects.exists()


@pytest.mark.django_db
def test_what_only_the_service_refuses_names_lines(api: APIClient, model: ModelVersion) -> None:
    answer = send(api, "", evaluation(model, 1), "", evaluation(model, 2, r_squared=1.5))
    assert places(answer) == [["body", 1, "r_squared"]]
    assert answer.json()["errors"][0]["msg"].startswith("Line 4: r_squared")


@pytest.mark.django_db
def test_limits_are_those_of_an_array(api: APIClient, settings: Any) -> None:
    assert places(send(api, "")) == [["body"]]
    assert places(send(api, *["{}"] * 5001)) == [["body"]]
    assert len(places(send(api, *["{}"] * 1000))) == 100
    problem(send(api, "{"), 400)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    problem(send(api, "{}" * 10), 413)


@pytest.mark.django_db
def test_no_other_call_takes_lines(api: APIClient, model: ModelVersion) -> None:
    line = json.dumps(evaluation(model))
    problem(api.generic("POST", f"{ROOT}/metrics/record", line, NDJSON), 415)
    problem(send(api, line, kind="text/plain"), 415)


@pytest.mark.django_db
def test_lines_may_be_called_jsonl(api: APIClient, model: ModelVersion) -> None:
    response = send(api, evaluation(model, 1), evaluation(model), kind="application/jsonl")
    assert response.status_code == 200, response.content
    assert ModelPerformanceMetric.objects.count() == 2
