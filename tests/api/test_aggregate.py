"""Metrics per hour, day, week and month: what PostgreSQL computes is recomputed by numpy."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from rest_framework.test import APIClient

from modelperf.models import ModelPerformanceMetric, ModelVersion
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem, recorded, series_of

pytestmark = pytest.mark.django_db
ADDRESS = f"{ROOT}/metrics/aggregate"
START = datetime(2024, 3, 1, tzinfo=UTC)
PERIOD = {"start": "2024-01-01T00:00:00Z", "end": "2024-07-01T00:00:00Z"}
NAMES = ["rmse", "own", "5", "a__b", "metrics__own"]  # as the tables may hold them


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


def evaluation(model: ModelVersion, end: datetime, value: float, **fields: Any) -> None:
    """Store an evaluation of six hours under every name."""
    factories.ModelPerformanceMetricFactory(
        model=model,
        evaluation_start=end - timedelta(hours=6),
        evaluation_end=end,
        metrics=dict.fromkeys(NAMES, value),
        **fields,
    )


@pytest.fixture
def evaluations(model: ModelVersion) -> list[ModelPerformanceMetric]:
    """Return 150 evaluations of two versions in spring, some without samples, some on the hour."""
    rng = np.random.default_rng(7)
    other = factories.ModelVersionFactory(machine=model.machine)
    for number in range(150):
        end = START + timedelta(hours=int(rng.integers(0, 1500)), minutes=30 * (number % 2))
        evaluation(
            [model, other][number % 5 == 0],
            end + timedelta(seconds=number),
            float(rng.normal(1e6, 1.0)),
            sample_count=int(rng.integers(0, 4) * rng.integers(1, 1000)),
        )
    evaluation(factories.ModelVersionFactory(), START, 7.0)  # another machine
    return list(ModelPerformanceMetric.objects.filter(machine=model.machine))


def bucket_of(end: datetime, bucket: str, zone: ZoneInfo) -> datetime:
    """Return where the bucket of a window's last instant begins, by the calendar."""
    last = (end - timedelta(microseconds=1)).astimezone(zone)
    if bucket == "hour":
        return last.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = last.replace(hour=0, minute=0, second=0, microsecond=0)
    if bucket == "week":
        day -= timedelta(days=day.weekday())
    return (day.replace(day=1) if bucket == "month" else day).astimezone(UTC)


def recomputed(
    rows: Iterable[ModelPerformanceMetric], bucket: str, zone: str
) -> list[dict[str, Any]]:
    groups: dict[datetime, list[ModelPerformanceMetric]] = defaultdict(list)
    for row in rows:
        groups[bucket_of(row.evaluation_end, bucket, ZoneInfo(zone))].append(row)
    return [summed_up(start, groups[start]) for start in sorted(groups)]


def summed_up(start: datetime, rows: list[ModelPerformanceMetric]) -> dict[str, Any]:
    values = np.array([row.metrics["own"] for row in rows])
    counts = np.array([row.sample_count for row in rows], float)
    usual = counts[counts > 0].mean() if (counts > 0).any() else 1.0
    return {
        "bucket_start": f"{start:%FT%TZ}",
        "mean": pytest.approx(np.average(values, weights=np.where(counts > 0, counts, usual))),
        "sd": pytest.approx(values.std(ddof=1), rel=1e-6) if len(values) > 1 else None,
        "min": values.min(),
        "max": values.max(),
        "evaluations": len(values),
        "samples": counts.sum(),
        "models": len({row.model_id for row in rows}),
    }


