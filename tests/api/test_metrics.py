"""Batches, lists and CSV of evaluations over HTTP."""

from __future__ import annotations

import base64
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from modelperf.models import Alert, ModelPerformanceMetric, ModelVersion
from tests import factories
from tests.api.calls import JSON, NOON, ROOT, evaluation, places, problem, recorded, steps

pytestmark = pytest.mark.django_db
BULK = f"{ROOT}/metrics/record/bulk"
LISTS = ["machines", "models", "metrics", "metrics/latest", "training", "ab-test"]
LISTS += ["ab-test/active", "alerts", "alerts/active", "policies"]
# No base64, no JSON, JSON of another shape, a NUL character, too long.
FORGED = ["x", "=", "é", "e30", "W10", "WzFd", "bnVsbA", "W251bGxd", "WyJhIl0"]
FORGED += ["WyJcdTAwMDAiXQ", "a" * 1001]


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


def test_a_batch_is_recorded_in_order(api: APIClient, model: ModelVersion) -> None:
    rows = [evaluation(model, day, mae=float(day)) for day in (3, 1, 2)]
    answer = api.post(BULK, rows).json()
    assert [one["status"] for one in answer] == ["created"] * 3
    stored = ModelPerformanceMetric.objects.in_bulk([one["metric_id"] for one in answer])
    by_id = {str(key): metric.mae for key, metric in stored.items()}
    assert [by_id[one["metric_id"]] for one in answer] == [3.0, 1.0, 2.0]
    again = api.post(BULK, [*rows[:2], evaluation(model, 2, mae=9.0)]).json()
    assert [one["status"] for one in again] == ["unchanged", "unchanged", "revised"]
    assert [one["metric_id"] for one in again] == [one["metric_id"] for one in answer]


def test_a_batch_takes_bare_metrics(api: APIClient, model: ModelVersion) -> None:
    row = evaluation(model)
    del row["metrics"]
    assert api.post(BULK, [row | {"mae": 1, "own": 2.5}]).status_code == 200
    assert ModelPerformanceMetric.objects.get().metrics == {"mae": 1.0, "own": 2.5}


def test_a_batch_is_all_or_nothing_and_names_rows(api: APIClient, model: ModelVersion) -> None:
    good = evaluation(model, 9)
    wrong: list[Any] = [
        good,
        evaluation(model, 1) | {"sample_count": "3"},
        5,
        evaluation(model, 2) | {"metrics": {"mae": None}},
        evaluation(model, 3) | {"evaluation_start": "0001-01-01T00:00:00+14:00"},
        {name: value for name, value in evaluation(model, 4).items() if name != "model_id"},
        evaluation(model, 5) | {"mae": "x"},
    ]
    assert places(api.post(BULK, wrong)) == [
        ["body", 1, "sample_count"],
        ["body", 2],
        ["body", 3, "mae"],
        ["body", 4, "evaluation_start"],
        ["body", 5, "model_id"],
        ["body", 6, "mae"],
    ]
    assert not ModelPerformanceMetric.objects.exists()


def test_a_batch_that_only_the_service_refuses_names_rows(
    api: APIClient, model: ModelVersion
) -> None:
    rows = [
        evaluation(model, 1),
        evaluation(model, 2, r_squared=1.5),
        evaluation(factories.ModelVersionFactory(), 3) | {"machine_id": str(model.machine_id)},
    ]
    assert places(api.post(BULK, rows)) == [["body", 1, "r_squared"], ["body", 2, "machine_id"]]
    assert not ModelPerformanceMetric.objects.exists()


def test_a_batch_takes_dates_and_reads_them(api: APIClient, model: ModelVersion) -> None:
    late = {"evaluation_date": "2024-05-01T00:00:00+02:00"}
    assert api.post(BULK, [evaluation(model) | late]).status_code == 200
    stored = ModelPerformanceMetric.objects.get().evaluation_date
    assert f"{stored:%FT%TZ}" == "2024-04-30T22:00:00Z"
    wrong = evaluation(model, 1) | {"evaluation_date": "1800-01-01T00:00:00Z"}
    assert places(api.post(BULK, [wrong])) == [["body", 0, "evaluation_date"]]


@pytest.mark.parametrize("rows", [[], {}, None, "x", 1])
def test_a_batch_is_an_array_with_something_in_it(api: APIClient, rows: Any) -> None:
    assert places(api.generic("POST", BULK, json.dumps(rows), JSON)) == [["body"]]


def test_a_batch_has_five_thousand_rows_at_most(api: APIClient, model: ModelVersion) -> None:
    row = evaluation(model)
    assert places(api.post(BULK, [row] * 5001)) == [["body"]]


def test_errors_of_a_batch_are_bounded(api: APIClient) -> None:
    assert len(places(api.post(BULK, [{}] * 1000))) == 100


