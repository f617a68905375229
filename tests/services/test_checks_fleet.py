"""A check of many series at once: statements, false alarms, storms, and what each asks for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.models import Alert, AlertMember, Machine, ModelVersion, StoredVerdict
from modelperf.services import alerts, checks, drift, metrics, policies, profiles, registry
from modelperf.services.checks import Look, Report
from modelperf.services.drift_following import last_cut_off
from tests.factories import ModelVersionFactory
from tests.services.builders import evaluation, noisy, series

pytestmark = pytest.mark.django_db
MOST_STATEMENTS = 20
FALL = noisy(1, 60, fall_at=45)
STATES: list[list[float]] = [
    noisy(2, 60),
    FALL,
    [*noisy(4, 45), 30.0, 31.0],
    [*FALL, *noisy(9, 30)],
    noisy(5, 12),
]


def fleet(n: int, *, model_type: str = "baseline") -> list[ModelVersion]:
    return ModelVersionFactory.create_batch(n, is_active=True, model_type=model_type)


def record(models: list[ModelVersion], histories: list[list[float]], after: int = 0) -> None:
    """Record what comes after so many evaluations, as a batch that nobody judges."""
    for model, values in zip(models, histories, strict=True):
        metrics.record_batch(evaluations=series(model, values)[after:], by="a")


def looks(report: Report) -> dict[Any, Look]:
    return {look.model_id: look for look in report.looks}


# --- statements -----------------------------------------------------------------------------


def statements(work: Callable[[], Any]) -> list[str]:
    """Return the statements of some work, without those that frame transactions."""
    with CaptureQueriesContext(connection) as captured:
        work()
    framing = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE SAVEPOINT")
    sent = [query["sql"] for query in captured.captured_queries]
    return [sql for sql in sent if not sql.lstrip().startswith(framing)]


def statements_of_checks(n: int) -> list[int]:
    """Return how many statements the checks of a fleet take whose series do all kinds of things.

    A sixth of them each is stable, falls, collapses, recovers, has too few evaluations; another
    type has a common fall, a third one no evaluations any more, and a fifth of all has profiles.
    """
    kind = f"kind{n}"
    models = fleet(n, model_type=kind)
    together = fleet(n, model_type=f"{kind}_together")
    missing = fleet(n, model_type=f"{kind}_missing")
    policies.set_policy(
        model_type=f"{kind}_missing", values={"expected_cadence_seconds": 86_400}, by="a"
    )
    record(models, [STATES[at % len(STATES)] for at in range(n)])
    record(together, [noisy(at, 60, fall_at=45) for at in range(n)])
    record(missing, [noisy(at, 40) for at in range(n)])
    for at, model in enumerate(models[:: len(STATES)]):
        moved(model, shift=1.0 if at % 2 else 0.0)
    taken = [len(statements(lambda: checks.run(by="a")))]
    assert Alert.objects.unresolved().filter(machine__isnull=True, model_type__startswith=kind)
    for day in range(2):
        fresh = [evaluation(one, 60 + day) for one in (*together, *models)]
        metrics.record_batch(evaluations=fresh, by="a")
        taken.append(len(statements(lambda: checks.run(by="a"))))
    taken.append(len(statements(lambda: checks.run(by="a"))))
    taken.append(len(statements(lambda: checks.run(by="a", dry_run=True))))
    return taken


def test_the_number_of_statements_does_not_depend_on_the_fleet() -> None:
    few = statements_of_checks(10)
    # Nothing is left to do about the first fleet.
    Machine.objects.update(is_active=False)
    Alert.objects.all().delete()
    many = statements_of_checks(60)
    assert few == many
    assert max(many) <= MOST_STATEMENTS


# --- false alarms ---------------------------------------------------------------------------


def test_of_some_hundred_series_only_those_that_changed_alert() -> None:
    models = fleet(300)
    changed = {17, 99, 150, 203, 288}
    histories = [noisy(at, 70, fall_at=50 if at in changed else None) for at in range(300)]
    record(models, [values[:60] for values in histories])
    checks.run(by="a")
    record(models, histories, after=60)
    report = checks.run(by="a")
    alerted = set(Alert.objects.unresolved().values_list("machine_id", flat=True))
    assert alerted >= {models[at].machine_id for at in changed}
    assert len(alerted) <= len(changed) + 1
    assert report.n_series == 300
    assert report.n_rejected >= len(changed)
    worse = [look for look in report.looks if look.status == "degraded"]
    assert len(worse) >= len(changed)


def test_a_fleet_in_which_nothing_changed_is_silent() -> None:
    models = fleet(200)
    record(models, [noisy(1_000 + at, 90) for at in range(200)])
    report = checks.run(by="a")
    assert not report.has_drift
    assert not Alert.objects.exists()


def test_each_policy_has_its_own_false_discovery_rate() -> None:
    policies.set_policy(model_type="strict", values={"q": 1e-9}, by="a")
    usual, strict = *fleet(1), *fleet(1, model_type="strict")
    record([usual, strict], [[*noisy(2, 50), *noisy(3, 10, level=1.35)]] * 2)
    found = looks(checks.run(by="a"))
    p_value = found[usual.pk].p_value
    assert p_value is not None
    assert 1e-9 < p_value < 0.01
    assert found[usual.pk].decisions == ["opened"]
    assert found[strict.pk].decisions == ["above_cut_off"]
    assert found[strict.pk].status == "degraded"
    stored = StoredVerdict.objects.get(model=strict).alert
    assert stored["cut_off"] < 1e-8
    assert Alert.objects.get().machine_id == usual.machine_id


# --- evaluations that do not come -----------------------------------------------------------


def test_a_series_that_was_never_evaluated_is_missed() -> None:
    (model,) = fleet(1)
    policies.set_policy(model_type="baseline", values={"expected_cadence_seconds": 3600}, by="a")
    assert not checks.run(by="a").looks[0].is_stale
    ago = timezone.now() - timedelta(hours=3)
    ModelVersion.objects.filter(pk=model.pk).update(created_at=ago)
    report = checks.run(by="a")
    assert report.looks[0].is_stale
    assert report.looks[0].status == "insufficient_data"
    assert not report.has_drift
    alert = Alert.objects.get()
    assert (alert.alert_type, alert.machine_id) == ("evaluation_missing", model.machine_id)


def test_a_storm_of_missing_evaluations_is_one_alert_until_they_come_again() -> None:
    models = fleet(6)
    policies.set_policy(model_type="baseline", values={"expected_cadence_seconds": 86_400}, by="a")
    record(models, [noisy(at, 40) for at in range(6)])
    checks.run(by="a")
    alert = Alert.objects.get()
    assert (alert.alert_type, alert.machine_id) == ("evaluation_missing", None)
    assert alert.alert_message.startswith(
        "baseline: 6 of 6 machines at once: no evaluations since 2026-02-10"
    )
    assert alert.members.count() == 6
    now = timezone.now()
    window = {"evaluation_start": now - timedelta(days=1), "evaluation_end": now}
    metrics.record_batch(evaluations=[evaluation(one, **window) for one in models[:2]], by="a")
    checks.run(by="a")
    present = AlertMember.objects.present().filter(alert=alert)
    assert set(present.values_list("model_id", flat=True)) == {one.pk for one in models[2:]}
    metrics.record_batch(evaluations=[evaluation(one, **window) for one in models[2:5]], by="a")
    report = checks.run(by="a")
    alert.refresh_from_db()
    assert (alert.is_resolved, alert.resolution_action) == (True, "recovered")
    assert looks(report)[models[5].pk].is_stale
    assert Alert.objects.unresolved().get().machine_id == models[5].machine_id


# --- fleet alerts ---------------------------------------------------------------------------


@pytest.fixture
def fallen() -> list[ModelVersion]:
    """Return the models of machines that have fallen together, with their fleet alert."""
    models = fleet(8)
    record(models, [noisy(seed, 60, fall_at=45) for seed in range(8)])
    checks.run(by="a")
    assert Alert.objects.unresolved().get().machine_id is None
    return models


def goes_on(models: list[ModelVersion]) -> None:
    for seed, model in enumerate(models):
        sent = [evaluation(model, 60 + day, metrics={"mae": 1.5}) for day in range(3)]
        metrics.record_batch(evaluations=sent, by="a", judge=bool(seed % 2))


def test_a_fleet_alert_that_a_person_resolved_stays_resolved(fallen: list[ModelVersion]) -> None:
    alert = Alert.objects.get()
    alerts.resolve(alert=alert, by="user:ada", action="accepted")
    goes_on(fallen)  # half of it judged as it comes
    assert not Alert.objects.unresolved().exists()
    report = checks.run(by="a")
    alert.refresh_from_db()
    assert (alert.is_resolved, alert.resolved_by) == (True, "user:ada")
    assert not Alert.objects.unresolved().exists()
    assert report.summary["fleet_alerts"] == []
    assert {tuple(look.decisions) for look in report.looks} == {("resolved_by_person",)}
    assert not report.has_drift


def test_a_check_of_one_machine_leaves_fleet_alerts_alone(fallen: list[ModelVersion]) -> None:
    alert = Alert.objects.get()
    goes_on(fallen)
    checks.run(by="a", machine=fallen[0].machine)
    assert Alert.objects.get().alert_details == alert.alert_details
    assert AlertMember.objects.present().filter(alert=alert).count() == 8
    metrics.record_batch(
        evaluations=series(fallen[0], [*noisy(0, 63), *noisy(70, 60)])[63:], by="a"
    )
    report = checks.run(by="a", machine=fallen[0].machine)
    assert report.looks[0].status == "stable"
    assert AlertMember.objects.present().filter(alert=alert).count() == 8
    checks.run(by="a", model_type="baseline")
    assert AlertMember.objects.present().filter(alert=alert).count() == 7
    assert not Alert.objects.get().is_resolved


# --- distributions --------------------------------------------------------------------------

FIRST = datetime(2026, 3, 1, tzinfo=UTC)


def moved(model: ModelVersion, *, shift: float) -> None:
    """Record a reference of two features, and a window in which one of them is elsewhere."""
    rng = np.random.default_rng(0)
    columns = {"load": rng.normal(0, 1, 3_000), "heat": rng.normal(0, 1, 3_000)}
    profiles.record_reference(model=model, columns=columns, roles={}, by="a")
    window_of(model, shift=shift)


def window_of(model: ModelVersion, *, shift: float) -> None:
    rng = np.random.default_rng(1)
    columns = {"load": rng.normal(shift, 1, 500), "heat": rng.normal(0, 1, 500)}
    window = FIRST, FIRST + timedelta(days=1)
    profiles.record_window(model=model, window=window, columns=columns, by="a")


def test_features_that_moved_alert_until_they_are_back() -> None:
    one, other = fleet(2)
    record([one, other], [noisy(1, 40), noisy(2, 40)])
    moved(one, shift=1.0)
    moved(other, shift=0.0)
    report = checks.run(by="a")
    assert looks(report)[one.pk].drifted_features == ["load"]
    assert looks(report)[other.pk].drifted_features == []
    assert (report.summary["drifted_features"], report.has_drift) == (1, True)
    alert = Alert.objects.get()
    assert (alert.alert_type, alert.model_id) == ("data_drift", one.pk)
    assert [feature["name"] for feature in alert.alert_details["features"]] == ["load"]
    checks.run(by="a")
    assert Alert.objects.get().occurrences == 1
    window_of(one, shift=0.0)
    checks.run(by="a")
    alert.refresh_from_db()
    assert (alert.is_resolved, alert.resolution_action) == (True, "recovered")


@pytest.mark.parametrize(
    ("values", "shift", "drift_type", "drift_types"),
    [
        (noisy(1, 60), 0.0, "no_drift", []),
        (noisy(1, 60), 1.0, "data_drift", ["data_drift"]),
        (FALL, 0.0, "concept_drift", ["concept_drift"]),
        (FALL, 1.0, "concept_drift", ["concept_drift", "data_drift"]),
    ],
    ids=["nothing", "inputs", "performance", "both"],
)
def test_a_drift_check_tells_what_drifts(
    values: list[float], shift: float, drift_type: str, drift_types: list[str]
) -> None:
    (model,) = fleet(1)
    record([model], [values])
    moved(model, shift=shift)
    found = drift.check(model=model, by="a")
    assert (found.drift_type, found.drift_types) == (drift_type, drift_types)
    assert found.drift_detected is bool(drift_types)
    assert {one["name"]: one["status"] for one in found.features} == {
        "heat": "stable",
        "load": "drifted" if shift else "stable",
    }
    expected = {"data_drift": "data_drift", "concept_drift": "drift_detected"}
    kinds = set(Alert.objects.unresolved().values_list("alert_type", flat=True))
    assert kinds == {expected[one] for one in drift_types}
    alerts_before = list(Alert.objects.order_by("pk").values())
    checks.run(by="a")
    assert list(Alert.objects.order_by("pk").values()) == alerts_before


def collapsing(seed: int, n: int, at: int) -> list[float]:
    values = noisy(seed, n)
    return [*values[:at], *(round(8 * value, 6) for value in values[at:])]


def test_unrelated_changes_of_a_back_fill_are_no_storm() -> None:
    models = fleet(12)
    record(
        models,
        [collapsing(seed, 200, 40 + 30 * seed if seed < 5 else 200) for seed in range(len(models))],
    )
    checks.run(by="a")
    machines = set(Alert.objects.unresolved().values_list("machine_id", flat=True))
    assert machines == {model.machine_id for model in models[:5]}


def test_a_storm_is_the_same_however_it_was_recorded() -> None:
    one_by_one, at_once = fleet(10), fleet(10, model_type="other")
    histories = [collapsing(seed, 48, 45 if seed < 5 else 48) for seed in range(10)]
    for model, values in zip(one_by_one, histories, strict=True):
        metrics.record_batch(evaluations=series(model, values)[:44], by="a", judge=True)
        for sent in series(model, values)[44:]:
            metrics.record(evaluation=sent, by="a")
    record(at_once, histories)
    checks.run(by="a")
    checks.run(by="a")
    alerts_of = {
        model_type: [
            (alert.machine_id, alert.members.filter(left_at=None).count())
            for alert in Alert.objects.unresolved().filter(model_type=model_type)
        ]
        for model_type in ("baseline", "other")
    }
    assert alerts_of == {"baseline": [(None, 5)], "other": [(None, 5)]}


def test_what_a_person_resolved_swallows_no_later_collapse() -> None:
    models = fleet(12)
    histories = [collapsing(seed, 48, 45 if seed < 5 else 48) for seed in range(12)]
    record(models, histories)
    checks.run(by="a")
    alerts.resolve(alert=Alert.objects.get(), by="user:ada", action="accepted")
    later = [[*values, *noisy(50 + seed, 20)] for seed, values in enumerate(histories)]
    later[:5] = [[*values, *(8 * one for one in noisy(70, 20))] for values in histories[:5]]
    later[11] = [*histories[11], *collapsing(99, 20, 17)]
    record(models, later)
    checks.run(by="a")
    assert Alert.objects.unresolved().get().machine_id == models[11].machine_id


def test_retired_members_leave_a_fleet_alert() -> None:
    models = fleet(8)
    histories = [collapsing(seed, 48, 45 if seed < 6 else 48) for seed in range(8)]
    record(models, histories)
    checks.run(by="a")
    for model in models[:4]:
        registry.retire_machine(machine=model.machine, by="a")
    record(models[4:6], [[*values, *noisy(9, 20)] for values in histories[4:6]])
    checks.run(by="a")
    assert not Alert.objects.unresolved().exists()


def test_a_limited_check_leaves_the_budget_of_the_fleet_alone() -> None:
    models = fleet(30)
    record(models, [noisy(seed, 40) for seed in range(30)])
    report = checks.run(by="a", machine=models[0].machine)
    assert report.n_series == 30
    assert last_cut_off().of(0.05) == pytest.approx(0.05 / 30)


def test_who_falls_beside_a_season_of_all_gets_an_alert_of_its_own() -> None:
    models = fleet(8)
    rng = np.random.default_rng(8)
    season = 0.3 * np.sin(2 * np.pi * np.arange(130) / 52)
    histories = [np.exp(rng.normal(0, 0.1, 130) + season) for _ in models]
    histories[3][110:] *= 1.4
    rounded = [[round(float(value), 6) for value in values] for values in histories]
    record(models, rounded)
    checks.run(by="a")
    alert = Alert.objects.unresolved().get(machine=models[3].machine)
    assert alert.alert_details["rule"] == "own_part"
    assert "other machines share" in alert.alert_message
    assert Alert.objects.unresolved().filter(machine__isnull=False).count() == 1
    metrics.record(evaluation=evaluation(models[3], 130, metrics={"mae": 1.4}), by="a")
    assert Alert.objects.unresolved().filter(machine=models[3].machine).exists()
    back = [[*values, *noisy(20 + at, 30)] for at, values in enumerate(rounded)]
    record(models, back, after=130)
    checks.run(by="a")
    assert not Alert.objects.unresolved().filter(machine=models[3].machine).exists()


def test_what_is_no_longer_expected_is_not_said_to_have_recovered() -> None:
    models = fleet(1)
    policies.set_policy(model_type="baseline", values={"expected_cadence_seconds": 86_400}, by="a")
    record(models, [noisy(1, 40)])
    checks.run(by="a")
    policies.set_policy(model_type="baseline", values={"expected_cadence_seconds": None}, by="a")
    checks.run(by="a")
    assert Alert.objects.get().resolution_action == "no_longer_expected"
