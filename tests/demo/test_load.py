"""The loaded demo: what it promises, and the figures of its page."""

from datetime import date, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth import authenticate, get_user_model
from django.core.management import call_command
from django.test import RequestFactory

from modelperf.demo import figures, forecasts, login
from modelperf.demo.evaluation import evaluated_days, held_back_days
from modelperf.demo.load import DemoError, is_loaded, load, n_steps
from modelperf.demo.meters import (
    BY_KEY,
    CHANGED_ON,
    COMPARED,
    METERS,
    MODEL_TYPE,
    REPLAYED,
    WORKS,
)
from modelperf.models import (
    ABTest,
    Alert,
    ApiKey,
    DriftState,
    LatestModelPerformance,
    Machine,
    ModelPerformanceMetric,
    ModelVersion,
    Policy,
    TrainingRun,
)
from modelperf.services import ab_tests, drift
from modelperf.services.policies import policy_of

# One process for them all: the demo is loaded once.
pytestmark = [pytest.mark.django_db, pytest.mark.xdist_group("demo_load")]

SIMULATED = [meter.key for meter in METERS if meter.is_simulated]


def rows(key: str, version: int = 1):
    return ModelPerformanceMetric.objects.filter(
        machine_id=BY_KEY[key].machine_id, model_type=MODEL_TYPE, model_version=version
    ).order_by("evaluation_end")


def data_day(row) -> date:
    return date.fromisoformat(row.metadata["data_day"])


# --- the known change -----------------------------------------------------------------------


def test_load_finds_the_known_change_on_a_meter_whose_days_are_not_held_back(demo):
    hits = figures.hits()
    assert list(hits) == SIMULATED
    assert [key for key, days in hits.items() if days is not None] == ["il-electricity-cdd-hdd"]
    assert hits[REPLAYED.key] is None


def test_load_dates_the_known_change_within_three_weeks_where_it_finds_it(demo):
    for key in [key for key, days in figures.hits().items() if days is not None]:
        machine = Machine.objects.get(pk=BY_KEY[key].machine_id)
        state = DriftState.objects.get(
            model__machine=machine, model__model_type=MODEL_TYPE, model__model_version=1
        )
        assert state.status == "degraded"
        changed = date.fromisoformat(state.verdict["changed_at"][:10])
        shown = date.fromisoformat(machine.metadata["known_change"]["shown_as"])
        assert abs((changed - shown).days) <= 21
        alert = Alert.objects.get(machine=machine)
        assert (alert.state, alert.alert_type) == ("open", "drift_detected")


@pytest.mark.parametrize("key", SIMULATED)
def test_load_raises_nothing_before_the_known_change(demo, key):
    before = [row for row in rows(key) if data_day(row) < CHANGED_ON]
    assert len(before) == 34
    assert not any(row.drift_detected for row in before)
    judged = [row for row in before if row.drift_score is not None]
    assert len(judged) == 5  # a verdict needs 30 evaluations


def test_load_judges_every_day_as_a_check_of_the_whole_history_does(demo):
    for model in ModelVersion.objects.all():
        newest = ModelPerformanceMetric.objects.filter(model=model).latest("evaluation_end")
        DriftState.objects.filter(model=model).delete()
        checked = drift.check(model=model, by="user:tests")
        assert checked.drift_score == pytest.approx(newest.drift_score, abs=1e-9)
        assert checked.drift_detected == newest.drift_detected


# --- the forecasts --------------------------------------------------------------------------


def weeks_of(model: ModelVersion) -> list[ModelPerformanceMetric]:
    return list(ModelPerformanceMetric.objects.filter(model=model).order_by("evaluation_end"))


def test_load_trains_a_forecast_of_each_meter_and_a_second_of_the_real_home(demo):
    models = ModelVersion.objects.filter(model_type=forecasts.MODEL_TYPE)
    versions = {
        meter.key: list(
            models.filter(machine_id=meter.machine_id)
            .order_by("model_version")
            .values_list("model_version", "is_active")
        )
        for meter in METERS
    }
    one, two = [(1, True)], [(1, True), (2, False)]
    assert versions == {meter.key: one if meter.is_simulated else two for meter in METERS}


