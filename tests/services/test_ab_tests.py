"""A/B tests: started once, judged on common windows, ended and decided for good."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from modelperf.models import ABTest, ModelVersion
from modelperf.services import ab_tests, ab_tests_observations, metrics, policies, registry
from modelperf.services.errors import ConflictError, InvalidError
from tests.factories import ModelVersionFactory
from tests.services.builders import START, noisy, series

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def versions() -> tuple[ModelVersion, ModelVersion]:
    old = ModelVersionFactory.create(is_active=True)
    return old, ModelVersionFactory.create(machine=old.machine)


def begin(versions: tuple[ModelVersion, ModelVersion], **changes: Any) -> ab_tests.Started:
    old, new = versions
    given: dict[str, Any] = {
        "test_name": "v1 or v2",
        "machine": old.machine,
        "model_type": old.model_type,
        "model_a": old,
        "model_b": new,
        "duration_hours": 24 * 60,
        "test_start": START,
        "by": "user:ada",
    }
    return ab_tests.start(**given | changes)


def record(model: ModelVersion, values: list[float], metric: str = "mae") -> None:
    metrics.record_batch(evaluations=series(model, values, metric), by="a")


def test_start_stores_a_running_test(versions: tuple[ModelVersion, ModelVersion]) -> None:
    test = begin(versions).test
    assert (test.test_status, test.model_a_version, test.model_b_version) == ("running", 1, 2)
    assert test.test_end == START + timedelta(days=60)
    assert test.created_by == "user:ada"


def test_no_test_is_started_on_a_retired_machine(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    registry.retire_machine(machine=versions[0].machine, by="a")
    with pytest.raises(ConflictError, match="to service to start A/B tests"):
        begin(versions)
    assert not ABTest.objects.exists()
    registry.return_machine(machine=versions[0].machine, by="a")
    assert begin(versions).test.test_status == "running"


def test_start_says_how_many_windows_to_expect(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    assert "At least 8" in begin(versions, duration_hours=1).message
    ABTest.objects.all().delete()
    record(versions[0], [1.0] * 10)
    assert "About 60 windows" in begin(versions).message
    ABTest.objects.all().delete()
    short = begin(versions, duration_hours=48, test_start=None).message
    assert "too short" in short
    assert "192 hours" in short


def test_start_closes_an_expired_test_and_refuses_beside_a_running_one(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    expired = begin(versions).test
    now = timezone.now()
    second = begin(versions, test_start=now).test
    expired.refresh_from_db()
    assert expired.test_status == "completed"
    with pytest.raises(ConflictError, match="is running") as caught:
        begin(versions)
    assert caught.value.state == {"test_id": str(second.pk)}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"test_name": " "}, "test_name"),
        ({"test_name": "x" * 201}, "test_name"),
        ({"duration_hours": 0}, "duration_hours"),
        ({"duration_hours": 1e-10}, "duration_hours"),
        ({"duration_hours": 1e9}, "duration_hours"),
        ({"duration_hours": float("nan")}, "duration_hours"),
    ],
)
def test_start_of_a_wrong_test_names_the_value(
    versions: tuple[ModelVersion, ModelVersion], changes: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        begin(versions, **changes)
    assert caught.value.errors[0].loc == ("body", name)


def test_start_of_a_model_against_itself_or_a_stranger_is_refused(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    with pytest.raises(InvalidError, match="itself"):
        begin(versions, model_b=versions[0])
    with pytest.raises(InvalidError, match="another series"):
        begin(versions, model_b=ModelVersionFactory.create())


def test_results_declare_the_better_version(versions: tuple[ModelVersion, ModelVersion]) -> None:
    test = begin(versions, duration_hours=24 * 366).test
    record(versions[0], noisy(1, 30, level=1.5))
    record(versions[1], noisy(2, 30))
    found = ab_tests.results(test=test)
    assert (found.winner, found.metric) == ("model_b", "mae")
    assert found.confidence > 0.95
    assert found.effect == pytest.approx(0.5, rel=0.2)
    assert found.interval[0] is not None
    assert found.interval[0] > 0
    assert found.model_a_metrics["mae"] == pytest.approx(1.5, rel=0.1)
    assert found.model_b_metrics["r_squared"] is None
    assert len(found.evidence["over_time"]) == 30
    assert "Promote v2" in found.recommendation


def test_results_use_common_windows_only(versions: tuple[ModelVersion, ModelVersion]) -> None:
    test = begin(versions).test
    record(versions[0], noisy(1, 30))
    record(versions[1], noisy(2, 12))
    found = ab_tests.results(test=test)
    assert (found.evidence["design"], found.evidence["n"]) == ("paired", 12)


def test_results_on_different_windows_are_two_sample(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    test = begin(versions).test
    record(versions[0], noisy(1, 20, level=2.0))
    shifted = series(versions[1], noisy(2, 20))
    for one in shifted:
        one.evaluation_start += timedelta(hours=1)
        one.evaluation_end += timedelta(hours=1)
    metrics.record_batch(evaluations=shifted, by="a")
    found = ab_tests.results(test=test)
    assert (found.evidence["design"], found.winner) == ("two_sample", "model_b")


def moved(model: ModelVersion, values: list[float], hours: float) -> list[metrics.Evaluation]:
    sent = series(model, values)
    for one in sent:
        one.evaluation_start += timedelta(hours=hours)
        one.evaluation_end += timedelta(hours=hours)
    return sent


def test_a_stray_common_window_takes_no_winner_away(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    test = begin(versions).test
    record(versions[0], noisy(1, 40, level=1.5))
    metrics.record_batch(evaluations=moved(versions[1], noisy(2, 39), 0.25), by="a")
    before = ab_tests.results(test=test)
    metrics.record_batch(evaluations=series(versions[1], noisy(3, 40))[5:6], by="a")
    after = ab_tests.results(test=test)
    assert (before.evidence["design"], before.winner) == ("two_sample", "model_b")
    assert (after.evidence["design"], after.winner) == ("two_sample", "model_b")


def test_the_design_stays_once_it_is_settled(versions: tuple[ModelVersion, ModelVersion]) -> None:
    test = begin(versions).test
    record(versions[0], noisy(1, 50, level=1.5))
    metrics.record_batch(evaluations=moved(versions[1], noisy(2, 50), 0.25)[:16], by="a")
    decided = ab_tests.results(test=test)
    metrics.record_batch(evaluations=series(versions[1], noisy(4, 50, level=3.0))[17:], by="a")
    after = ab_tests.results(test=test)
    assert decided.evidence["decided_at"] is not None
    assert after.evidence["design"] == "two_sample"
    assert (after.winner, after.evidence["decided_at"]) == (
        decided.winner,
        decided.evidence["decided_at"],
    )


def test_arms_that_share_most_windows_are_paired(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    test = begin(versions).test
    record(versions[0], noisy(1, 30))
    stray = moved(versions[1], noisy(2, 30), 0.25)[:30:3]
    common = [one for day, one in enumerate(series(versions[1], noisy(2, 30))) if day % 3]
    metrics.record_batch(evaluations=[*stray, *common], by="a")
    found = ab_tests.results(test=test)
    assert (found.evidence["design"], found.evidence["n"]) == ("paired", 20)


def test_results_without_data_are_undecided_then_without_winner(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    running = begin(versions, test_start=timezone.now()).test
    assert ab_tests.results(test=running).winner is None
    assert "No data" in ab_tests.results(test=running).recommendation
    ABTest.objects.filter(pk=running.pk).update(
        test_start=START, test_end=START + timedelta(days=1)
    )
    running.refresh_from_db()
    assert ab_tests.results(test=running).winner == "no_winner"
    running.refresh_from_db()
    assert running.test_status == "running"


def test_results_of_a_metric_aiming_at_zero_compare_a_loss(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    policies.set_policy(model_type="baseline", values={"primary_metric": "nmbe"}, by="a")
    test = begin(versions).test
    for model in versions:
        sent = series(model, noisy(1, 12))
        for one in sent:
            one.metrics["nmbe"] = -3.0
        metrics.record_batch(evaluations=sent, by="a")
    assert ab_tests.results(test=test).metric == "mae"


@pytest.mark.parametrize(
    ("metric", "worse", "better"),
    [("r_squared", 0.2, 0.8), ("f1_score", 0.5, 0.9), ("nmbe", -9.0, 2.0)],
)
def test_results_orient_every_kind_of_metric(
    versions: tuple[ModelVersion, ModelVersion], metric: str, worse: float, better: float
) -> None:
    test = begin(versions).test
    wiggle = [0.01 * (day % 3) for day in range(20)]
    record(versions[0], [worse + step for step in wiggle], metric)
    record(versions[1], [better - step for step in wiggle], metric)
    assert ab_tests.results(test=test).winner == "model_b"


def test_complete_stores_the_result_for_good(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    test = begin(versions).test
    record(versions[0], noisy(1, 30, level=1.5))
    record(versions[1], noisy(2, 30))
    assert [one.pk for one in ab_tests.complete_expired(by="system").ended] == [test.pk]
    test.refresh_from_db()
    assert (test.test_status, test.winner_model_id) == ("completed", versions[1].pk)
    assert isinstance(test.winner_declared_at, datetime)
    stored = ab_tests.results(test=test)
    record(versions[1], [9.0] * 40)
    assert ab_tests.results(test=test) == stored
    with pytest.raises(ConflictError, match="completed"):
        ab_tests.complete(test=test, by="a")


def test_cancel_stops_a_running_test_once(versions: tuple[ModelVersion, ModelVersion]) -> None:
    test = begin(versions, test_start=timezone.now()).test
    assert ab_tests.cancel(test=test, by="a").test_status == "cancelled"
    test.refresh_from_db()
    assert ab_tests.results(test=test).winner is None
    assert "no result" in ab_tests.results(test=test).recommendation
    with pytest.raises(ConflictError, match="cancelled"):
        ab_tests.cancel(test=test, by="b")
    with pytest.raises(ConflictError, match="cancelled"):
        ab_tests.decide(test=test, decision="promote_b", by="b")


def test_decide_ends_the_test_and_activates_the_version(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    test = begin(versions, test_start=timezone.now()).test
    decided = ab_tests.decide(test=test, decision="promote_b", notes="better", by="user:ada")
    assert (decided.test_status, decided.decided_by) == ("completed", "user:ada")
    assert ModelVersion.objects.active().get() == versions[1]
    with pytest.raises(ConflictError, match="user:ada decided"):
        ab_tests.decide(test=test, decision="no_winner", by="user:bob")
    with pytest.raises(InvalidError):
        ab_tests.decide(test=test, decision="coin", by="user:bob")


def test_an_expired_test_is_over_whatever_is_stored(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    test = begin(versions).test
    assert ab_tests.status_now(test) == ab_tests.results(test=test).test_status == "completed"
    with pytest.raises(ConflictError, match="over"):
        ab_tests.cancel(test=test, by="a")
    with pytest.raises(InvalidError, match="future"):
        begin(versions, test_start=timezone.now() + timedelta(hours=1))


def test_a_test_waits_for_late_labels(versions: tuple[ModelVersion, ModelVersion]) -> None:
    week = int(timedelta(days=7).total_seconds())
    policies.set_policy(model_type="baseline", values={"label_delay_seconds": week}, by="a")
    begun = timezone.now() - timedelta(days=3)
    started = begin(versions, test_start=begun, duration_hours=24)
    closes = begun + timedelta(days=8)
    assert f"decided on {closes:%d %B %Y, %H:%M} UTC" in started.message
    assert ab_tests.complete_expired(by="a").ended == []
    assert ab_tests.results(test=started.test).test_status == "running"
    observed = [ab_tests_observations.Observation(unit="u", loss_a=1.0, loss_b=2.0)]
    ab_tests_observations.observe(test=started.test, observations=observed, by="a")
    with pytest.raises(ConflictError, match="is running"):
        begin(versions)
    ABTest.objects.update(test_start=begun - 5 * DAY, test_end=begun - 4 * DAY)
    assert [one.pk for one in ab_tests.complete_expired(by="a").ended] == [started.test.pk]


def test_late_labels_count_by_the_end_of_their_window(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    year = 366 * 86_400
    policies.set_policy(model_type="baseline", values={"label_delay_seconds": year}, by="a")
    test = begin(versions, duration_hours=24 * 20).test
    for model in versions:
        record(model, noisy(model.model_version, 30))
    found = ab_tests.results(test=test)
    assert (found.test_status, found.evidence["windows_a"]) == ("running", 20)


def test_the_expected_cadence_is_the_least_duration_of_a_new_series(
    versions: tuple[ModelVersion, ModelVersion],
) -> None:
    policies.set_policy(model_type="baseline", values={"expected_cadence_seconds": 3600}, by="a")
    started = begin(versions, duration_hours=24)
    assert started.test.counts_from == START + timedelta(hours=1)
    assert "About 24 windows" in started.message