def test_a_batch_is_judged_where_asked(api: APIClient, model: ModelVersion) -> None:
    values = steps((40, 2.0), (20, 4.0))
    rows = [evaluation(model, 60 - day, rmse=value) for day, value in enumerate(values)]
    unjudged = api.post(BULK, rows).json()
    assert set(unjudged[0]) == {"metric_id", "status", "revision"}
    assert not Alert.objects.exists()
    judged = api.post(f"{BULK}?judge=true", rows).json()
    assert judged[-1]["drift_detected"] is True
    assert Alert.objects.unresolved().count() == 1
    assert places(api.post(f"{BULK}?judge=perhaps", rows)) == [["query", "judge"]]


@pytest.mark.parametrize("history", [40, 80])
def test_a_judged_record_takes_six_statements(
    api: APIClient, model: ModelVersion, history: int, django_assert_num_queries: Any
) -> None:
    recorded(model, steps((history, 1.0)))
    # The key; a savepoint, here for BEGIN; the model and the lock of its series; its state and
    # history; the row with latest row and state; the savepoint's release.
    with django_assert_num_queries(6):
        response = api.post(f"{ROOT}/metrics/record", evaluation(model, -1, rmse=1.0))
    assert response.json()["verdict"]["status"] == "stable"


def test_a_batch_takes_as_many_statements_whatever_its_size(
    api: APIClient, model: ModelVersion
) -> None:
    def statements(days: range) -> int:
        rows = [evaluation(model, day) for day in days]
        with CaptureQueriesContext(connection) as captured:
            assert api.post(BULK, rows).status_code == 200
        return len(captured)

    statements(range(1))  # the series' first batch has no state to mark yet
    assert statements(range(1, 6)) == statements(range(6, 506))


# --- lists ----------------------------------------------------------------------------------


def series(model: ModelVersion, count: int) -> list[ModelPerformanceMetric]:
    return [factories.ModelPerformanceMetricFactory(model=model, day=day) for day in range(count)]