def test_load_evaluates_forecasts_on_weeks_that_they_were_not_trained_on(demo, loaded_at):
    for model in ModelVersion.objects.filter(model_type=forecasts.MODEL_TYPE):
        found = weeks_of(model)
        assert len(found) >= 30
        assert found[0].evaluation_start >= model.trained_at
        assert timedelta(0) <= loaded_at - found[-1].evaluation_end < timedelta(weeks=1)
        for row in found:
            assert set(row.metrics) == {"r_squared", "rmse", "mae", "mape"}
            assert 100 < row.sample_count <= 169
        assert DriftState.objects.get(model=model).metric == "rmse"


def test_load_tells_nothing_of_forecasts_that_are_as_good_as_they_were(demo):
    states = DriftState.objects.filter(model__model_type=forecasts.MODEL_TYPE)
    assert {state.status for state in states} == {"stable"}
    assert not Alert.objects.filter(model_type=forecasts.MODEL_TYPE).exists()


def test_load_gives_the_forecasts_a_policy(demo):
    policy = Policy.objects.get(model_type=forecasts.MODEL_TYPE)
    assert (policy.primary_metric, policy.expected_cadence_seconds) == ("rmse", 7 * 86_400)


# --- what is loaded -------------------------------------------------------------------------


def test_load_says_of_each_machine_whether_it_is_simulated(demo):
    for meter in METERS:
        machine = Machine.objects.get(pk=meter.machine_id)
        assert machine.metadata["origin"] == ("simulated" if meter.is_simulated else "real")
        assert machine.metadata["timezone"] == meter.timezone
        assert ("simulated" in machine.name) == meter.is_simulated
        assert ("known_change" in machine.metadata) == meter.is_simulated
        assert machine.metadata["notice"]


def test_load_moves_dates_by_whole_weeks_into_the_past_week(demo, loaded_at):
    for meter in METERS:
        weeks = Machine.objects.get(pk=meter.machine_id).metadata["demo"]["shift_weeks"]
        assert weeks == demo.shift_weeks[meter.key]
        end = evaluated_days(meter)[-1].end + timedelta(weeks=weeks)
        assert timedelta(0) <= loaded_at - end < timedelta(weeks=1)


def test_load_trains_every_version_through_a_run(demo):
    runs = TrainingRun.objects.all()
    assert runs.count() == ModelVersion.objects.filter(model_type=MODEL_TYPE).count() == 11
    for run in runs:
        assert run.training_status == "completed"
        assert run.validation_metrics["rmse"] > 0
        assert not rows_within(run).exists()


def rows_within(run: TrainingRun):
    """Return evaluations of a version on days that it was trained on."""
    return ModelPerformanceMetric.objects.filter(
        model_id=run.model_id,
        evaluation_end__gt=run.training_data_start,
        evaluation_start__lt=run.training_data_end,
    )


def test_load_evaluates_whole_days_on_all_metrics(demo):
    for row in ModelPerformanceMetric.objects.filter(model_type=MODEL_TYPE):
        assert {"rmse", "mae", "nmbe"} <= row.metrics.keys()
        if row.model_id and row.metrics.keys() != {"rmse", "mae", "nmbe"}:
            assert {"mape", "cv_rmse", "r_squared"} <= row.metrics.keys()
        assert row.sample_count in {23, 24, 25}
        assert row.data_completeness == 1.0
        assert not (WORKS[0] <= data_day(row) <= WORKS[1])


def test_load_keeps_version_1_active_and_its_latest_day_in_the_view(demo):
    assert set(ModelVersion.objects.active().values_list("model_version", flat=True)) == {1}
    newest = LatestModelPerformance.objects.filter(model_type=MODEL_TYPE)
    assert list(newest.values_list("model_version", flat=True)) == [1] * 6


