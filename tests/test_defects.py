"""What a known implementation of the same contract did wrong, one test or more each.

Each docstring says what happened there. The page's part of the last one is tested with the page.
"""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from modelperf.models import (
    ABTest,
    Alert,
    LatestPerformance,
    ModelPerformanceMetric,
    ModelVersion,
    TrainingRun,
)
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
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


def record(api: APIClient, model: ModelVersion, day: int = 0, **metrics: float) -> dict[str, Any]:
    response = api.post(f"{ROOT}/metrics/record", evaluation(model, day, **metrics))
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def check(api: APIClient, model: ModelVersion) -> dict[str, Any]:
    response = api.post(f"{ROOT}/drift/check", subject(model))
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def test_1_detected_drift_keeps_the_row_and_its_alert_and_answers(
    api: APIClient, model: ModelVersion
) -> None:
    """Drift detected: a 500 after the row was kept, and no alert."""
    recorded(model, steps((60, 1.0), (11, 3.0)))
    Alert.objects.all().delete()
    answer = record(api, model, -1, rmse=3.0)
    assert answer["drift_detected"] is True
    row = ModelPerformanceMetric.objects.get(pk=answer["metric_id"])
    assert (row.drift_detected, row.drift_score) == (True, answer["drift_score"])
    alert = Alert.objects.unresolved().get()
    assert (alert.machine_id, alert.model_type) == (model.machine_id, model.model_type)
    assert [one["id"] for one in api.get(f"{ROOT}/alerts/active").json()] == [str(alert.pk)]


def test_1_a_failing_alert_leaves_no_row_behind(api: APIClient, model: ModelVersion) -> None:
    """Drift detected: a 500 after the row was kept, and no alert."""
    recorded(model, steps((60, 1.0), (1, 9.0)))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE model_alerts RENAME TO elsewhere")
    api.raise_request_exception = False
    before = ModelPerformanceMetric.objects.count()
    response = api.post(f"{ROOT}/metrics/record", evaluation(model, -1, rmse=9.0))
    problem(response, 500)
    assert ModelPerformanceMetric.objects.count() == before


@pytest.mark.parametrize(
    ("metric", "value"),
    [("r_squared", -12.0), ("mape", 100_000.0), ("rmse", 1e100), ("mae", 1e-300), ("own", -1e9)],
)
def test_2_values_of_any_size_are_kept_as_they_are(
    api: APIClient, model: ModelVersion, metric: str, value: float
) -> None:
    """Values outside DECIMAL(5,4) were a 500."""
    answer = record(api, model, 0, **{metric: value})
    row = ModelPerformanceMetric.objects.get(pk=answer["metric_id"])
    # jsonb writes 1e100 with all its digits, which Python reads as a whole number.
    assert {name: float(number) for name, number in row.metrics.items()} == {metric: value}
    assert getattr(row, metric, value) == value
    trend = api.get(f"{ROOT}/metrics/trend", series_of(model)).json()
    assert float(trend["metrics"][0]["metrics"][metric]) == value
    assert record(api, model, 0, **{metric: value})["status"] == "unchanged"


def test_3_a_training_completes_only_where_something_was_trained(
    api: APIClient, model: ModelVersion
) -> None:
    """Training was faked: runs completed with invented metrics."""
    factories.PolicyFactory.create(model_type=model.model_type, training_source={"kind": "demo"})
    given = series_of(model) | {"reason": "a new season"}
    triggered = api.post(f"{ROOT}/retrain/trigger", given).json()
    run = TrainingRun.objects.get(pk=triggered["training_job_id"])
    assert (run.training_status, run.training_metrics, run.model_id) == ("pending", {}, None)
    # This machine has no data to train on: the run says so and invents nothing.
    with pytest.raises(CommandError, match="1 of 1 training runs failed"):
        call_command("run_training")
    run.refresh_from_db()
    assert run.training_status == "failed"
    assert run.error_message
    assert (run.training_metrics, run.validation_metrics, run.model_id) == ({}, {}, None)
    assert ModelVersion.objects.count() == 1


