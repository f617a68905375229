"""The trend of a series, and which version and metric it is about."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from modelperf.models import ModelPerformanceMetric, ModelVersion
from modelperf.services import metrics, policies
from modelperf.services.errors import InvalidError, NotFoundError
from modelperf.services.metrics import Evaluation
from modelperf.services.trend import trend
from tests.factories import ModelVersionFactory
from tests.services.builders import noisy

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> ModelVersion:
    return ModelVersionFactory.create(is_active=True)


def record_days(model: ModelVersion, values: list[dict[str, float]]) -> None:
    """Record daily windows of which the last ends an hour ago."""
    end = timezone.now() - timedelta(hours=1)
    metrics.record_batch(
        evaluations=[
            Evaluation(
                model_id=model.pk,
                model_type=model.model_type,
                machine_id=model.machine_id,
                evaluation_start=end - timedelta(days=len(values) - day),
                evaluation_end=end - timedelta(days=len(values) - day - 1),
                metrics=value,
            )
            for day, value in enumerate(values)
        ],
        by="a",
    )


def test_trend_of_growing_losses_is_degrading_per_day(model: ModelVersion) -> None:
    values = [{"mae": level + 0.05 * day} for day, level in enumerate(noisy(1, 40))]
    record_days(model, values)
    report = trend(machine=model.machine, model_type="baseline", days=60)
    assert (report.trend_direction, report.metric) == ("degrading", "mae")
    assert report.degradation_rate == pytest.approx(0.05, rel=0.2)
    assert report.rate_low is not None
    assert report.rate_high is not None
    assert report.rate_low < 0.05 < report.rate_high
    assert [row["mae"] for row in report.rows] == [value["mae"] for value in values]
    assert (report.machine_name, report.n_evaluations) == (model.machine.name, 40)


def test_trend_of_growing_r_squared_is_improving(model: ModelVersion) -> None:
    record_days(model, [{"r_squared": 0.5 + 0.01 * day} for day in range(30)])
    report = trend(machine=model.machine, model_type="baseline", days=60)
    assert report.trend_direction == "improving"
    assert report.degradation_rate is not None
    assert report.degradation_rate < 0


def test_trend_covers_the_asked_days_only(model: ModelVersion) -> None:
    record_days(model, [{"mae": 1.0}] * 20)
    assert len(trend(machine=model.machine, model_type="baseline", days=7).rows) == 7


def test_trend_never_mixes_versions(model: ModelVersion) -> None:
    challenger = ModelVersionFactory.create(machine=model.machine)
    record_days(model, [{"mae": level} for level in noisy(1, 30)])
    record_days(challenger, [{"mae": 9.0 + 0.5 * day} for day in range(30)])
    report = trend(machine=model.machine, model_type="baseline")
    assert len(report.rows) == 59 or len(report.rows) == 60
    assert (report.judged_version, report.trend_direction) == (1, "stable")


def test_trend_of_few_evaluations_says_so(model: ModelVersion) -> None:
    record_days(model, [{"mae": 1.0}] * 3)
    report = trend(machine=model.machine, model_type="baseline")
    assert (report.trend_direction, report.insufficient_data) == ("stable", True)


def test_trend_of_a_metric_without_direction_has_rows_but_no_rate(model: ModelVersion) -> None:
    record_days(model, [{"oddity": float(day)} for day in range(20)])
    report = trend(machine=model.machine, model_type="baseline")
    assert (len(report.rows), report.metric, report.degradation_rate) == (20, None, None)
    policies.set_policy(model_type="baseline", values={"directions": {"oddity": "lower"}}, by="a")
    report = trend(machine=model.machine, model_type="baseline")
    assert (report.metric, report.trend_direction) == ("oddity", "degrading")


def test_trend_without_evaluations_is_not_found(model: ModelVersion) -> None:
    with pytest.raises(NotFoundError, match="No metrics found for this period"):
        trend(machine=model.machine, model_type="baseline")


@pytest.mark.parametrize("days", [0, -1, 3661, 10**9])
def test_trend_over_a_period_out_of_range_is_refused(model: ModelVersion, days: int) -> None:
    with pytest.raises(InvalidError):
        trend(machine=model.machine, model_type="baseline", days=days)


def test_trend_of_a_metric_nobody_reported_names_those_there_are(model: ModelVersion) -> None:
    record_days(model, [{"mae": 1.0}])
    with pytest.raises(InvalidError, match="one of mae"):
        trend(machine=model.machine, model_type="baseline", metric="rmse")


# --- the outlook ----------------------------------------------------------------------------


def test_outlook_says_when_the_limit_is_crossed(model: ModelVersion) -> None:
    values = [{"mae": level + 0.05 * day} for day, level in enumerate(noisy(1, 40))]
    record_days(model, values)
    policies.set_policy(model_type="baseline", values={"limit_value": 4.0}, by="a")
    told = trend(machine=model.machine, model_type="baseline", days=60).outlook
    assert (told.status, told.limit, told.confidence) == ("crosses", 4.0, 0.95)
    assert told.earliest is not None
    assert told.latest is not None
    assert told.crosses_at is not None
    assert told.earliest < told.crosses_at < told.latest
    ahead = (told.crosses_at - timezone.now()) / timedelta(days=1)
    assert ahead == pytest.approx((4.0 - 1.0) / 0.05 - 39, abs=5)


def test_outlook_of_a_bias_has_a_limit_on_both_sides(model: ModelVersion) -> None:
    values = [{"nmbe": 1 - level - 0.5 * day} for day, level in enumerate(noisy(1, 40))]
    record_days(model, values)
    policies.set_policy(model_type="baseline", values={"limit_value": 30.0}, by="a")
    told = trend(machine=model.machine, model_type="baseline", days=60).outlook
    assert told.status == "crosses"
    assert told.crosses_at is not None
    ahead = (told.crosses_at - timezone.now()) / timedelta(days=1)
    assert ahead == pytest.approx(30 / 0.5 - 39, abs=5)


def test_outlook_knows_the_direction(model: ModelVersion) -> None:
    record_days(model, [{"r_squared": 0.5 + 0.01 * day} for day in range(30)])
    policies.set_policy(model_type="baseline", values={"limit_value": 0.4}, by="a")
    told = trend(machine=model.machine, model_type="baseline", days=60).outlook
    assert (told.status, told.crosses_at, told.latest) == ("not_within_a_year", None, None)
    policies.set_policy(model_type="baseline", values={"limit_value": 0.95}, by="a")
    assert trend(machine=model.machine, model_type="baseline").outlook.status == "crossed"


def test_outlook_is_of_the_metric_that_has_the_limit(model: ModelVersion) -> None:
    record_days(model, [{"mae": 1.0 + 0.1 * day, "mape": 5.0 + day} for day in range(30)])
    assert trend(machine=model.machine, model_type="baseline").outlook.status == "no_limit"
    policies.set_policy(model_type="baseline", values={"limit_value": 5.0}, by="a")
    told = trend(machine=model.machine, model_type="baseline").outlook
    assert (told.status, told.limit) == ("crosses", 5.0)
    other = trend(machine=model.machine, model_type="baseline", metric="mape").outlook
    assert (other.status, other.limit) == ("no_limit", None)


def test_outlook_of_few_evaluations_says_so(model: ModelVersion) -> None:
    record_days(model, [{"mae": 1.0}] * 9)
    policies.set_policy(model_type="baseline", values={"limit_value": 5.0}, by="a")
    told = trend(machine=model.machine, model_type="baseline").outlook
    assert (told.status, told.limit) == ("insufficient_data", 5.0)


def test_a_crossing_that_stale_evaluations_foretold_is_overdue(model: ModelVersion) -> None:
    policies.set_policy(model_type="baseline", values={"limit_value": 3.5}, by="a")
    values = [level + 0.05 * day for day, level in enumerate(noisy(1, 40))]
    record_days(model, [{"mae": value} for value in values])
    fresh = trend(machine=model.machine, model_type="baseline", days=120).outlook
    shift = timedelta(days=40)
    ModelPerformanceMetric.objects.update(
        evaluation_start=F("evaluation_start") - shift,
        evaluation_end=F("evaluation_end") - shift,
        evaluation_date=F("evaluation_date") - shift,
    )
    stale = trend(machine=model.machine, model_type="baseline", days=120).outlook
    assert (fresh.status, stale.status) == ("crosses", "overdue")
    assert stale.crosses_at is not None
    assert stale.crosses_at < timezone.now()