def test_evaluations_of_a_machine_are_listed_newest_window_first(
    api: APIClient, model: ModelVersion
) -> None:
    metrics = series(model, 3)
    late = factories.ModelPerformanceMetricFactory(model=model, day=1.5)
    factories.ModelPerformanceMetricFactory()
    found = api.get(f"{ROOT}/metrics?machine_id={model.machine_id}").json()["results"]
    expected = [metrics[2], late, metrics[1], metrics[0]]
    assert [one["id"] for one in found] == [str(metric.pk) for metric in expected]
    everything = api.get(f"{ROOT}/metrics").json()["results"]
    assert [one["id"] for one in everything] == sorted(one["id"] for one in everything)[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("by_machine", [True, False])
def test_pages_join_to_the_whole_list(
    api: APIClient, model: ModelVersion, limit: int, by_machine: bool
) -> None:
    for day in (0, 1, 1, 1, 2, 2, 3):
        other = factories.ModelVersionFactory(machine=model.machine)
        factories.ModelPerformanceMetricFactory(model=other, day=day)
    query = f"machine_id={model.machine_id}" if by_machine else "model_type=baseline"
    whole = [one["id"] for one in api.get(f"{ROOT}/metrics?{query}").json()["results"]]
    seen: list[str] = []
    address: str | None = f"{ROOT}/metrics?{query}&limit={limit}"
    while address:
        answer = api.get(address)
        seen += [one["id"] for one in answer.json()["results"]]
        address = answer.json()["next"]
        assert len(answer.json()["results"]) <= limit
        assert ("Link" in answer.headers) is (address is not None)
    assert seen == whole
    assert len(whole) == 7


def test_evaluations_are_filtered(api: APIClient, model: ModelVersion) -> None:
    first, second, third = series(model, 3)
    ModelPerformanceMetric.objects.filter(pk=second.pk).update(drift_detected=True)
    factories.ModelPerformanceMetricFactory(model__model_type="other", day=9)

    def found(**query: Any) -> list[str]:
        answer = api.get(f"{ROOT}/metrics", query).json()["results"]
        return sorted(one["id"] for one in answer)

    assert found(model_id=model.pk) == [str(one.pk) for one in (first, second, third)]
    assert found(drift_detected="true") == [str(second.pk)]
    start = f"{second.evaluation_end:%FT%TZ}"
    assert found(model_id=model.pk, start=start) == [str(second.pk), str(third.pk)]
    assert found(model_id=model.pk, end=start) == [str(first.pk)]
    assert len(found(model_type="other")) == 1


@pytest.mark.parametrize("cursor", FORGED)
@pytest.mark.parametrize("path", ["metrics", "machines", "metrics/latest", "alerts", "models"])
def test_a_forged_cursor_is_refused(api: APIClient, path: str, cursor: str) -> None:
    response = api.get(f"{ROOT}/{path}", {"cursor": cursor})
    assert places(response) == [["query", "cursor"]]


@pytest.mark.parametrize(
    "values",
    [
        ["a\0", "00000000-0000-0000-0000-000000000000", "t"],
        ["a", "00000000-0000-0000-0000-000000000000", "\0"],
    ],
)
def test_a_forged_cursor_with_text_that_cannot_be_stored_is_refused(
    api: APIClient, values: list[str]
) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    response = api.get(f"{ROOT}/metrics/latest", {"cursor": cursor})
    assert places(response) == [["query", "cursor"]]


@pytest.mark.parametrize("rank", [2**31, -(2**70), 1.5])
def test_a_forged_rank_is_refused(api: APIClient, rank: float) -> None:
    values = [rank, "2024-01-01T00:00:00Z", "00000000-0000-0000-0000-000000000000"]
    cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    response = api.get(f"{ROOT}/alerts/active", {"cursor": cursor})
    assert places(response) == [["query", "cursor"]]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_takes_two_statements(
    api: APIClient, path: str, django_assert_num_queries: Any
) -> None:
    for _ in range(3):
        model = factories.ModelVersionFactory(is_active=True)
        factories.LatestPerformanceFactory.of(factories.ModelPerformanceMetricFactory(model=model))
        factories.TrainingRunFactory(machine=model.machine)
        factories.ABTestFactory(machine=model.machine)
        factories.AlertFactory(model=model)
    for model_type in ("a", "b", "c"):
        factories.PolicyFactory(model_type=model_type)
    with django_assert_num_queries(2):  # the key, the rows
        answer = api.get(f"{ROOT}/{path}").json()
    assert len(answer if isinstance(answer, list) else answer["results"]) >= 3


def test_the_latest_evaluations_are_listed_by_machine(api: APIClient) -> None:
    for name in ("b", "a"):
        model = factories.ModelVersionFactory(machine__name=name, is_active=True)
        recorded(model, [1.0, 2.0])
    found = api.get(f"{ROOT}/metrics/latest").json()["results"]
    assert [(one["machine_name"], one["rmse"]) for one in found] == [("a", 2.0), ("b", 2.0)]
    answer = api.get(f"{ROOT}/metrics/latest?limit=1").json()
    rest = api.get(answer["next"]).json()
    assert [one["machine_name"] for one in rest["results"]] == ["b"]
    assert rest["next"] is None


# --- CSV ------------------------------------------------------------------------------------


def test_csv_has_the_rows_of_the_list(api: APIClient, model: ModelVersion) -> None:
    series(model, 3)
    factories.ModelPerformanceMetricFactory(
        model=model, day=7, r_squared=-12.5, metrics={"r_squared": -12.5, "nmbe": 3.0}
    )
    query = {"machine_id": model.machine_id, "limit": 3}
    response = api.get(f"{ROOT}/metrics", query | {"format": "csv"})
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert 'rel="next"' in response.headers["Link"]
    assert "format=csv" in response.headers["Link"]
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    listed = api.get(f"{ROOT}/metrics", query).json()["results"]
    assert [row["id"] for row in rows] == [one["id"] for one in listed]
    assert [row["evaluation_end"] for row in rows] == [one["evaluation_end"] for one in listed]
    assert (rows[0]["r_squared"], rows[0]["metrics.nmbe"]) == ("-12.5", "3.0")
    assert rows[0]["drift_detected"] == "false"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\tx", "\rx", "\nx", "=HYPERLINK(1)"])
def test_csv_runs_no_formula(api: APIClient, model: ModelVersion, text: str) -> None:
    factories.ModelPerformanceMetricFactory(model=model, evaluation_notes=text)
    content = api.get(f"{ROOT}/metrics?format=csv").content.decode()
    (row,) = csv.DictReader(io.StringIO(content, newline=""))
    assert row["evaluation_notes"] == "'" + text


def test_revisions_of_an_unknown_evaluation_are_404(api: APIClient) -> None:
    problem(api.get(f"{ROOT}/metrics/{NOON - timedelta(1):%Y}/revisions"), 422)
    response = api.get(f"{ROOT}/metrics/00000000-0000-0000-0000-000000000000/revisions")
    assert problem(response, 404)["detail"] == "Evaluation not found"


def test_what_ends_far_in_the_future_is_refused(api: APIClient, model: ModelVersion) -> None:
    wrong = evaluation(model) | {"evaluation_end": "2150-01-01T00:00:00Z"}
    dated = evaluation(model) | {"evaluation_date": "2150-01-01T00:00:00Z"}
    assert places(api.post(f"{ROOT}/metrics/record", wrong)) == [["body", "evaluation_end"]]
    assert places(api.post(f"{ROOT}/metrics/record", dated)) == [["body", "evaluation_date"]]
    bulk = f"{ROOT}/metrics/record/bulk"
    assert places(api.post(bulk, [evaluation(model, 1), wrong])) == [["body", 1, "evaluation_end"]]
    lines = "\n".join(map(json.dumps, [evaluation(model, 1), wrong]))
    response = api.generic("POST", bulk, lines, "application/x-ndjson")
    assert places(response) == [["body", 1, "evaluation_end"]]
    assert not ModelPerformanceMetric.objects.exists()


def test_windows_of_some_years_ahead_are_taken(api: APIClient, model: ModelVersion) -> None:
    ahead = datetime.now(UTC) + timedelta(days=1000)
    sent = evaluation(model) | {"evaluation_end": f"{ahead:%FT%TZ}"}
    assert api.post(f"{ROOT}/metrics/record", sent).status_code == 200