@pytest.mark.parametrize(
    ("metric", "levels"),
    [("r_squared", (0.5, 0.9)), ("rmse", (4.0, 1.0)), ("f1_score", (0.6, 0.9))],
)
def test_4_an_improvement_is_no_drift(
    api: APIClient, model: ModelVersion, metric: str, levels: tuple[float, float]
) -> None:
    """An improvement was flagged as drift."""
    before, after = levels
    recorded(model, steps((40, before), (20, after)), metric=metric)
    answer = check(api, model)
    assert (answer["drift_detected"], answer["drift_type"]) == (False, "no_drift")
    assert answer["status"] == "improved"
    assert not Alert.objects.exists()


def test_4_a_metric_set_without_r_squared_is_judged_by_what_it_has(
    api: APIClient, model: ModelVersion
) -> None:
    """A metric set without R² scored 1.0."""
    recorded(model, steps((40, 0.9), (20, 0.5)), metric="f1_score")
    answer = check(api, model)
    assert (answer["drift_detected"], answer["metric"]) == (True, "f1_score")
    assert answer["drift_score"] != 1.0


def test_4_classification_metrics_are_stored(api: APIClient, model: ModelVersion) -> None:
    """Precision, recall and F1 were never stored."""
    given = evaluation(model, precision_score=0.25, recall_score=0.5, f1_score=1 / 3)
    given |= {"true_positives": 1, "false_positives": 3, "true_negatives": 0, "false_negatives": 1}
    assert api.post(f"{ROOT}/metrics/record", given).status_code == 200
    row = ModelPerformanceMetric.objects.get()
    assert (row.precision_score, row.recall_score, row.f1_score) == (0.25, 0.5, 1 / 3)
    counts = (row.true_positives, row.false_positives, row.true_negatives, row.false_negatives)
    assert counts == (1, 3, 0, 1)


def test_5_zero_is_a_number(api: APIClient, model: ModelVersion) -> None:
    """An R² of 0 was read as null."""
    record(api, model, 0, r_squared=0.0, rmse=0.0)
    trend = api.get(f"{ROOT}/metrics/trend", series_of(model)).json()
    assert (trend["metrics"][0]["r_squared"], trend["metrics"][0]["rmse"]) == (0.0, 0.0)
    current = check(api, model)["current_performance"]
    assert (current["r_squared"], current["rmse"], current["mae"]) == (0.0, 0.0, None)
    assert api.get(f"{ROOT}/metrics/latest").json()["results"][0]["r_squared"] == 0.0


@pytest.mark.parametrize("levels", [((60, 1.0),), ((40, 1.0), (20, 3.0)), ((20, 1.0),)])
def test_6_record_and_check_agree(
    api: APIClient, model: ModelVersion, levels: tuple[tuple[int, float], ...]
) -> None:
    """Record and check disagreed on the same evaluations."""
    recorded(model, steps(*levels))
    answer = record(api, model, -1, rmse=levels[-1][1])
    checked = check(api, model)
    for name in ("drift_detected", "drift_score", "recommendation"):
        assert answer[name] == checked[name]


def test_6_the_baseline_leaves_out_what_is_judged(api: APIClient, model: ModelVersion) -> None:
    """The baseline included the row under judgement."""
    values = steps((40, 1.0), (20, 3.0))
    recorded(model, values)
    answer = check(api, model)
    assert answer["baseline_performance"]["rmse"] == pytest.approx(sum(values[:40]) / 40)
    assert answer["current_performance"]["rmse"] == pytest.approx(sum(values[40:]) / 20)


