"""Training runs, A/B tests, alerts and policies over HTTP."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from modelperf.models import ABTest, Alert, ModelVersion, TrainingRun
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem, series_of

pytestmark = pytest.mark.django_db


# --- training -------------------------------------------------------------------------------


def test_a_run_is_told_about_and_listed(api: APIClient) -> None:
    failed = factories.TrainingRunFactory(failed=True, error_traceback="at line 1")
    pending = factories.TrainingRunFactory()
    detail = api.get(f"{ROOT}/training/{failed.pk}").json()
    assert (
        detail.items()
        >= {
            "training_status": "failed",
            "error_message": "no data",
            "error_traceback": "at line 1",
            "reason": "the year is over",
            "model_id": None,
        }.items()
    )
    listed = api.get(f"{ROOT}/training").json()["results"]
    assert [one["id"] for one in listed] == [str(pending.pk), str(failed.pk)]
    assert "error_traceback" not in listed[0]
    found = api.get(f"{ROOT}/training?training_status=pending").json()["results"]
    assert [one["id"] for one in found] == [str(pending.pk)]
    problem(api.get(f"{ROOT}/training/{NOWHERE}"), 404)
    assert places(api.get(f"{ROOT}/training?training_status=x")) == [["query", "training_status"]]


def test_an_unfinished_run_is_cancelled_once(api: APIClient) -> None:
    run = factories.TrainingRunFactory(machine=factories.ModelVersionFactory().machine)
    address = f"{ROOT}/training/{run.pk}/cancel"
    answer = api.post(address).json()
    assert answer["training_status"] == "cancelled"
    assert answer["metadata"]["cancelled_by"] == "key:tests"
    problem(api.post(address), 409)
    again = api.post(f"{ROOT}/retrain/trigger", series_of(run) | {"reason": "r"}).json()
    assert again["triggered"] is True
    assert TrainingRun.objects.unfinished().count() == 1


# --- A/B tests ------------------------------------------------------------------------------


@pytest.fixture
def test_of_two() -> ABTest:
    return factories.ABTestFactory(model_a__is_active=True)


def test_a_test_is_told_about_and_listed(api: APIClient, test_of_two: ABTest) -> None:
    ended = factories.ABTestFactory(test_status="cancelled", model_type="other")
    detail = api.get(f"{ROOT}/ab-test/{test_of_two.pk}").json()
    assert detail["model_a_id"] == str(test_of_two.model_a_id)
    listed = api.get(f"{ROOT}/ab-test").json()["results"]
    assert [one["id"] for one in listed] == [str(ended.pk), str(test_of_two.pk)]
    active = api.get(f"{ROOT}/ab-test/active").json()["results"]
    assert [one["id"] for one in active] == [str(test_of_two.pk)]
    assert active[0]["machine_name"] == test_of_two.machine.name
    assert isinstance(active[0]["test_duration_hours"], float)
    for query in ("model_type=other", "test_status=cancelled", f"machine_id={ended.machine_id}"):
        found = api.get(f"{ROOT}/ab-test?{query}").json()["results"]
        assert [one["id"] for one in found] == [str(ended.pk)]
    problem(api.get(f"{ROOT}/ab-test/{NOWHERE}"), 404)


def test_a_test_is_cancelled_once(api: APIClient, test_of_two: ABTest) -> None:
    address = f"{ROOT}/ab-test/{test_of_two.pk}"
    assert api.post(f"{address}/cancel").json()["test_status"] == "cancelled"
    problem(api.post(f"{address}/cancel"), 409)
    problem(api.post(f"{address}/decision", {"decision": "promote_b"}), 409)


def test_a_decision_promotes_and_is_made_once(api: APIClient, test_of_two: ABTest) -> None:
    address = f"{ROOT}/ab-test/{test_of_two.pk}/decision"
    assert places(api.post(address, {"decision": "whatever"})) == [["body", "decision"]]
    assert places(api.post(address, {})) == [["body", "decision"]]
    answer = api.post(address, {"decision": "promote_b", "notes": "it is better"}).json()
    assert (answer["decision"], answer["decided_by"]) == ("promote_b", "key:tests")
    assert answer["decision_notes"] == "it is better"
    assert ModelVersion.objects.active().get().pk == test_of_two.model_b_id
    problem(api.post(address, {"decision": "promote_a"}), 409)


# --- alerts ---------------------------------------------------------------------------------


def test_an_alert_goes_through_its_life(api: APIClient) -> None:
    alert = factories.AlertFactory()
    address = f"{ROOT}/alerts/{alert.pk}"
    assert api.get(address).json()["state"] == "open"
    assert api.post(f"{address}/acknowledge").json()["state"] == "acknowledged"
    problem(api.post(f"{address}/acknowledge"), 409)
    resolved = api.post(f"{address}/resolve", {"action": "fixed", "notes": "new belt"}).json()
    assert (resolved["state"], resolved["is_resolved"]) == ("resolved", True)
    assert (resolved["resolved_by"], resolved["resolution_action"]) == ("key:tests", "fixed")
    assert resolved["resolution_notes"] == "new belt"
    document = problem(api.post(f"{address}/resolve", {"action": "fixed"}), 409)
    assert document["state"]["resolved_by"] == "key:tests"
    reopened = api.post(f"{address}/reopen").json()
    assert (reopened["state"], reopened["is_resolved"]) == ("open", False)
    assert reopened["resolved_at"] is None
    problem(api.post(f"{address}/reopen"), 409)


@pytest.mark.parametrize("verb", ["acknowledge", "resolve", "reopen"])
def test_an_unknown_alert_is_404(api: APIClient, verb: str) -> None:
    given = {"action": "fixed"} if verb == "resolve" else None
    response = api.post(f"{ROOT}/alerts/{NOWHERE}/{verb}", given)
    assert problem(response, 404)["detail"] == "Alert not found"


def test_a_resolution_says_what_was_done(api: APIClient) -> None:
    address = f"{ROOT}/alerts/{factories.AlertFactory().pk}/resolve"
    assert places(api.post(address, {})) == [["body", "action"]]
    assert places(api.post(address, {"action": "went home"})) == [["body", "action"]]
    assert places(api.post(address, {"action": "fixed", "notes": 5})) == [["body", "notes"]]
    assert not Alert.objects.filter(is_resolved=True).exists()


def test_alerts_are_filtered(api: APIClient) -> None:
    wanted = factories.AlertFactory(severity="critical", model_type="b", state="acknowledged")
    resolved = factories.AlertFactory(resolved=True)

    def found(query: str) -> list[str]:
        return [one["id"] for one in api.get(f"{ROOT}/alerts?{query}").json()["results"]]

    assert found("") == [str(resolved.pk), str(wanted.pk)]
    for query in (
        "severity=critical",
        "model_type=b",
        "state=acknowledged",
        "is_resolved=false",
        f"machine_id={wanted.machine_id}",
    ):
        assert found(query) == [str(wanted.pk)]
