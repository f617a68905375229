"""The seven calls of the contract: both styles, every field with its type, every error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from rest_framework.test import APIClient

from modelperf.models import ABTest, Alert, Machine, ModelPerformanceMetric, ModelVersion
from tests import factories
from tests.api.calls import (
    NOON,
    NOWHERE,
    ROOT,
    evaluation,
    places,
    problem,
    recorded,
    series_of,
    steps,
    subject,
    window,
)

pytestmark = pytest.mark.django_db
NUMBER = (int, float)
MAYBE_NUMBER = (int, float, type(None))


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


@pytest.fixture
def rival(model: ModelVersion) -> ModelVersion:
    return factories.ModelVersionFactory(machine=model.machine)


def has(answer: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, kind in fields.items():
        assert isinstance(answer[name], kind), (name, answer[name])


def is_utc(text: str) -> bool:
    return text.endswith("Z") and datetime.fromisoformat(text).utcoffset() is not None


STYLES = ["query", "body", "both"]


def send(api: APIClient, method: str, path: str, given: dict[str, Any], style: str) -> Any:
    """Send parameters in one style, or all of them in both."""
    address = f"{ROOT}/{path}"
    if style != "body":
        plain = {name: value for name, value in given.items() if name != "metrics"}
        address += "?" + urlencode(plain)
    body = given if style != "query" else given.get("metrics")
    return api.generic(method, address, *_encoded(body))


def _encoded(body: Any) -> tuple[str, str]:
    return ("", "application/json") if body is None else (json.dumps(body), "application/json")


# --- 1: record ------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_record_answers_every_field_and_stores_the_row(
    api: APIClient, model: ModelVersion, style: str
) -> None:
    given = evaluation(model, r_squared=0.5, nmbe=-3.25) | {"sample_count": 24}
    response = send(api, "POST", "metrics/record", given, style)
    assert response.status_code == 200, response.content
    answer = response.json()
    has(
        answer,
        {
            "metric_id": str,
            "drift_detected": bool,
            "drift_score": MAYBE_NUMBER,
            "recommendation": str,
            "status": str,
            "revision": int,
            "verdict": dict,
        },
    )
    row = ModelPerformanceMetric.objects.get(pk=answer["metric_id"])
    assert (row.r_squared, row.metrics) == (0.5, {"r_squared": 0.5, "nmbe": -3.25})
    assert (row.sample_count, row.created_by, row.model_id) == (24, "key:tests", model.pk)
    assert row.evaluation_date == row.evaluation_end


def test_record_again_is_unchanged_and_other_values_are_a_revision(
    api: APIClient, model: ModelVersion
) -> None:
    url = f"{ROOT}/metrics/record"
    first = api.post(url, evaluation(model, mae=1.0)).json()
    again = api.post(url, evaluation(model, mae=1.0)).json()
    revised = api.post(url, evaluation(model, mae=2.0)).json()
    assert [one["status"] for one in (first, again, revised)] == [
        "created",
        "unchanged",
        "revised",
    ]
    assert first["metric_id"] == again["metric_id"] == revised["metric_id"]
    assert revised["revision"] == 2
    revisions = api.get(f"{ROOT}/metrics/{first['metric_id']}/revisions").json()
    assert [one["values"]["metrics"] for one in revisions] == [{"mae": 1.0}]
    assert is_utc(revisions[0]["replaced_at"])


def test_record_takes_bare_metrics_beside_the_parameters(
    api: APIClient, model: ModelVersion
) -> None:
    given = evaluation(model, mae=1.0) | {"r_squared": 0.25, "own": 7, "true_positives": 3}
    metric_id = api.post(f"{ROOT}/metrics/record", given).json()["metric_id"]
    row = ModelPerformanceMetric.objects.get(pk=metric_id)
    assert row.metrics == {"mae": 1.0, "r_squared": 0.25, "own": 7}
    assert row.true_positives == 3


def test_record_metric_given_bare_and_under_metrics_must_agree(
    api: APIClient, model: ModelVersion
) -> None:
    url = f"{ROOT}/metrics/record"
    assert api.post(url, evaluation(model, mae=1.0) | {"mae": 1}).status_code == 200
    response = api.post(url, evaluation(model, mae=1.0) | {"mae": 2})
    assert places(response) == [["body", "mae"]]


@pytest.mark.parametrize("value", ["0.5", True, None, [1], {"a": 1}])
@pytest.mark.parametrize("bare", [True, False])
def test_record_refuses_what_is_no_number(
    api: APIClient, model: ModelVersion, value: Any, bare: bool
) -> None:
    given = evaluation(model, mae=1.0)
    given |= {"rmse": value} if bare else {"metrics": {"rmse": value}}
    assert places(api.post(f"{ROOT}/metrics/record", given)) == [["body", "rmse"]]
    assert not ModelPerformanceMetric.objects.exists()


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "9" * 400])
def test_record_refuses_numbers_that_no_double_holds(
    api: APIClient, model: ModelVersion, text: str
) -> None:
    body = json.dumps(evaluation(model) | {"rmse": "@"}).replace('"@"', text)
    response = api.generic("POST", f"{ROOT}/metrics/record", body, "application/json")
    assert places(response)[0] in (["body", "rmse"], ["body"])
    assert not ModelPerformanceMetric.objects.exists()


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"evaluation_start": "2024-01-01T00:00:00"}, "evaluation_start"),
        ({"evaluation_start": "yesterday"}, "evaluation_start"),
        ({"evaluation_start": "0001-01-01T00:00:00+14:00"}, "evaluation_start"),
        ({"evaluation_end": "9999-12-31T23:59:59-14:00"}, "evaluation_end"),
        ({"evaluation_end": "2000-01-01T00:00:00Z"}, "evaluation_end"),
        ({"sample_count": -1}, "sample_count"),
        ({"sample_count": 2**63}, "sample_count"),
        ({"sample_count": 10**30}, "sample_count"),
        ({"sample_count": "3"}, "sample_count"),
        ({"sample_count": True}, "sample_count"),
        ({"model_id": "nonsense"}, "model_id"),
        ({"machine_id": 5}, "machine_id"),
        ({"model_type": "other"}, "model_type"),
        ({"model_type": "x" * 1000}, "model_type"),
        ({"metrics": {}}, "metrics"),
        ({"metrics": [1]}, "metrics"),
        ({"evaluation_notes": 5}, "evaluation_notes"),
        ({"evaluation_notes": "a\0b"}, "evaluation_notes"),
        ({"metadata": {"deep": {"er": ["\0"]}}}, "metadata"),
        ({"metadata": [1]}, "metadata"),
        ({"true_positives": 1.5}, "true_positives"),
        ({"outlier_percentage": 101}, "outlier_percentage"),
    ],
)
def test_record_refuses_a_wrong_parameter_and_names_it(
    api: APIClient, model: ModelVersion, changes: dict[str, Any], place: str
) -> None:
    response = api.post(f"{ROOT}/metrics/record", evaluation(model) | changes)
    assert ["body", place] in places(response)
    assert not ModelPerformanceMetric.objects.exists()


def test_record_names_every_missing_parameter(api: APIClient) -> None:
    found = places(api.post(f"{ROOT}/metrics/record", {"r_squared": 1}))
    required = ["model_id", "model_type", "machine_id", "evaluation_start", "evaluation_end"]
    assert found == [["body", name] for name in required]


def test_record_names_the_query_string_where_the_parameter_stands_there(
    api: APIClient, model: ModelVersion
) -> None:
    query = subject(model) | window() | {"model_type": "other"}
    response = api.post(f"{ROOT}/metrics/record?{urlencode(query)}", {"mae": 1})
    assert places(response) == [["query", "model_type"]]


def test_record_refuses_a_query_string_and_a_body_that_disagree(
    api: APIClient, model: ModelVersion
) -> None:
    query = urlencode(subject(model) | {"sample_count": 3})
    response = api.post(f"{ROOT}/metrics/record?{query}", evaluation(model) | {"sample_count": 4})
    assert places(response) == [["body", "sample_count"]]


def test_record_takes_an_offset_whose_plus_sign_was_not_encoded(
    api: APIClient, model: ModelVersion
) -> None:
    query = urlencode(subject(model)) + (
        "&evaluation_start=2024-01-01T00:00:00+02:00&evaluation_end=2024-01-02T00:00:00+02:00"
    )
    assert api.post(f"{ROOT}/metrics/record?{query}", {"mae": 1}).status_code == 200
    row = ModelPerformanceMetric.objects.get()
    assert f"{row.evaluation_start:%FT%TZ}" == "2023-12-31T22:00:00Z"


def test_record_of_an_unknown_model_or_machine_is_404(api: APIClient, model: ModelVersion) -> None:
    url = f"{ROOT}/metrics/record"
    unknown = api.post(url, evaluation(model) | {"model_id": NOWHERE})
    assert problem(unknown, 404)["detail"] == "Model not found"
    nowhere = api.post(url, evaluation(model) | {"machine_id": NOWHERE})
    assert problem(nowhere, 404)["detail"] == "Machine not found"


def test_record_for_a_machine_of_another_series_is_422(api: APIClient, model: ModelVersion) -> None:
    other = factories.MachineFactory()
    response = api.post(f"{ROOT}/metrics/record", evaluation(model) | {"machine_id": str(other.pk)})
    assert places(response) == [["body", "machine_id"]]


# --- 2: trend -------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_trend_answers_every_field(api: APIClient, model: ModelVersion, style: str) -> None:
    recorded(model, steps((20, 2.0)))
    given = series_of(model) | {"days": 60, "metric": "rmse"}
    response = send(api, "GET", "metrics/trend", given, style)
    assert response.status_code == 200, response.content
    answer = response.json()
    has(answer, {"model_type": str, "machine_id": str, "machine_name": str, "metrics": list})
    has(answer, {"trend_direction": str, "degradation_rate": MAYBE_NUMBER})
    assert answer["trend_direction"] in {"improving", "stable", "degrading"}
    assert len(answer["metrics"]) == 20
    dates = [row["evaluation_date"] for row in answer["metrics"]]
    assert dates == sorted(dates)
    assert all(is_utc(date) for date in dates)
    row = {"id": str, "model_id": str, "model_type": str, "machine_id": str, "model_version": int}
    row |= {"evaluation_date": str, "evaluation_start": str, "evaluation_end": str}
    row |= dict.fromkeys(["r_squared", "rmse", "mae", "mape", "drift_score"], MAYBE_NUMBER)
    row |= {"drift_detected": bool, "sample_count": int, "data_completeness": MAYBE_NUMBER}
    row |= dict.fromkeys(["precision_score", "recall_score", "f1_score"], MAYBE_NUMBER)
    for each in answer["metrics"]:
        has(each, row)


def test_trend_days_default_to_thirty(api: APIClient, model: ModelVersion) -> None:
    recorded(model, steps((40, 2.0)))
    answer = api.get(f"{ROOT}/metrics/trend", series_of(model)).json()
    is_morning = datetime.now(UTC) < NOON  # today's evaluation then ends later than now
    assert len(answer["metrics"]) == 30 + is_morning


@pytest.mark.parametrize("days", ["0", "3661", "1e9", "1000000000", "-1", "x", "1.5", "", "nan"])
def test_trend_refuses_days_out_of_range(api: APIClient, model: ModelVersion, days: str) -> None:
    response = api.get(f"{ROOT}/metrics/trend", series_of(model) | {"days": days})
    assert places(response) == [["query", "days"]]


def test_trend_without_evaluations_or_machine_is_404(api: APIClient, model: ModelVersion) -> None:
    empty = api.get(f"{ROOT}/metrics/trend", series_of(model))
    assert problem(empty, 404)["detail"] == "No metrics found for this period"
    nowhere = api.get(f"{ROOT}/metrics/trend", series_of(model) | {"machine_id": NOWHERE})
    assert problem(nowhere, 404)["detail"] == "Machine not found"


def test_trend_of_a_metric_that_nobody_reports_is_422(api: APIClient, model: ModelVersion) -> None:
    recorded(model, [1.0])
    response = api.get(f"{ROOT}/metrics/trend", series_of(model) | {"metric": "mae"})
    assert places(response) == [["query", "metric"]]


# --- 3: check -------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_check_answers_every_field(api: APIClient, model: ModelVersion, style: str) -> None:
    recorded(model, steps((40, 2.0), (20, 4.0)))
    response = send(api, "POST", "drift/check", subject(model), style)
    assert response.status_code == 200, response.content
    answer = response.json()
    has(answer, {"drift_detected": bool, "drift_score": NUMBER, "drift_type": str})
    has(answer, {"recommendation": str, "threshold": NUMBER, "status": str, "features": list})
    has(answer, {"changed_at": str, "metric": str, "p_value": NUMBER})
    for name in ("current_performance", "baseline_performance"):
        has(answer[name], dict.fromkeys(["r_squared", "rmse", "mae", "mape"], MAYBE_NUMBER))
    assert answer["drift_detected"] is True
    assert answer["drift_type"] == "concept_drift"
    assert answer["current_performance"]["rmse"] > 1.5 * answer["baseline_performance"]["rmse"]
    assert is_utc(answer["changed_at"])


def test_check_errors(api: APIClient, model: ModelVersion) -> None:
    url = f"{ROOT}/drift/check"
    details = {
        "No recent performance metrics found": {},
        "Model not found": {"model_id": NOWHERE},
        "Machine not found": {"machine_id": NOWHERE},
    }
    for detail, changes in details.items():
        assert problem(api.post(url, subject(model) | changes), 404)["detail"] == detail
    other = {"machine_id": str(factories.MachineFactory().pk)}
    assert places(api.post(url, subject(model) | other)) == [["body", "machine_id"]]
    other = {"model_type": "other"}
    assert places(api.post(f"{url}?{urlencode(subject(model) | other)}")) == [
        ["query", "model_type"]
    ]


# --- 4: retrain -----------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_trigger_answers_every_field_and_then_that_it_is_busy(
    api: APIClient, model: ModelVersion, style: str
) -> None:
    given = series_of(model) | {"reason": "a new season"}
    response = send(api, "POST", "retrain/trigger", given, style)
    assert response.status_code == 200, response.content
    answer = response.json()
    assert answer["triggered"] is True
    assert (answer["trigger_type"], answer["reason"]) == ("manual", "a new season")
    has(answer, {"training_job_id": str, "estimated_completion": (str, type(None))})
    busy = send(api, "POST", "retrain/trigger", given, style).json()
    assert busy["triggered"] is False
    assert "already in progress" in busy["reason"]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 3000}, "reason"),
        ({"trigger_type": "whim"}, "trigger_type"),
        ({"model_type": "two words"}, "model_type"),
        ({"machine_id": "x"}, "machine_id"),
    ],
)
def test_trigger_refuses_a_wrong_parameter(
    api: APIClient, model: ModelVersion, changes: dict[str, str], place: str
) -> None:
    given = series_of(model) | {"reason": "r"} | changes
    assert places(api.post(f"{ROOT}/retrain/trigger", given)) == [["body", place]]


def test_trigger_for_an_unknown_machine_is_404(api: APIClient) -> None:
    given = {"model_type": "baseline", "machine_id": NOWHERE, "reason": "r"}
    response = api.post(f"{ROOT}/retrain/trigger", given)
    assert problem(response, 404)["detail"] == "Machine not found"


# --- 5 and 6: A/B tests ---------------------------------------------------------------------


def arms(a: ModelVersion, b: ModelVersion) -> dict[str, Any]:
    return series_of(a) | {"test_name": "t", "model_a_id": str(a.pk), "model_b_id": str(b.pk)}


@pytest.mark.parametrize("style", STYLES)
def test_ab_start_and_results_answer_every_field(
    api: APIClient, model: ModelVersion, rival: ModelVersion, style: str
) -> None:
    given = arms(model, rival) | {"duration_hours": 48}
    response = send(api, "POST", "ab-test/start", given, style)
    assert response.status_code == 200, response.content
    started = response.json()
    has(started, {"test_id": str, "test_end": str, "message": str})
    assert started["status"] == "running"
    assert is_utc(started["test_end"])
    test = ABTest.objects.get(pk=started["test_id"])
    assert test.test_end is not None
    assert (test.test_end - test.test_start).total_seconds() == 48 * 3600

    answer = api.get(f"{ROOT}/ab-test/{started['test_id']}/results").json()
    has(answer, {"test_id": str, "test_name": str, "confidence": NUMBER, "recommendation": str})
    has(answer, {"model_a_version": int, "model_b_version": int, "evidence": dict})
    assert answer["winner"] is None
    for name in ("model_a_metrics", "model_b_metrics"):
        has(answer[name], dict.fromkeys(["r_squared", "rmse", "mae"], MAYBE_NUMBER))
        has(answer[name], {"sample_count": int})
    assert {"effect", "interval", "sample_ratio"} <= answer.keys()


def test_ab_start_errors(api: APIClient, model: ModelVersion, rival: ModelVersion) -> None:
    url = f"{ROOT}/ab-test/start"
    given = arms(model, rival)
    unknown = api.post(url, given | {"model_b_id": NOWHERE})
    assert problem(unknown, 404)["detail"] == "One or both models not found"
    nowhere = api.post(url, given | {"machine_id": NOWHERE})
    assert problem(nowhere, 404)["detail"] == "Machine not found"
    assert places(api.post(url, arms(model, model))) == [["body", "model_b_id"]]
    foreign = factories.ModelVersionFactory()
    assert places(api.post(url, given | {"model_b_id": str(foreign.pk)})) == [
        ["body", "model_b_id"]
    ]
    for hours in (0, -1, 1e9, "24", True):
        response = api.post(url, given | {"duration_hours": hours})
        assert places(response) == [["body", "duration_hours"]]
    assert not ABTest.objects.exists()


def test_ab_start_while_one_runs_is_409(
    api: APIClient, model: ModelVersion, rival: ModelVersion
) -> None:
    first = api.post(f"{ROOT}/ab-test/start", arms(model, rival)).json()
    second = api.post(f"{ROOT}/ab-test/start", arms(model, rival))
    assert problem(second, 409)["state"] == {"test_id": first["test_id"]}


def test_ab_results_errors(api: APIClient) -> None:
    response = api.get(f"{ROOT}/ab-test/{NOWHERE}/results")
    assert problem(response, 404)["detail"] == "A/B test not found"
    assert places(api.get(f"{ROOT}/ab-test/nonsense/results")) == [["path", "id"]]


# --- 7: active alerts -----------------------------------------------------------------------


def test_alerts_active_is_a_bare_array_critical_first_then_newest(api: APIClient) -> None:
    alerts = [
        factories.AlertFactory(severity=severity)
        for severity in ("normal", "critical", "warning", "critical", "warning")
    ]
    factories.AlertFactory(resolved=True, severity="critical")
    answer = api.get(f"{ROOT}/alerts/active").json()
    expected = [alerts[number] for number in (3, 1, 4, 2, 0)]
    assert [one["id"] for one in answer] == [str(alert.pk) for alert in expected]
    fields = {"id": str, "alert_type": str, "severity": str, "model_type": str}
    fields |= {"machine_id": str, "machine_name": str, "alert_message": str}
    fields |= {"alert_timestamp": str, "is_resolved": bool, "auto_action_taken": bool}
    for one in answer:
        has(one, fields | {"state": str, "count": int, "assignee": type(None)})
        assert is_utc(one["alert_timestamp"])


def test_alerts_active_has_fleet_alerts_only_without_a_machine(api: APIClient) -> None:
    own = factories.AlertFactory()
    fleet = factories.AlertFactory(fleet=True)
    everything = api.get(f"{ROOT}/alerts/active").json()
    assert {one["id"] for one in everything} == {str(own.pk), str(fleet.pk)}
    assert [
        (one["machine_id"], one["machine_name"]) for one in everything if one["id"] == str(fleet.pk)
    ] == [(None, None)]
    of_machine = api.get(f"{ROOT}/alerts/active", {"machine_id": str(own.machine_id)}).json()
    assert [one["id"] for one in of_machine] == [str(own.pk)]


def test_alerts_active_filters(api: APIClient) -> None:
    factories.AlertFactory(severity="warning", model_type="a")
    wanted = factories.AlertFactory(severity="critical", model_type="b")
    for query in ({"severity": "critical"}, {"model_type": "b"}):
        answer = api.get(f"{ROOT}/alerts/active", query).json()
        assert [one["id"] for one in answer] == [str(wanted.pk)]
    for query, place in (
        ({"severity": "grave"}, "severity"),
        ({"machine_id": "x"}, "machine_id"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_000}, "limit"),
        ({"severty": "critical"}, "severty"),
        ({"cursor": "forged"}, "cursor"),
    ):
        assert places(api.get(f"{ROOT}/alerts/active", query)) == [["query", place]]
    nowhere = api.get(f"{ROOT}/alerts/active", {"machine_id": NOWHERE})
    assert problem(nowhere, 404)["detail"] == "Machine not found"


def test_alerts_active_pages_by_link(api: APIClient) -> None:
    for severity in ["warning", "critical"] * 4:
        factories.AlertFactory(severity=severity)
    whole = [one["id"] for one in api.get(f"{ROOT}/alerts/active").json()]
    assert "Link" not in api.get(f"{ROOT}/alerts/active").headers
    seen, address = [], f"{ROOT}/alerts/active?limit=3"
    while address:
        response = api.get(address)
        seen += [one["id"] for one in response.json()]
        link = response.headers.get("Link")
        address = link.partition(">")[0].removeprefix("<") if link else None
        assert link is None or link.endswith('>; rel="next"')
    assert seen == whole


def test_alerts_active_is_bounded_at_five_hundred(api: APIClient) -> None:
    model = factories.ModelVersionFactory()
    Alert.objects.bulk_create(
        factories.AlertFactory.build_batch(501, model=model, machine=model.machine)
    )
    response = api.get(f"{ROOT}/alerts/active")
    assert len(response.json()) == 500
    assert 'rel="next"' in response.headers["Link"]


def test_machines_of_existing_pages_are_a_bare_array(api: APIClient) -> None:
    machine = factories.MachineFactory()
    Machine.objects.create(name="retired", is_active=False)
    answer = api.get("/api/v1/machines").json()
    expected = {"id": str(machine.pk), "name": machine.name, "type": "pump", "location": "hall 1"}
    assert answer == [expected]