@pytest.mark.parametrize(
    ("bucket", "zone"),
    [
        *product(("hour", "day", "week", "month"), ("UTC", "Europe/London")),
        *product(("day", "week", "month"), ("Asia/Kolkata", "America/Los_Angeles")),
    ],
)
def test_buckets_are_what_numpy_makes_of_the_rows(
    api: APIClient,
    model: ModelVersion,
    evaluations: list[ModelPerformanceMetric],
    bucket: str,
    zone: str,
) -> None:
    query = series_of(model) | PERIOD | {"metric": "own", "bucket": bucket, "time_zone": zone}
    answer = api.get(ADDRESS, query).json()
    assert answer["buckets"] == recomputed(evaluations, bucket, zone)
    assert (answer["bucket"], answer["time_zone"], answer["metric"]) == (bucket, zone, "own")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_metric_is_a_name(
    api: APIClient, model: ModelVersion, evaluations: list[ModelPerformanceMetric], name: str
) -> None:
    query = series_of(model) | PERIOD | {"metric": name, "bucket": "month"}
    assert api.get(ADDRESS, query).json()["buckets"] == recomputed(evaluations, "month", "UTC")


def test_hours_begin_where_they_do_in_the_time_zone(api: APIClient, model: ModelVersion) -> None:
    evaluation(model, START + timedelta(minutes=40), 1.0)
    query = series_of(model) | PERIOD | {"metric": "own", "bucket": "hour"}
    (bucket,) = api.get(ADDRESS, query | {"time_zone": "Asia/Kolkata"}).json()["buckets"]
    assert bucket["bucket_start"] == "2024-03-01T00:30:00Z"


def test_the_two_hours_of_a_night_on_which_clocks_go_back_stay_apart(
    api: APIClient, model: ModelVersion
) -> None:
    for hour in (0, 1):  # both are 01:30 in London
        evaluation(model, datetime(2024, 10, 27, hour, 30, tzinfo=UTC), float(hour))
    query = series_of(model) | {"metric": "own", "bucket": "hour", "time_zone": "Europe/London"}
    query |= {"start": "2024-10-01T00:00:00Z", "end": "2024-11-01T00:00:00Z"}
    buckets = api.get(ADDRESS, query).json()["buckets"]
    assert [bucket["bucket_start"] for bucket in buckets] == [
        "2024-10-27T00:00:00Z",
        "2024-10-27T01:00:00Z",
    ]


def test_a_window_that_ends_at_midnight_belongs_to_the_day_before(
    api: APIClient, model: ModelVersion
) -> None:
    evaluation(model, START, 1.0)
    query = series_of(model) | {"metric": "own"}
    february = {"start": "2024-02-01T00:00:00Z", "end": "2024-03-01T00:00:00Z"}
    (bucket,) = api.get(ADDRESS, query | february).json()["buckets"]
    assert bucket["bucket_start"] == "2024-02-29T00:00:00Z"
    march = {"start": "2024-03-01T00:00:00Z", "end": "2024-04-01T00:00:00Z"}
    problem(api.get(ADDRESS, query | march), 404)


def test_values_at_the_ends_of_what_may_be_recorded_are_summed_up(
    api: APIClient, model: ModelVersion
) -> None:
    for hour, value in enumerate((1e100, -1e100, 1e100)):
        evaluation(model, START + timedelta(hours=hour + 1), value, sample_count=2**63 - 1)
    query = series_of(model) | PERIOD | {"metric": "own"}
    (bucket,) = api.get(ADDRESS, query).json()["buckets"]
    assert bucket["mean"] == pytest.approx(1e100 / 3)
    assert bucket["sd"] == pytest.approx(1e100 * np.std([1, -1, 1], ddof=1))
    assert bucket["samples"] == 2**63 - 1


def test_without_a_period_it_is_the_last_thirty_days(api: APIClient, model: ModelVersion) -> None:
    recorded(model, [1.0] * 40)
    query = series_of(model) | {"metric": "rmse"}
    assert sum(b["evaluations"] for b in api.get(ADDRESS, query).json()["buckets"]) == 30
    week = api.get(ADDRESS, query | {"days": 7}).json()
    assert sum(b["evaluations"] for b in week["buckets"]) == 7