def test_7_the_trend_is_per_day_and_not_per_row(api: APIClient, model: ModelVersion) -> None:
    """The trend was fitted on the row's index."""
    rows = []
    for number in range(20):
        end = NOON - timedelta(days=(19 - number) * 7)
        rows.append(
            subject(model)
            | {
                "evaluation_start": (end - timedelta(days=1)).isoformat(),
                "evaluation_end": end.isoformat(),
                "metrics": {"rmse": 10.0 + number * 7 * 0.1 + (number % 3) * 1e-3},
            }
        )
    assert api.post(f"{ROOT}/metrics/record/bulk", rows).status_code == 200
    answer = api.get(f"{ROOT}/metrics/trend", series_of(model) | {"days": 365}).json()
    assert answer["degradation_rate"] == pytest.approx(0.1, rel=0.01)
    assert answer["trend_direction"] == "degrading"


def test_7_the_trend_does_not_mix_versions(api: APIClient, model: ModelVersion) -> None:
    """The trend mixed versions: a worse old version made the new one improve."""
    old = factories.ModelVersionFactory(machine=model.machine)
    recorded(old, steps((20, 5.0)))
    recorded(model, steps((15, 1.0)))
    answer = api.get(f"{ROOT}/metrics/trend", series_of(model)).json()
    assert {row["model_version"] for row in answer["metrics"]} == {1, 2}
    assert (answer["judged_version"], answer["trend_direction"]) == (1, "stable")


@pytest.fixture
def rival(model: ModelVersion) -> ModelVersion:
    return factories.ModelVersionFactory(machine=model.machine)


def arms(a: ModelVersion, b: ModelVersion) -> dict[str, Any]:
    return series_of(a) | {"test_name": "t", "model_a_id": str(a.pk), "model_b_id": str(b.pk)}


def results(api: APIClient, a: ModelVersion, b: ModelVersion) -> dict[str, Any]:
    given = arms(a, b) | {
        "test_start": (NOON - timedelta(days=31)).isoformat(),
        "duration_hours": 24 * 40,
    }
    started = api.post(f"{ROOT}/ab-test/start", given)
    assert started.status_code == 200, started.content
    answer: dict[str, Any] = api.get(f"{ROOT}/ab-test/{started.json()['test_id']}/results").json()
    return answer


def test_8_a_difference_without_evidence_is_no_win(
    api: APIClient, model: ModelVersion, rival: ModelVersion
) -> None:
    """A/B: a fixed rule of 0.02 declared winners, and the confidence was invented."""
    # Three windows, and a difference of 0.05 that three windows cannot prove.
    recorded(model, [0.80, 0.90, 0.85], metric="r_squared")
    recorded(rival, [0.88, 0.91, 0.91], metric="r_squared")
    answer = results(api, model, rival)
    assert answer["winner"] is None
    assert answer["confidence"] < 0.95


def test_8_a_small_difference_with_evidence_is_a_win(
    api: APIClient, model: ModelVersion, rival: ModelVersion
) -> None:
    """A/B: a fixed rule of 0.02 called everything below it similar."""
    recorded(model, [0.900 + 0.0002 * (day * 7 % 5) for day in range(30)], metric="r_squared")
    recorded(rival, [0.915 + 0.0002 * (day * 3 % 5) for day in range(30)], metric="r_squared")
    answer = results(api, model, rival)
    assert answer["winner"] == "model_b"
    assert answer["confidence"] > 0.95


def test_8_no_data_is_not_similar(api: APIClient, model: ModelVersion, rival: ModelVersion) -> None:
    """A/B: no data was called similar."""
    answer = results(api, model, rival)
    assert (answer["winner"], answer["confidence"]) == (None, 0.0)
    assert "No data" in answer["recommendation"]
    assert answer["model_a_metrics"]["r_squared"] is None


def test_8_a_test_ends(api: APIClient, model: ModelVersion, rival: ModelVersion) -> None:
    """A/B: tests never ended, so that no second one could start."""
    expired = factories.ABTestFactory(
        machine=model.machine, model_a=model, model_b=rival, test_start=factories.START
    )
    assert api.post(f"{ROOT}/ab-test/start", arms(model, rival)).status_code == 200
    expired.refresh_from_db()
    assert expired.test_status == "completed"
    ended = api.get(f"{ROOT}/ab-test/{expired.pk}/results").json()
    assert ended["winner"] == "no_winner"


