"""Policies: settings that inherit, are refused where wrong, and say how series are judged."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from modelperf.models import Machine, ModelVersion, Policy, PolicyEvent
from modelperf.services import drift, metrics, policies
from modelperf.services.errors import InvalidError
from modelperf.services.policies import (
    Policies,
    PolicyValues,
    Season,
    policy_of,
    policy_values,
    read_policies,
)
from modelperf.stats.results import MetricKind
from tests.factories import MachineFactory, ModelVersionFactory, PolicyFactory
from tests.services.builders import noisy, series
from tests.services.concurrency import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    return MachineFactory.create(name="pump 7")


def set_policy(machine: Machine | None = None, **values: Any) -> Policy:
    return policies.set_policy(model_type="baseline", machine=machine, values=values, by="user:a")


# --- what holds -----------------------------------------------------------------------------


def test_every_setting_is_a_column_that_may_be_null() -> None:
    columns = {field.name: field for field in Policy._meta.concrete_fields}
    settings = {setting.name for setting in fields(PolicyValues)}
    assert settings == columns.keys() - {"id", "model_type", "machine", "created_at"}
    assert all(columns[name].null for name in settings)


def test_policy_without_rows_is_the_defaults(machine: Machine) -> None:
    defaults = PolicyValues()
    assert policy_values(None, None) == defaults
    assert read_policies(None) == defaults
    assert policy_of(machine_id=machine.pk, model_type="baseline") == defaults
    assert Policies.load().of(machine.pk, "baseline") == defaults
    assert (defaults.min_effect, defaults.q, defaults.min_evaluations) == (0.02, 0.05, 30)
    assert (defaults.fleet_alert_machines, defaults.fleet_alert_share) == (4, 0.1)
    assert (defaults.label_delay_seconds, defaults.alert_on_outlier) == (0, False)


def test_a_machine_overrides_setting_by_setting(machine: Machine) -> None:
    other = MachineFactory.create()
    set_policy(min_effect=0.1, limit_value=20.0, primary_metric="mape", q=0.1)
    set_policy(machine, min_effect=0.3, season={"period_days": 365.25})
    found = policy_of(machine_id=machine.pk, model_type="baseline")
    assert (found.min_effect, found.limit_value, found.q) == (0.3, 20.0, 0.1)
    assert found.season == Season(period_days=365.25, harmonics=2)
    assert policy_of(machine_id=other.pk, model_type="baseline").min_effect == 0.1
    assert policy_of(machine_id=None, model_type="baseline").min_effect == 0.1
    assert policy_of(machine_id=machine.pk, model_type="other") == PolicyValues()


def test_a_falsy_setting_of_a_machine_is_a_setting(machine: Machine) -> None:
    set_policy(min_effect=0.1, alert_on_outlier=True, label_delay_seconds=60, limit_value=5.0)
    set_policy(machine, min_effect=0.0, alert_on_outlier=False, label_delay_seconds=0)
    set_policy(machine, limit_value=0.0)
    found = policy_of(machine_id=machine.pk, model_type="baseline")
    assert (found.min_effect, found.alert_on_outlier) == (0.0, False)
    assert (found.label_delay_seconds, found.limit_value) == (0, 0.0)


def test_all_readers_of_policies_agree(machine: Machine) -> None:
    set_policy(min_effect=1, directions={"own": "loss"}, primary_metric="own", limit_hits=1)
    set_policy(machine, limit_value=3, season={"period_days": 7}, training_source={"kind": "demo"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT jsonb_agg(to_jsonb(p) ORDER BY machine_id NULLS FIRST)::text"
                       " FROM model_policies p")  # fmt: skip
        stored = cursor.fetchone()[0]
    of_type, own = Policy.objects.order_by("machine_id")[::-1]
    expected = policy_values(own, of_type) if own.machine is None else policy_values(of_type, own)
    for found in (
        expected,
        read_policies(stored),
        Policies.load().of(machine.pk, "baseline"),
        policy_of(machine_id=machine.pk, model_type="baseline"),
    ):
        assert found == expected
        assert (found.limit_value, type(found.limit_value)) == (3.0, float)
        assert (found.min_effect, type(found.min_effect)) == (1.0, float)
        assert found.season == Season(period_days=7.0)


def test_policies_of_a_fleet_are_read_at_once_and_shared(machine: Machine) -> None:
    set_policy(min_effect=0.1)
    set_policy(machine, min_effect=0.3)
    fleet = [MachineFactory.create() for _ in range(5)]
    with CaptureQueriesContext(connection) as queries:
        loaded = Policies.load()
        found = [loaded.of(one.pk, "baseline") for one in fleet]
        own = loaded.of(machine.pk, "baseline")
        plain = loaded.of(fleet[0].pk, "other")
    assert len(queries) == 1
    assert {id(values) for values in found} == {id(found[0])}
    assert (found[0].min_effect, own.min_effect, plain.min_effect) == (0.1, 0.3, 0.02)
    assert own is loaded.of(machine.pk, "baseline")
    assert own.rules("mae") is loaded.of(machine.pk, "baseline").rules("mae")


# --- what follows from it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "judged"),
    [
        (["rmse", "r_squared", "mae"], "r_squared"),
        (["mape", "mae"], "mae"),
        (["f1_score", "accuracy", "recall_score", "precision_score"], "precision_score"),
        (["log_loss", "accuracy"], "accuracy"),
        (["bias", "smape", "mape"], "mape"),
        (["bias", "smape"], "smape"),
        (["bias", "nmbe", "own"], "own"),
        (["nmbe", "bias"], "bias"),
        (["unheard_of"], None),
        ([], None),
    ],
)
def test_judged_metric_follows_from_what_is_reported(
    reported: list[str], judged: str | None
) -> None:
    values = PolicyValues(directions={"own": "loss"})
    assert values.judged_metric(reported) == judged
    assert values.judged_metric(reversed(reported)) == judged
    assert PolicyValues(primary_metric="x").judged_metric(reported) == "x"


def test_rules_are_those_of_the_policy() -> None:
    values = PolicyValues(
        min_effect=0.1,
        min_evaluations=20,
        limit_value=20.0,
        clear_value=15.0,
        limit_hits=3,
        limit_windows=5,
    )
    rules = values.rules("mape")
    assert rules is not None
    assert (rules.kind, rules.min_effect, rules.min_evaluations) == (MetricKind.LOSS, 0.1, 20)
    assert (rules.limit, rules.clear_limit) == (20.0, 15.0)
    assert (rules.limit_hits, rules.limit_windows) == (3, 5)
    assert values.rules("unheard_of") is None
    higher = values.rules("r_squared")
    assert higher is not None
    assert higher.clear_limit is None


@pytest.mark.parametrize(
    "values",
    [
        PolicyValues(clear_value=1.0),
        PolicyValues(limit_hits=5, limit_windows=2),
        PolicyValues(limit_value=1.0, clear_value=9.0),
    ],
)
def test_rules_of_settings_that_contradict_each_other_are_still_rules(values: PolicyValues) -> None:
    rules = values.rules("mae")
    assert rules is not None
    assert rules.clear_limit is None
    assert rules.limit_hits <= rules.limit_windows


def test_a_machines_policy_judges_its_series_alone() -> None:
    models = [ModelVersionFactory.create(is_active=True) for _ in range(2)]
    set_policy(models[0].machine, min_effect=5.0)
    for model in models:
        last = [
            metrics.record(evaluation=sent, by="a")
            for sent in series(model, noisy(1, 60, fall_at=45))
        ][-1]
        assert last.drift_detected is (model is models[1])
        assert drift.check(model=model, by="a").drift_detected is last.drift_detected


# --- changing -------------------------------------------------------------------------------


@pytest.fixture
def model() -> ModelVersion:
    return ModelVersionFactory.create(is_active=True)


def test_set_policy_changes_what_is_judged_next(model: ModelVersion) -> None:
    metrics.record_batch(evaluations=series(model, noisy(1, 60, fall_at=45)), by="a")
    assert drift.check(model=model, by="a").drift_detected
    set_policy(min_effect=5.0)
    assert not drift.check(model=model, by="a").drift_detected


def test_set_policy_keeps_what_it_is_not_told(machine: Machine) -> None:
    set_policy(machine, min_effect=0.1, limit_value=5.0)
    set_policy(machine, limit_value=None, q=0.01)
    row = Policy.objects.get()
    assert (row.machine, row.min_effect, row.limit_value, row.q) == (machine, 0.1, None, 0.01)


def test_a_policy_that_sets_nothing_is_removed(machine: Machine) -> None:
    set_policy(min_effect=0.1)
    set_policy(machine, q=0.1)
    set_policy(machine, q=None, primary_metric="", directions={})
    assert Policy.objects.get().machine is None
    set_policy(min_effect=None)
    assert not Policy.objects.exists()


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"min_effect": -1.0}, "min_effect"),
        ({"min_effect": "much"}, "min_effect"),
        ({"min_effect": float("nan")}, "min_effect"),
        ({"limit_value": float("inf")}, "limit_value"),
        ({"clear_value": 1.0}, "clear_value"),
        ({"limit_hits": 0}, "limit_hits"),
        ({"limit_hits": 4}, "limit_hits"),
        ({"limit_windows": 1}, "limit_hits"),
        ({"limit_windows": 101}, "limit_windows"),
        ({"q": 0.0}, "q"),
        ({"q": 0.21}, "q"),
        ({"min_evaluations": 14}, "min_evaluations"),
        ({"min_evaluations": 401}, "min_evaluations"),
        ({"label_delay_seconds": -1}, "label_delay_seconds"),
        ({"expected_cadence_seconds": 0}, "expected_cadence_seconds"),
        ({"expected_cadence_seconds": 2**31}, "expected_cadence_seconds"),
        ({"fleet_alert_machines": 1}, "fleet_alert_machines"),
        ({"fleet_alert_share": 0.0}, "fleet_alert_share"),
        ({"fleet_alert_share": 1.1}, "fleet_alert_share"),
        ({"alert_on_outlier": "perhaps"}, "alert_on_outlier"),
        ({"directions": {"x": "sideways"}}, "directions"),
        ({"directions": {"x": []}}, "directions"),
        ({"directions": {"": "loss"}}, "directions"),
        ({"directions": {"x" * 500: "loss"}}, "directions"),
        ({"limit_value": 20.0, "clear_value": 15.0}, "clear_value"),
        ({"directions": ["x"]}, "directions"),
        ({"season": 7}, "season"),
        ({"season": {"harmonics": 2}}, "season"),
        ({"season": {"period_days": 1}}, "season"),
        ({"season": {"period_days": 7, "harmonics": 7}}, "season"),
        ({"season": {"period_days": 7, "colour": "red"}}, "season"),
        ({"training_source": "demo"}, "training_source"),
        ({"training_source": {"kind": "sky"}}, "training_source"),
        ({"training_source": {"kind": "demo", "meter": "nowhere"}}, "training_source"),
        ({"trainer": "external"}, "trainer"),
        ({"trainer": {"kind": "oracle"}}, "trainer"),
        ({"trainer": {"kind": "external", "timeout_seconds": 1}}, "trainer"),
        ({"trainer": {"kind": "energy_baseline", "colour": "red"}}, "trainer"),
        ({"training_window_days": 0}, "training_window_days"),
        ({"training_window_days": 3661}, "training_window_days"),
        ({"train_since_change": "perhaps"}, "train_since_change"),
        ({"training_retries": 11}, "training_retries"),
        ({"retrain_automatically": "perhaps"}, "retrain_automatically"),
        ({"retrain_every_seconds": 3599}, "retrain_every_seconds"),
        ({"retrain_cooldown_seconds": -1}, "retrain_cooldown_seconds"),
        ({"retrain_tries": 0}, "retrain_tries"),
        ({"retrain_daily_cap": -1}, "retrain_daily_cap"),
        ({"after_training": "celebrate"}, "after_training"),
        ({"test_duration_hours": 0.0}, "test_duration_hours"),
        ({"test_duration_hours": float("nan")}, "test_duration_hours"),
        ({"colour": "red"}, "colour"),
        ({"primary_metric": "oddity"}, "primary_metric"),
        ({"primary_metric": "x" * 101}, "primary_metric"),
        ({"primary_metric": "mape", "limit_value": 20.0, "clear_value": 30.0}, "clear_value"),
    ],
)
@pytest.mark.parametrize("is_override", [False, True])
def test_set_policy_refuses_wrong_values(
    values: dict[str, Any], place: str, is_override: bool, machine: Machine
) -> None:
    with pytest.raises(InvalidError) as caught:
        set_policy(machine if is_override else None, **values)
    assert {error.loc[1] for error in caught.value.errors} == {place}
    assert caught.value.detail
    assert not Policy.objects.exists()


@pytest.mark.parametrize("model_type", ["", "x" * 51, "a b", "<b>"])
def test_set_policy_refuses_a_model_type_that_is_no_slug(model_type: str) -> None:
    with pytest.raises(InvalidError):
        policies.set_policy(model_type=model_type, values={}, by="a")


def test_what_a_machine_inherits_must_agree_with_what_it_sets(machine: Machine) -> None:
    set_policy(primary_metric="mape", limit_value=20.0, clear_value=15.0)
    with pytest.raises(InvalidError, match="on the better side of the limit: at most 20"):
        set_policy(machine, clear_value=25.0)
    with pytest.raises(InvalidError, match="limit_hits is at most limit_windows, 3"):
        set_policy(machine, limit_hits=4)
    set_policy(machine, clear_value=10.0)
    assert policy_of(machine_id=machine.pk, model_type="baseline").limit_value == 20.0


def test_a_type_may_not_change_into_what_contradicts_a_machine(machine: Machine) -> None:
    set_policy(primary_metric="mape", limit_value=20.0)
    set_policy(machine, clear_value=15.0)
    with pytest.raises(InvalidError, match="on the machine pump 7"):
        set_policy(limit_value=10.0)
    with pytest.raises(InvalidError, match=r"needs a limit_value \(on the machine pump"):
        set_policy(limit_value=None)
    assert Policy.objects.get(machine=None).limit_value == 20.0


@pytest.mark.parametrize(
    "values",
    [
        {"q": 0.5},
        {"q": 0.0},
        {"min_effect": -1.0},
        {"min_evaluations": 5},
        {"limit_hits": 0},
        {"limit_windows": 0},
        {"clear_value": 1.0},
        {"expected_cadence_seconds": 0},
        {"label_delay_seconds": -1},
        {"fleet_alert_machines": 0},
        {"fleet_alert_share": 2.0},
        {"model_type": "a b"},
    ],
)
def test_the_database_refuses_what_is_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="check constraint"), transaction.atomic():
        Policy.objects.create(**{"model_type": "baseline"} | values)


def test_the_database_holds_one_policy_a_type_and_one_a_series(machine: Machine) -> None:
    for own in (None, machine):
        PolicyFactory.create(machine=own)
        with pytest.raises(IntegrityError, match="model_policies_one"), transaction.atomic():
            Policy.objects.create(model_type="baseline", machine=own)


@pytest.mark.django_db(transaction=True)
def test_set_policy_by_many_at_once_stores_one_policy() -> None:
    names = ["mae", "rmse", "mape", "r_squared"]
    answers = at_once(
        8,
        lambda n: policies.set_policy(
            model_type="baseline", values={"primary_metric": names[n % 4]}, by=f"user:{n}"
        ),
    )
    assert all(isinstance(answer, Policy) for answer in answers)
    assert Policy.objects.get().primary_metric in names


# --- history --------------------------------------------------------------------------------


def changes() -> list[tuple[str, str | None, float | None]]:
    found = PolicyEvent.objects.order_by("pgh_id")
    return [(one.pgh_label, (one.pgh_context or {}).get("actor"), one.min_effect) for one in found]


def test_every_change_is_kept_with_its_actor(machine: Machine) -> None:
    set_policy(min_effect=0.1)
    set_policy(min_effect=0.1)
    policies.set_policy(model_type="baseline", values={"min_effect": 0.2}, by="key:b")
    set_policy(min_effect=None)
    assert changes() == [
        ("insert", "user:a", 0.1),
        ("update", "key:b", 0.2),
        ("delete", "user:a", 0.2),
    ]


def test_changes_past_the_service_are_kept_too(machine: Machine) -> None:
    Policy.objects.bulk_create(
        [Policy(model_type="baseline", min_effect=0.1), Policy(model_type="other", min_effect=0.1)]
    )
    Policy.objects.update(min_effect=0.2)
    Policy.objects.bulk_update([Policy.objects.get(model_type="other")], ["min_effect"])
    Policy.objects.filter(model_type="other").delete()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE model_policies SET min_effect = 0.3")
    assert changes() == [
        *[("insert", None, 0.1)] * 2,
        *[("update", None, 0.2)] * 2,
        ("delete", None, 0.2),
        ("update", None, 0.3),
    ]


def test_a_refused_change_leaves_no_history(machine: Machine) -> None:
    with pytest.raises(InvalidError):
        set_policy(min_effect=-1.0)
    assert changes() == []


@pytest.mark.django_db(transaction=True)
def test_the_actor_of_one_change_is_not_that_of_the_next() -> None:
    set_policy(min_effect=0.1)
    Policy.objects.update(min_effect=0.2)
    assert [actor for _, actor, _ in changes()] == ["user:a", None]