def test_load_holds_the_days_after_the_change_of_one_meter_back(demo):
    held_back = {day.day for day in held_back_days(REPLAYED)}
    recorded = {data_day(row) for row in rows(REPLAYED.key)}
    assert (len(held_back), min(held_back)) == (399, CHANGED_ON + timedelta(days=1))
    assert not held_back & recorded
    assert max(recorded) == WORKS[0] - timedelta(days=1)
    assert [run.model_version for run in TrainingRun.objects.filter(machine=machine())] == [1]
    assert not ABTest.objects.filter(machine=machine()).exists()


def test_load_lets_the_meter_that_is_held_back_train_by_itself_and_no_other(demo):
    trains = {
        meter.key: policy_of(machine_id=meter.machine_id, model_type=MODEL_TYPE) for meter in METERS
    }
    assert [key for key, policy in trains.items() if policy.retrain_automatically] == [REPLAYED.key]
    policy = trains[REPLAYED.key]
    assert (policy.train_since_change, policy.after_training) == (True, "test")
    assert (policy.primary_metric, policy.trainer) == ("nmbe", {"kind": "energy_baseline"})


def machine() -> Machine:
    return Machine.objects.get(pk=REPLAYED.machine_id)


def test_load_starts_a_test_over_the_common_days_of_each_meter(demo, loaded_at):
    for meter in COMPARED:
        test = ABTest.objects.get(machine_id=meter.machine_id)
        assert (test.model_a_version, test.model_b_version) == (1, 2)
        assert test.test_start < loaded_at < test.test_end
        assert ab_tests.results(test=test).evidence["n"] == rows(meter.key, version=2).count()


def test_load_reports_every_step(demo, steps):
    assert len(steps) == n_steps()


def test_load_makes_a_login_and_a_key_that_work(demo):
    request = RequestFactory().post("/")
    user = authenticate(request, username="demo", password=demo.login.password)
    assert user is not None
    assert user.is_superuser
    key = ApiKey.objects.get_from_key(demo.login.api_key)
    assert set(key.scopes) == set(ApiKey.Scope.values)
    assert demo.login.password not in repr(demo.login)


# --- again ----------------------------------------------------------------------------------


def counts() -> list[int]:
    models = (Machine, ModelVersion, ModelPerformanceMetric, TrainingRun, ABTest, Alert, Policy)
    return [model.objects.count() for model in (*models, ApiKey, get_user_model())]


def test_load_again_changes_nothing(demo, steps):
    before = counts()
    assert is_loaded()
    assert load(step=steps.append) is None
    assert counts() == before


def test_load_demo_command_again_says_that_nothing_changed(demo):
    out = StringIO()
    call_command("load_demo", stdout=out, skip_checks=True)
    assert "nothing was changed" in out.getvalue()


def test_login_is_made_once(demo):
    assert login.create() is None


# --- the page -------------------------------------------------------------------------------


def test_docs_show_the_figures_of_the_loaded_demo(demo):
    page = Path(settings.BASE_DIR, "docs", "demo.md").read_text()
    shown = page.split("<!-- figures -->")[1].split("<!-- end of figures -->")[0].strip()
    assert shown == figures.figures(), "Copy what `manage.py load_demo --figures` prints."


def test_load_demo_command_prints_the_figures(demo):
    out = StringIO()
    call_command("load_demo", figures=True, stdout=out, skip_checks=True)
    assert out.getvalue().strip() == figures.figures()


def test_figures_of_verdicts_made_by_other_rules_are_refused(demo):
    Policy.objects.update(min_effect=80.0)
    with pytest.raises(DemoError, match="load the demo anew"):
        figures.figures()


def test_docs_tell_of_the_choices_that_the_code_makes(demo):
    page = Path(settings.BASE_DIR, "docs", "demo.md").read_text()
    policy = Policy.objects.get(model_type=MODEL_TYPE, machine=None)
    assert (policy.primary_metric, policy.min_effect) == ("nmbe", 5.0)
    assert policy.directions["nmbe"] == "target_zero"
    for word in ("5 percentage points", "26 weeks", "399 days", "target zero", "data_day"):
        assert word in page