def test_8_a_model_against_itself_or_a_foreign_one_is_refused(
    api: APIClient, model: ModelVersion, rival: ModelVersion
) -> None:
    """A/B: a = b and models of other series were accepted."""
    foreign = factories.ModelVersionFactory(model_type="other", machine=model.machine)
    for a, b in ((model, model), (model, foreign)):
        problem(api.post(f"{ROOT}/ab-test/start", arms(a, b)), 422)
    assert not ABTest.objects.exists()


def test_9_the_reason_of_a_training_is_kept(api: APIClient, model: ModelVersion) -> None:
    """Two trainings at once under load (see the tests of concurrency); the reason was lost."""
    given = series_of(model) | {"reason": "bearing replaced", "trigger_type": "scheduled"}
    answer = api.post(f"{ROOT}/retrain/trigger", given).json()
    second = api.post(f"{ROOT}/retrain/trigger", given | {"reason": "again"}).json()
    assert (second["triggered"], second["training_job_id"]) == (False, None)
    stored = api.get(f"{ROOT}/training/{answer['training_job_id']}").json()
    assert (stored["reason"], stored["trigger_type"]) == ("bearing replaced", "scheduled")
    assert stored["triggered_by"] == "key:tests"


@pytest.mark.parametrize("machine_id", ["nonsense", "", "1", "'; DROP TABLE machines; --"])
def test_10_a_bad_uuid_is_422(api: APIClient, machine_id: str) -> None:
    """A bad uuid was a 500 with SQL in it."""
    given = {"model_type": "baseline", "machine_id": machine_id}
    assert places(api.get(f"{ROOT}/metrics/trend", given)) == [["query", "machine_id"]]
    assert places(api.get(f"{ROOT}/alerts/active", {"machine_id": machine_id})) == [
        ["query", "machine_id"]
    ]
    assert places(api.get(f"{ROOT}/ab-test/x{machine_id.replace('/', '')}/results")) == [
        ["path", "id"]
    ]


def test_10_an_unknown_machine_is_404(api: APIClient, model: ModelVersion) -> None:
    """An unknown machine was a 500 with SQL in it."""
    given = {"model_type": "baseline", "machine_id": NOWHERE}
    problem(api.get(f"{ROOT}/metrics/trend", given), 404)
    problem(api.post(f"{ROOT}/retrain/trigger", given | {"reason": "r"}), 404)
    problem(api.post(f"{ROOT}/drift/check", given | {"model_id": str(model.pk)}), 404)


def test_10_a_long_type_and_days_without_end_are_422(api: APIClient, model: ModelVersion) -> None:
    """A long type and days = 1e9 were 500s with SQL in them."""
    url = f"{ROOT}/metrics/trend"
    long = series_of(model) | {"model_type": "x" * 1000}
    assert places(api.get(url, long)) == [["query", "model_type"]]
    for days in ("1e9", "1000000000", "0", "-5", str(10**40)):
        assert places(api.get(url, series_of(model) | {"days": days})) == [["query", "days"]]
    response = api.post(f"{ROOT}/retrain/trigger", long | {"reason": "r"})
    assert places(response) == [["body", "model_type"]]


def test_11_nothing_is_answered_to_strangers(anonymous: APIClient, model: ModelVersion) -> None:
    """There was no authentication."""
    problem(anonymous.get(f"{ROOT}/alerts/active"), 401)
    problem(anonymous.post(f"{ROOT}/metrics/record", evaluation(model), format="json"), 401)
    assert not ModelPerformanceMetric.objects.exists()
    page = anonymous.get("/ui/model-performance")
    assert page.status_code == 302
    assert "login" in page.headers["Location"]


def test_11_no_origin_is_trusted(api: APIClient) -> None:
    """Every origin was allowed."""
    for origin in ("https://evil.example", "null"):
        response = api.get(f"{ROOT}/alerts/active", headers={"origin": origin})
        assert "Access-Control-Allow-Origin" not in response.headers


