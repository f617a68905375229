"""Policies over HTTP: what is set, what holds, overrides of machines, and their history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from modelperf.models import Machine, Policy
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem, recorded, series_of, steps

pytestmark = pytest.mark.django_db
TYPE = f"{ROOT}/policies/baseline"
ALL: dict[str, Any] = {
    "primary_metric": "rmse",
    "directions": {"own": "loss"},
    "min_effect": 0.1,
    "limit_value": 20.0,
    "clear_value": 15.0,
    "limit_hits": 3,
    "limit_windows": 4,
    "limit_clear_windows": 6,
    "q": 0.1,
    "min_evaluations": 40,
    "label_delay_seconds": 3600,
    "expected_cadence_seconds": 86400,
    "alert_on_outlier": True,
    "season": {"period_days": 365.25, "harmonics": 2},
    "fleet_alert_machines": 5,
    "fleet_alert_share": 0.2,
    "training_source": {"kind": "demo", "meter": "uk-gas"},
    "trainer": {"kind": "external", "timeout_seconds": 3600},
    "training_window_days": 90,
    "train_since_change": True,
    "training_retries": 0,
    "retrain_automatically": True,
    "retrain_every_seconds": 604_800,
    "retrain_cooldown_seconds": 3600,
    "retrain_tries": 5,
    "retrain_daily_cap": 20,
    "after_training": "test",
    "test_duration_hours": 48.5,
}
NOTHING = dict.fromkeys(ALL)


@pytest.fixture
def machine() -> Machine:
    return factories.MachineFactory.create()


def test_a_type_without_a_policy_has_the_defaults(api: APIClient) -> None:
    told = api.get(TYPE).json()
    effective = told.pop("effective")
    assert told == NOTHING | {"model_type": "baseline", "machine_id": None}
    assert effective == NOTHING | {
        "directions": {},
        "min_effect": 0.02,
        "limit_hits": 2,
        "limit_windows": 3,
        "limit_clear_windows": 5,
        "q": 0.05,
        "min_evaluations": 30,
        "label_delay_seconds": 0,
        "alert_on_outlier": False,
        "fleet_alert_machines": 4,
        "fleet_alert_share": 0.1,
        "training_window_days": 365,
        "train_since_change": False,
        "training_retries": 1,
        "retrain_automatically": False,
        "retrain_cooldown_seconds": 86400,
        "retrain_tries": 3,
        "retrain_daily_cap": 10,
        "after_training": "wait",
        "test_duration_hours": 672.0,
    }
    assert api.get(f"{ROOT}/policies").json() == []
    assert not Policy.objects.exists()


def test_a_policy_is_set_and_told_as_a_whole(api: APIClient) -> None:
    expected = ALL | {"model_type": "baseline", "machine_id": None, "effective": ALL}
    assert api.put(TYPE, ALL).json() == expected
    assert api.get(TYPE).json() == expected
    assert api.get(f"{ROOT}/policies").json() == [expected]
    # What is left out gets its default: a policy is put as a whole.
    told = api.put(TYPE, {"primary_metric": "mae"}).json()
    assert (told["limit_value"], told["effective"]["min_effect"]) == (None, 0.02)
    assert api.put(TYPE, {}).json()["primary_metric"] is None
    assert not Policy.objects.exists()


def test_a_trainer_that_is_none_is_refused_with_what_to_write(api: APIClient) -> None:
    document = problem(api.put(TYPE, {"trainer": {"kind": "oracle"}}), 422)
    assert 'one of "command"' in document["detail"]
    given = {"trainer": {"kind": "webhook", "url": "ftp://x", "timeout_seconds": 60}}
    assert "url" in problem(api.put(TYPE, given), 422)["detail"]


@pytest.mark.parametrize("body", ["", "null"])
def test_a_policy_is_not_wiped_by_nothing(api: APIClient, machine: Machine, body: str) -> None:
    api.put(TYPE, {"min_effect": 0.1})
    for address in (TYPE, f"{TYPE}/machines/{machine.pk}"):
        assert places(api.generic("PUT", address, body, "application/json")) == [["body"]]
    assert Policy.objects.get().min_effect == 0.1


def test_a_machine_overrides_what_its_type_sets(api: APIClient, machine: Machine) -> None:
    own = f"{TYPE}/machines/{machine.pk}"
    api.put(TYPE, {"min_effect": 0.1, "q": 0.1})
    assert api.get(own).json()["effective"]["min_effect"] == 0.1
    told = api.put(own, {"min_effect": 0.3}).json()
    assert (told["machine_id"], told["min_effect"], told["q"]) == (str(machine.pk), 0.3, None)
    assert (told["effective"]["min_effect"], told["effective"]["q"]) == (0.3, 0.1)
    assert api.get(own).json() == told
    assert api.get(TYPE).json()["effective"]["min_effect"] == 0.1
    assert [one["machine_id"] for one in api.get(f"{ROOT}/policies").json()] == [None]
    listed = api.get(f"{TYPE}/machines").json()["results"]
    assert listed == [NOTHING | {"machine_id": str(machine.pk), "min_effect": 0.3}]
    api.put(own, NOTHING)
    assert api.get(f"{TYPE}/machines").json()["results"] == []
    assert api.get(own).json()["effective"]["min_effect"] == 0.1


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"min_effect": -1}, "min_effect"),
        ({"min_effect": "1"}, "min_effect"),
        ({"limit_value": True}, "limit_value"),
        ({"clear_value": 1.0}, "clear_value"),
        ({"trainer": {"kind": "oracle"}}, "trainer"),
        ({"trainer": {"kind": "external", "timeout_seconds": 1}}, "trainer"),
        ({"trainer": []}, "trainer"),
        ({"training_window_days": 0}, "training_window_days"),
        ({"training_retries": 11}, "training_retries"),
        ({"retrain_every_seconds": 60}, "retrain_every_seconds"),
        ({"retrain_tries": 0}, "retrain_tries"),
        ({"after_training": "celebrate"}, "after_training"),
        ({"test_duration_hours": 0}, "test_duration_hours"),
        ({"limit_hits": 4}, "limit_hits"),
        ({"limit_windows": 0}, "limit_windows"),
        ({"limit_clear_windows": 0}, "limit_clear_windows"),
        ({"q": 0}, "q"),
        ({"q": 0.3}, "q"),
        ({"min_evaluations": 14}, "min_evaluations"),
        ({"min_evaluations": 20.5}, "min_evaluations"),
        ({"label_delay_seconds": -1}, "label_delay_seconds"),
        ({"expected_cadence_seconds": 2**31}, "expected_cadence_seconds"),
        ({"alert_on_outlier": 1}, "alert_on_outlier"),
        ({"directions": {"own": "sideways"}}, "directions"),
        ({"directions": {"own": 5}}, "directions"),
        ({"season": {"period_days": 0}}, "season"),
        ({"season": {"period_days": 7, "colour": "red"}}, "season"),
        ({"season": 7}, "season"),
        ({"fleet_alert_machines": 1}, "fleet_alert_machines"),
        ({"fleet_alert_share": 2}, "fleet_alert_share"),
        ({"training_source": {"kind": "sky"}}, "training_source"),
        ({"training_source": {"kind": "files", "pattern": "*"}}, "training_source"),
        ({"training_source": {"kind": "url", "url": "http://10.0.0.1/"}}, "training_source"),
        ({"training_source": []}, "training_source"),
        ({"primary_metric": "x" * 101}, "primary_metric"),
        ({"primary_metric": "oddity"}, "primary_metric"),
        ({"colour": "red"}, "colour"),
    ],
)
@pytest.mark.parametrize("of", ["type", "machine"])
def test_a_wrong_policy_is_refused(
    api: APIClient, machine: Machine, of: str, given: dict[str, Any], place: str
) -> None:
    address = TYPE if of == "type" else f"{TYPE}/machines/{machine.pk}"
    assert places(api.put(address, given)) == [["body", place]]
    assert not Policy.objects.exists()


def test_a_policy_decides_what_is_judged(api: APIClient) -> None:
    model = factories.ModelVersionFactory(is_active=True)
    recorded(model, steps((40, 1.0)), metric="own")
    api.put(TYPE, {"primary_metric": "own", "directions": {"own": "loss"}})
    given = series_of(model) | {"model_id": str(model.pk)}
    assert api.post(f"{ROOT}/drift/check", given).json()["metric"] == "own"


def test_history_tells_every_change_and_who_made_it(api: APIClient, machine: Machine) -> None:
    own = f"{TYPE}/machines/{machine.pk}"
    api.put(TYPE, {"min_effect": 0.1})
    api.put(TYPE, {"min_effect": 0.1})  # changes nothing
    api.put(own, {"q": 0.1})
    api.put(TYPE, {"min_effect": 0.3})
    api.put(TYPE, {})
    changes = api.get(f"{TYPE}/history").json()["results"]
    told = [(one["event"], one["by"], one["machine_id"], one["min_effect"]) for one in changes]
    assert told == [
        ("delete", "key:tests", None, 0.3),
        ("update", "key:tests", None, 0.3),
        ("insert", "key:tests", str(machine.pk), None),
        ("insert", "key:tests", None, 0.1),
    ]
    assert changes[0]["at"].endswith("Z")
    assert [one["q"] for one in api.get(f"{own}/history").json()["results"]] == [0.1]
    assert api.get(f"{ROOT}/policies/other/history").json()["results"] == []


def test_history_comes_in_pages(api: APIClient) -> None:
    for effect in range(1, 6):
        api.put(TYPE, {"min_effect": effect})
    found: list[float] = []
    address: str | None = f"{TYPE}/history?limit=2"
    while address:
        page = api.get(address).json()
        found += [one["min_effect"] for one in page["results"]]
        address = page["next"]
    assert found == [5, 4, 3, 2, 1]


def test_an_unknown_machine_is_404(api: APIClient) -> None:
    for address in (f"{TYPE}/machines/{NOWHERE}", f"{TYPE}/machines/{NOWHERE}/history"):
        assert problem(api.get(address), 404)["detail"] == "Machine not found"
    problem(api.put(f"{TYPE}/machines/{NOWHERE}", {}), 404)
    problem(api.get(f"{TYPE}/machines/nonsense"), 422)


def test_policies_are_set_by_admins_and_seen_within_limits(
    client_with: Callable[..., APIClient], machine: Machine
) -> None:
    other = factories.MachineFactory.create()
    writer = client_with("read", "write", "train", "triage")
    limited = client_with("read", "admin", machines=[machine])
    every = client_with("admin", "read")
    for one in (machine, other):
        address = f"{TYPE}/machines/{one.pk}"
        problem(writer.put(address, {"q": 0.1}), 403)
        problem(limited.put(address, {"q": 0.1}), 403)
        assert every.put(address, {"q": 0.1}).status_code == 200
    problem(limited.get(f"{TYPE}/machines/{other.pk}"), 404)
    problem(limited.get(f"{TYPE}/machines/{other.pk}/history"), 404)
    for part in ("machines", "history"):
        seen = limited.get(f"{TYPE}/{part}").json()["results"]
        assert [one["machine_id"] for one in seen] == [str(machine.pk)]