def test_a_model_type_is_summed_up_over_machines_in_service(
    api: APIClient, client_with: Callable[..., APIClient], model: ModelVersion
) -> None:
    other = factories.ModelVersionFactory()
    retired = factories.ModelVersionFactory(machine__is_active=False)
    for one, value in ((model, 1.0), (other, 3.0), (retired, 99.0)):
        evaluation(one, START + timedelta(hours=1), value)
    evaluation(factories.ModelVersionFactory(model_type="other"), START + timedelta(hours=1), 99.0)
    query = PERIOD | {"model_type": "baseline", "metric": "own"}
    (bucket,) = api.get(ADDRESS, query).json()["buckets"]
    assert (bucket["mean"], bucket["evaluations"], bucket["models"]) == (2.0, 2, 2)
    limited = client_with("read", machines=[other.machine])
    (bucket,) = limited.get(ADDRESS, query).json()["buckets"]
    assert bucket["mean"] == 3.0
    problem(limited.get(ADDRESS, query | {"machine_id": model.machine_id}), 404)
    (bucket,) = api.get(ADDRESS, query | {"machine_id": retired.machine_id}).json()["buckets"]
    assert bucket["mean"] == 99.0


def test_one_version_can_be_summed_up_alone(
    api: APIClient, model: ModelVersion, evaluations: list[ModelPerformanceMetric]
) -> None:
    query = series_of(model) | PERIOD | {"metric": "own", "bucket": "month", "model_id": model.pk}
    own = [row for row in evaluations if row.model_id == model.pk]
    assert api.get(ADDRESS, query).json()["buckets"] == recomputed(own, "month", "UTC")


def test_csv_has_the_buckets(
    api: APIClient, model: ModelVersion, evaluations: list[ModelPerformanceMetric]
) -> None:
    query = series_of(model) | PERIOD | {"metric": "own", "bucket": "week"}
    listed = api.get(ADDRESS, query).json()["buckets"]
    response = api.get(ADDRESS, query | {"format": "csv"})
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    assert [row["bucket_start"] for row in rows] == [one["bucket_start"] for one in listed]
    assert [float(row["mean"]) for row in rows] == [one["mean"] for one in listed]


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"bucket": "minute"}, "bucket"),
        ({"bucket": "hour", "days": 3660}, "bucket"),
        ({"days": 0}, "days"),
        ({"days": 3661}, "days"),
        ({"days": 7, "start": "2024-01-01T00:00:00Z"}, "days"),
        ({"start": "2024-01-02T00:00:00Z", "end": "2024-01-01T00:00:00Z"}, "end"),
        ({"start": "2024-01-02"}, "start"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
        ({"time_zone": "Europe"}, "time_zone"),
        ({"time_zone": "UTC+3"}, "time_zone"),
        ({"metric": ""}, "metric"),
        ({"metric": "x\0"}, "metric"),
        ({"machine_id": "x"}, "machine_id"),
        ({"format": "xml"}, "format"),
        ({"limit": 3}, "limit"),
    ],
)
def test_nonsense_is_refused_with_its_place(
    api: APIClient, wrong: dict[str, Any], place: str
) -> None:
    query = {"model_type": "baseline", "metric": "own"} | wrong
    assert places(api.get(ADDRESS, query)) == [["query", place]]


@pytest.mark.parametrize(
    ("other", "detail"),
    [
        ({"metric": "unheard_of"}, "No metrics found for this period"),
        ({"model_type": "unheard-of"}, "No metrics found for this period"),
        ({"model_id": NOWHERE}, "No metrics found for this period"),
        ({"machine_id": NOWHERE}, "Machine not found"),
    ],
)
def test_what_is_not_there_is_not_found(
    api: APIClient, model: ModelVersion, other: dict[str, str], detail: str
) -> None:
    recorded(model, [1.0] * 3)
    query = {"model_type": "baseline", "metric": "rmse"} | other
    assert problem(api.get(ADDRESS, query), 404)["detail"] == detail


def test_it_takes_one_statement(
    api: APIClient, model: ModelVersion, django_assert_num_queries: Any
) -> None:
    recorded(model, [1.0] * 20)
    with django_assert_num_queries(2):  # the key, the buckets
        api.get(ADDRESS, {"model_type": "baseline", "metric": "rmse"})