def test_11_markup_in_names_is_text(api: APIClient, logged_in: Any) -> None:
    """HTML in a machine's name or an alert's message ran in the page."""
    markup = "<script>alert(1)</script>"
    machine = factories.MachineFactory(name=markup)
    model = factories.ModelVersionFactory(machine=machine, is_active=True)
    factories.AlertFactory(model=model, alert_message=markup)
    recorded(model, [1.0, 2.0])
    page = logged_in.get(f"/ui/model-performance?machine_id={machine.pk}")
    assert page.status_code == 200
    assert markup not in page.content.decode()
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    answer = api.get(f"{ROOT}/alerts/active")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_12_late_evaluations_take_their_place(api: APIClient, model: ModelVersion) -> None:
    """There was no back-fill: what came last was the latest."""
    newest = record(api, model, 1, rmse=1.0)
    record(api, model, 400, rmse=5.0)
    assert str(LatestPerformance.objects.get().id) == newest["metric_id"]
    found = api.get(f"{ROOT}/metrics?machine_id={model.machine_id}").json()["results"]
    assert [one["rmse"] for one in found] == [1.0, 5.0]


def test_12_one_condition_is_one_alert(api: APIClient, model: ModelVersion) -> None:
    """Every evaluation of a degraded model added another alert."""
    recorded(model, steps((40, 1.0), (5, 9.0)))
    for day in (-1, -2, -3):
        assert record(api, model, day, rmse=9.0)["drift_detected"] is True
    alert = Alert.objects.get()
    assert alert.occurrences > 1
    assert [one["count"] for one in api.get(f"{ROOT}/alerts/active").json()] == [alert.occurrences]


def test_12_an_alert_can_be_resolved(api: APIClient) -> None:
    """There was no way to resolve an alert."""
    alert = factories.AlertFactory()
    api.post(f"{ROOT}/alerts/{alert.pk}/resolve", {"action": "fixed"})
    assert api.get(f"{ROOT}/alerts/active").json() == []


def test_12_alerts_are_paged_and_sorted_by_what_severity_means(api: APIClient) -> None:
    """Alerts were not paged, and severity was sorted as text: warning before critical."""
    now = timezone.now()
    for severity in ("critical", "normal", "warning"):
        factories.AlertFactory(severity=severity, alert_timestamp=now)
    first = api.get(f"{ROOT}/alerts/active?limit=2")
    assert [one["severity"] for one in first.json()] == ["critical", "warning"]
    address = first.headers["Link"].partition(">")[0].removeprefix("<")
    assert [one["severity"] for one in api.get(address).json()] == ["normal"]


def test_13_numbers_belong_to_the_machine_that_was_asked_for(
    api: APIClient, model: ModelVersion
) -> None:
    """The page kept the last machine's numbers after a 404."""
    recorded(model, [1.0, 2.0])
    assert api.get(f"{ROOT}/metrics/trend", series_of(model)).json()["machine_id"] == str(
        model.machine_id
    )
    empty = factories.MachineFactory()
    document = problem(
        api.get(f"{ROOT}/metrics/trend", series_of(model) | {"machine_id": str(empty.pk)}), 404
    )
    assert "metrics" not in document


def test_13_samples_are_not_called_predictions(api: APIClient, model: ModelVersion) -> None:
    """ "Predictions made" showed the sample count of the evaluation."""
    recorded(model, [1.0])
    answer = api.get(f"{ROOT}/metrics/trend", series_of(model)).json()
    assert answer["metrics"][0]["sample_count"] == 24
    assert not [name for name in answer["metrics"][0] if "prediction" in name]


def test_every_defect_is_described() -> None:
    tests = {name: test for name, test in globals().items() if name.startswith("test_")}
    numbers = {int(name.split("_")[1]) for name in tests if name.split("_")[1].isdigit()}
    assert numbers == set(range(1, 14))
    for name, test in tests.items():
        assert name == "test_every_defect_is_described" or inspect.getdoc(test)
