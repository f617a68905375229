"""Observing row losses and asking for assignments over HTTP: what is taken, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from modelperf.models import ABObservation, ABTest
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem, series_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def address() -> str:
    return f"{ROOT}/ab-test/{factories.ABTestFactory().pk}"


def pairs(n: int, difference: float = 1.0) -> list[dict[str, Any]]:
    return [
        {"unit": f"u{k}", "loss_a": 1 + difference + k % 3, "loss_b": 1.0 + k % 5} for k in range(n)
    ]


def test_a_batch_is_observed_and_told(api: APIClient, address: str) -> None:
    answer = api.post(f"{address}/observations", pairs(60))
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert found.pop("test_id") in address
    assert found == {
        "created": 60,
        "unchanged": 0,
        "revised": 0,
        "rows_a": 60,
        "rows_b": 60,
        "outcome": "undecided",
        "needed": 40,
    }
    again = api.post(f"{address}/observations", pairs(60)).json()
    assert (again["created"], again["unchanged"]) == (0, 60)
    fixed = api.post(f"{address}/observations", pairs(1, difference=2.0)).json()
    assert fixed["revised"] == 1


def test_observed_rows_decide_the_results(api: APIClient, address: str) -> None:
    api.post(f"{address}/observations", pairs(300, difference=9.0))
    found = api.get(f"{address}/results").json()
    assert (found["winner"], found["metric"]) == ("model_b", "loss")
    assert found["model_a_metrics"]["sample_count"] == 300
    assert found["evidence"]["source"] == "observations"
    look = found["evidence"]["over_time"][-1]
    assert look.keys() == {"at", "n", "e_value", "p_value", "low", "high", "mean_difference"}
    assert look["at"].endswith("Z")


def test_results_of_endless_evidence_are_answered_after_the_end(
    api: APIClient, address: str
) -> None:
    api.post(f"{address}/observations", pairs(2000, difference=1e6))
    running = api.get(f"{address}/results").json()
    api.post(f"{address}/decision", {"decision": "no_winner"})
    ended = api.get(f"{address}/results").json()
    assert ended["test_status"] == "completed"
    assert ended["evidence"]["e_value"] == running["evidence"]["e_value"] == 1e15
    assert problem(api.post(f"{address}/observations", pairs(1)), 409)["state"] == {
        "test_status": "completed"
    }


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, ["body"]),
        ([], ["body"]),
        ([1], ["body", 0]),
        ([{"loss_a": 1, "loss_b": 1}], ["body", 0, "unit"]),
        ([{"unit": "", "loss_a": 1, "loss_b": 1}], ["body", 0, "unit"]),
        ([{"unit": "u" * 201, "loss_a": 1, "loss_b": 1}], ["body", 0, "unit"]),
        ([{"unit": 5, "loss_a": 1, "loss_b": 1}], ["body", 0, "unit"]),
        ([{"unit": "u", "loss_a": "1", "loss_b": 1}], ["body", 0, "loss_a"]),
        ([{"unit": "u", "loss_a": True, "loss_b": 1}], ["body", 0, "loss_a"]),
        ([{"unit": "u", "loss_a": 1e101, "loss_b": 1}], ["body", 0, "loss_a"]),
        ([{"unit": "u", "loss_a": 1, "loss_b": 1, "los": 2}], ["body", 0, "los"]),
        ([{"unit": "u", "arm": "a", "loss": 1}], ["body", 0, "arm"]),
        ([{"unit": "u", "arm": "model_a"}], ["body", 0]),
        ([{"unit": "u", "loss_a": 1, "loss_b": None}], ["body", 0]),
        ([{"unit": str(n), "loss_a": 1, "loss_b": 1} for n in range(5001)], ["body"]),
    ],
)
def test_a_body_that_is_wrong_names_the_place_and_stores_nothing(
    api: APIClient, address: str, body: Any, place: list[Any]
) -> None:
    good = pairs(1) if isinstance(body, list) and len(body) == 1 else []
    sent = [*body, *good] if good else body
    assert places(api.post(f"{address}/observations", sent)) == [place]
    assert not ABObservation.objects.exists()


def test_text_that_is_no_text_is_refused(api: APIClient, address: str) -> None:
    for unit in ("\\u0000", "\\ud800"):
        body = f'[{{"unit": "{unit}", "loss_a": 1, "loss_b": 1}}]'
        answer = api.generic("POST", f"{address}/observations", body, "application/json")
        assert answer.status_code in {400, 422}, answer.content
    assert api.get(f"{address}/assignment?unit=%00").status_code == 422


def test_the_other_form_and_the_other_arm_are_409(api: APIClient, address: str) -> None:
    api.post(f"{address}/observations", [{"unit": "u", "arm": "model_a", "loss": 1}])
    assert problem(api.post(f"{address}/observations", pairs(1)), 409)["state"] == {"form": "arms"}
    other = [{"unit": "u", "arm": "model_b", "loss": 1}]
    assert problem(api.post(f"{address}/observations", other), 409)["state"]["arm"] == "model_a"


def test_unknown_tests_are_404(api: APIClient) -> None:
    for answer in (
        api.post(f"{ROOT}/ab-test/{NOWHERE}/observations", pairs(1)),
        api.get(f"{ROOT}/ab-test/{NOWHERE}/assignment?unit=u"),
    ):
        assert problem(answer, 404)["detail"] == "A/B test not found"
    assert places(api.get(f"{ROOT}/ab-test/x/assignment?unit=u")) == [["path", "id"]]


def test_a_limited_key_sees_no_foreign_test(
    client_with: Callable[..., APIClient], address: str
) -> None:
    client = client_with("read", "write", machines=[factories.MachineFactory()])
    problem(client.post(f"{address}/observations", pairs(1)), 404)
    problem(client.get(f"{address}/assignment?unit=u"), 404)


def test_observing_needs_write_and_asking_read(
    client_with: Callable[..., APIClient], address: str
) -> None:
    problem(client_with("read").post(f"{address}/observations", pairs(1)), 403)
    assert client_with("read").get(f"{address}/assignment?unit=u").status_code == 200
    problem(client_with("write").get(f"{address}/assignment?unit=u"), 403)


def test_an_assignment_names_the_version_and_stays(api: APIClient, address: str) -> None:
    test = ABTest.objects.get()
    first = api.get(f"{address}/assignment?unit=user 7").json()
    assert first["unit"] == "user 7"
    served = test.model_a if first["arm"] == "model_a" else test.model_b
    assert (first["model_id"], first["model_version"]) == (str(served.pk), served.model_version)
    api.get(f"{address}/assignment?unit=another")
    api.post(f"{address}/cancel")
    assert api.get(f"{address}/assignment?unit=user 7").json() == first
    assert places(api.get(f"{address}/assignment")) == [["query", "unit"]]


def test_start_takes_the_rules_of_the_test(api: APIClient) -> None:
    model = factories.ModelVersionFactory(is_active=True)
    rival = factories.ModelVersionFactory(machine=model.machine)
    given = series_of(model) | {
        "test_name": "t",
        "model_a_id": str(model.pk),
        "model_b_id": str(rival.pk),
    }
    wrong = given | {"traffic_split_a": 1.0, "confidence_level": 0.2, "margin": -1}
    assert sorted(places(api.post(f"{ROOT}/ab-test/start", wrong))) == [
        ["body", "confidence_level"],
        ["body", "margin"],
        ["body", "traffic_split_a"],
    ]
    api.post(f"{ROOT}/ab-test/start", given | {"traffic_split_a": 0.2, "margin": 0.5})
    test = ABTest.objects.get()
    assert (test.traffic_split_a, test.traffic_split_b, test.margin) == (0.2, 0.8, 0.5)
