"""Checks of the fleet and stored verdicts over HTTP, and the machines of a fleet alert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from modelperf.models import Alert, ModelVersion, StoredVerdict
from modelperf.services import checks, drift, metrics
from modelperf.services.drift_documents import verdict_document
from modelperf.stats.explanation import recompute, rules_from_document
from modelperf.stats.results import FoldState
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem, series_of, subject
from tests.services.builders import noisy, series

pytestmark = pytest.mark.django_db
ClientWith = Callable[..., APIClient]
CHECKS = f"{ROOT}/checks"
VERDICTS = f"{ROOT}/verdicts"
FALLEN = noisy(2, 60, fall_at=45)


def check_of(*histories: list[float], **scope: Any) -> list[ModelVersion]:
    """Record the histories of new models, check the fleet, and return the models."""
    models = factories.ModelVersionFactory.create_batch(len(histories), is_active=True)
    for model, values in zip(models, histories, strict=True):
        metrics.record_batch(evaluations=series(model, values), by="a")
    checks.run(by="a", **scope)
    return models


def test_a_check_tells_whom_it_judged_and_its_cut_off(api: APIClient) -> None:
    check_of(noisy(1, 40), FALLEN)
    (listed,) = api.get(CHECKS).json()["results"]
    assert (listed["started_by"], listed["n_judged"], listed["n_skipped"]) == ("a", 2, 0)
    assert (listed["n_series"], listed["n_rejected"]) == (2, 1)
    assert (listed["model_type"], listed["machine_id"]) == ("", None)
    assert listed["summary"]["by_status"] == {"stable": 1, "degraded": 1}
    assert listed["summary"]["opened"] == 1
    assert api.get(f"{CHECKS}/{listed['id']}").json() == listed


def test_checks_are_listed_the_newest_first_by_page_and_scope(api: APIClient) -> None:
    (model,) = check_of(noisy(1, 40))
    for scope in ({"model_type": "baseline"}, {"machine": model.machine}):
        checks.run(by="a", **scope)
    listed = api.get(CHECKS).json()["results"]
    assert [one["started_at"] for one in listed] == sorted(
        (one["started_at"] for one in listed), reverse=True
    )
    first = api.get(CHECKS, {"limit": 2}).json()
    second = api.get(first["next"]).json()
    assert first["results"] + second["results"] == listed
    assert second["next"] is None
    (of_type,) = api.get(CHECKS, {"model_type": "baseline"}).json()["results"]
    assert of_type == listed[1]
    (of_machine,) = api.get(CHECKS, {"machine_id": str(model.machine_id)}).json()["results"]
    assert of_machine == listed[0]


def test_checks_are_not_for_limited_keys(client_with: ClientWith) -> None:
    (model,) = check_of(noisy(1, 40))
    limited = client_with("read", machines=[model.machine])
    run_id = StoredVerdict.objects.get().check_run_id
    for address in (CHECKS, f"{CHECKS}/{run_id}"):
        assert "limited to machines" in problem(limited.get(address), 403)["detail"]


@pytest.mark.parametrize("address", [CHECKS, VERDICTS])
def test_what_is_not_there_is_404_and_what_is_wrong_422(api: APIClient, address: str) -> None:
    problem(api.get(f"{address}/{NOWHERE}"), 404)
    assert places(api.get(f"{address}/one")) == [["path", "id"]]
    assert places(api.get(address, {"limit": 0})) == [["query", "limit"]]
    assert places(api.get(address, {"machine_id": "pump"})) == [["query", "machine_id"]]
    assert places(api.get(address, {"machine": NOWHERE})) == [["query", "machine"]]
    assert problem(api.post(address, {}), 405)


def test_verdicts_are_filtered_and_paged(api: APIClient) -> None:
    stable, fallen = check_of(noisy(1, 40), FALLEN)
    drift.check(model=fallen, by="a")  # what still holds is stored already
    metrics.record_batch(evaluations=series(stable, noisy(1, 41))[40:], by="a")
    checks.run(by="a")
    listed = api.get(VERDICTS).json()["results"]
    assert len(listed) == 3
    assert listed[0]["model_id"] == str(stable.pk)
    assert {one["model_id"] for one in listed[1:]} == {str(stable.pk), str(fallen.pk)}
    run = listed[0]["check_run_id"]
    for query, found in (
        ({"model_id": str(fallen.pk)}, 1),
        ({"machine_id": str(stable.machine_id)}, 2),
        ({"model_type": "baseline"}, 3),
        ({"model_type": "other"}, 0),
        ({"status": "degraded"}, 1),
        ({"check_run_id": run}, 1),
        ({"check_run_id": run, "status": "degraded"}, 0),
    ):
        assert len(api.get(VERDICTS, query).json()["results"]) == found, query
    assert places(api.get(VERDICTS, {"status": "fine"})) == [["query", "status"]]
    first = api.get(VERDICTS, {"limit": 1})
    assert first.headers["Link"].endswith('rel="next"')
    second = api.get(first.json()["next"]).json()
    assert first.json()["results"] + second["results"] == listed[:2]


def test_limited_keys_see_the_verdicts_of_their_machines(client_with: ClientWith) -> None:
    mine, other = check_of(noisy(1, 40), FALLEN)
    limited = client_with("read", machines=[mine.machine])
    (listed,) = limited.get(VERDICTS).json()["results"]
    assert listed["model_id"] == str(mine.pk)
    assert limited.get(f"{VERDICTS}/{listed['id']}").status_code == 200
    hidden = StoredVerdict.objects.get(model=other)
    problem(limited.get(f"{VERDICTS}/{hidden.pk}"), 404)


@pytest.mark.parametrize(
    "values",
    [noisy(1, 40), FALLEN, [*noisy(4, 45), 30.0, 31.0], noisy(1, 12)],
    ids=["stable", "degraded", "collapsed", "short"],
)
def test_a_verdict_is_computed_again_from_the_answer_alone(
    api: APIClient, values: list[float]
) -> None:
    check_of(values)
    stored = StoredVerdict.objects.get()
    told = api.get(f"{VERDICTS}/{stored.pk}").json()
    again = recompute(
        told["inputs"]["values"],
        told["inputs"]["sample_counts"],
        rules=rules_from_document(told["rules"]),
        fold=FoldState.from_document(told["fold"]),
        first_position=told["first_position"],
    )
    # Dates are not recomputed: they are the starts of the windows at the positions.
    document = verdict_document(again, told["metric"], lambda _position: None)
    dates = {name for name in document if name.startswith("changed_")}
    assert {k: v for k, v in document.items() if k not in {*dates, "conditions"}} == {
        k: v for k, v in told["verdict"].items() if k not in {*dates, "conditions"}
    }
    undated = [one | {"changed_at": None} for one in told["verdict"]["conditions"]]
    assert undated == document["conditions"]
    assert (told["is_complete"], told["is_reproduced"]) == (True, True)
    assert (told["machine_name"], told["model_version"]) == (stored.machine.name, 1)
    assert len(told["why"]) >= 1
    n = told["last_position"] - told["first_position"] + 1
    for column in (*told["inputs"].values(), *told["numbers"].values()):
        assert len(column) == n


def test_the_answer_of_a_drift_check_names_its_verdict(api: APIClient) -> None:
    (model,) = factories.ModelVersionFactory.create_batch(1, is_active=True)
    metrics.record_batch(evaluations=series(model, FALLEN), by="a")
    checked = api.post(f"{ROOT}/drift/check", subject(model)).json()
    told = api.get(f"{VERDICTS}/{checked['verdict_id']}").json()
    assert told["verdict"] == checked["verdict"]
    assert told["check_run_id"] is None


@pytest.fixture
def fleet_alert() -> Alert:
    """Return the alert of eight machines that have fallen together."""
    check_of(*(noisy(seed, 60, fall_at=45) for seed in range(8)))
    return Alert.objects.unresolved().get()


def test_a_fleet_alert_lists_its_machines(api: APIClient, fleet_alert: Alert) -> None:
    (listed,) = api.get(f"{ROOT}/alerts/active").json()
    assert listed["id"] == str(fleet_alert.pk)
    assert (listed["machine_id"], listed["machine_name"]) == (None, None)
    told = api.get(f"{ROOT}/alerts/{fleet_alert.pk}").json()
    assert (told["machine_id"], told["model_id"], told["model_version"]) == (None, None, None)
    members = told["members"]
    assert len(members) == told["alert_details"]["n_members"] == 8
    assert [one["machine_name"] for one in members] == sorted(
        one["machine_name"] for one in members
    )
    assert all(one["left_at"] is None for one in members)
    assert {one["details"]["metric"] for one in members} == {"mae"}
    assert "members" not in api.get(f"{ROOT}/alerts").json()["results"][0]


def test_who_has_left_a_fleet_alert_is_listed_last(api: APIClient, fleet_alert: Alert) -> None:
    well = ModelVersion.objects.order_by("machine__name").first()
    assert well is not None
    metrics.record_batch(evaluations=series(well, noisy(50, 90))[60:], by="a")
    checks.run(by="a")
    members = api.get(f"{ROOT}/alerts/{fleet_alert.pk}").json()["members"]
    assert [one["left_at"] is None for one in members] == [True] * 7 + [False]
    assert members[-1]["model_id"] == str(well.pk)


def test_an_alert_of_a_machine_has_no_members(api: APIClient) -> None:
    alert = factories.AlertFactory.create()
    assert api.get(f"{ROOT}/alerts/{alert.pk}").json()["members"] == []


def test_limited_keys_do_not_see_fleet_alerts(client_with: ClientWith, fleet_alert: Alert) -> None:
    model = ModelVersion.objects.first()
    assert model is not None
    limited = client_with("read", "triage", machines=[model.machine])
    assert limited.get(f"{ROOT}/alerts/active").json() == []
    assert limited.get(f"{ROOT}/alerts").json()["results"] == []
    problem(limited.get(f"{ROOT}/alerts/{fleet_alert.pk}"), 404)
    problem(limited.post(f"{ROOT}/alerts/{fleet_alert.pk}/acknowledge"), 404)
    assert limited.get(f"{ROOT}/alerts/active", series_of(model)).json() == []
