"""Many callers at once, each in a thread with a connection of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest
from django.db import connections
from rest_framework.test import APIClient

from modelperf.models import (
    ABTest,
    Alert,
    LatestPerformance,
    ModelPerformanceMetric,
    ModelVersion,
    TrainingRun,
)
from modelperf.services import policies, retraining, training
from tests import factories
from tests.api.calls import ROOT, evaluation, recorded, series_of, steps
from tests.services import loop

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(callers: int, work: Callable[[APIClient, int], Any]) -> list[Any]:
    """Let so many callers begin together, and return what each was answered."""
    header = f"Api-Key {factories.api_key('admin')}"
    together = Barrier(callers)

    def call(number: int) -> Any:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=header)
        client.default_format = "json"
        try:
            together.wait()
            return work(client, number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(call, range(callers)))


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


def test_fifty_identical_records_are_one_row_and_one_alert_at_most(model: ModelVersion) -> None:
    # The one evaluation that completes a collapse: every caller sees the condition.
    recorded(model, steps((40, 1.0), (1, 9.0)))
    given = evaluation(model, -1, rmse=9.0)
    responses = at_once(40, lambda client, _: client.post(f"{ROOT}/metrics/record", given))
    responses += at_once(10, lambda client, _: client.post(f"{ROOT}/metrics/record", given))
    assert {response.status_code for response in responses} == {200}
    answers = [response.json() for response in responses]
    assert sorted(answer["status"] for answer in answers) == ["created"] + ["unchanged"] * 49
    assert len({answer["metric_id"] for answer in answers}) == 1
    assert {answer["drift_detected"] for answer in answers} == {True}
    assert ModelPerformanceMetric.objects.count() == 42
    assert Alert.objects.unresolved().count() == 1
    assert str(LatestPerformance.objects.get().id) == answers[0]["metric_id"]


def test_records_of_many_windows_at_once_are_all_kept(model: ModelVersion) -> None:
    def record(client: APIClient, day: int) -> int:
        return client.post(f"{ROOT}/metrics/record", evaluation(model, day)).status_code

    assert at_once(16, record) == [200] * 16
    assert ModelPerformanceMetric.objects.count() == 16
    assert LatestPerformance.objects.get().evaluation_end == max(
        ModelPerformanceMetric.objects.values_list("evaluation_end", flat=True)
    )


def test_batches_over_the_same_series_in_any_order_do_not_deadlock() -> None:
    models = [factories.ModelVersionFactory(is_active=True) for _ in range(4)]
    rows = [evaluation(model, day) for model in models for day in range(10)]

    def record(client: APIClient, number: int) -> int:
        mixed = rows[number:] + rows[:number]
        given = mixed[::-1] if number % 2 else mixed
        return client.post(f"{ROOT}/metrics/record/bulk", given).status_code

    assert at_once(8, record) == [200] * 8
    assert ModelPerformanceMetric.objects.count() == 40


def test_one_of_twenty_four_triggers_starts_a_training(model: ModelVersion) -> None:
    def trigger(client: APIClient, number: int) -> Any:
        given = series_of(model) | {"reason": f"caller {number}"}
        return client.post(f"{ROOT}/retrain/trigger", given)

    responses = at_once(24, trigger)
    assert {response.status_code for response in responses} == {200}
    answers = [response.json() for response in responses]
    (started,) = [answer for answer in answers if answer["triggered"]]
    busy = [answer for answer in answers if not answer["triggered"]]
    assert all("already in progress" in answer["reason"] for answer in busy)
    assert all(answer["training_job_id"] is None for answer in busy)
    run = TrainingRun.objects.get()
    assert (str(run.pk), run.reason) == (started["training_job_id"], started["reason"])


ROUNDS = 4
CALLERS = 34  # three calls each, or two: a hundred, on the connections that there are


@pytest.fixture
def degraded() -> ModelVersion:
    """Return a version whose alert asks for trainings that fail, again and again."""
    policies.set_policy(
        model_type="baseline",
        values={
            "retrain_automatically": True,
            "retrain_cooldown_seconds": 0,
            "retrain_tries": 20,
            "retrain_daily_cap": 1000,
            "trainer": {"kind": "tests-loop", "outcome": "fails"},
        },
        by=loop.BY,
    )
    alert = factories.AlertFactory()
    factories.CheckRunFactory()
    return alert.model


def asked(client: APIClient, number: int, model: ModelVersion) -> list[bool]:
    """Ask for trainings in the way that is this caller's, and return which were triggered."""
    if number % 17 == 0:  # as a worker does
        return [bool(retraining.follow(by=f"worker {number}").triggered) for _ in range(2)]
    if number % 4 == 1:  # as admin and commands do
        given = {"machine": model.machine, "model_type": model.model_type, "by": f"user:{number}"}
        return [training.trigger(reason="mine", **given).triggered for _ in range(3)]
    given = series_of(model) | {"reason": f"caller {number}"}
    responses = [client.post(f"{ROOT}/retrain/trigger", given) for _ in range(3)]
    assert {response.status_code for response in responses} == {200}
    return [response.json()["triggered"] for response in responses]


def unfinished() -> int:
    return TrainingRun.objects.unfinished().count()


def watched(model: ModelVersion, work: Callable[[], Any]) -> tuple[list[Any], list[int]]:
    """Let everybody ask while somebody counts the unfinished runs; return both."""
    is_over = Event()
    left = iter(range(CALLERS))
    done: list[int] = []

    def call(client: APIClient, number: int) -> Any:
        if number == CALLERS:
            counted = [unfinished()]
            while not is_over.is_set():
                counted.append(unfinished())
            return [*counted, unfinished()]
        if number == CALLERS + 1:
            return work()
        try:
            return asked(client, number, model)
        finally:
            done.append(next(left))
            if len(done) == CALLERS:
                is_over.set()

    *answers, counted, _ = at_once(CALLERS + 2, call)
    return answers, counted


def test_of_a_hundred_triggers_from_everywhere_one_is_a_run(degraded: ModelVersion) -> None:
    for _ in range(ROUNDS):
        answers, counted = watched(degraded, lambda: None)
        triggered = [one for answer in answers for one in answer]
        assert len(triggered) == 100
        assert triggered.count(True) == 1
        assert max(counted) == 1
        (run,) = training.run_pending(by="worker")
        assert run.training_status == "failed"
    assert TrainingRun.objects.count() == ROUNDS


def test_while_runs_end_others_begin_but_never_two_at_once(degraded: ModelVersion) -> None:
    def train() -> None:
        for _ in range(20):
            training.run_pending(by="worker")

    answers, counted = watched(degraded, train)
    triggered = [one for answer in answers for one in answer]
    assert triggered.count(True) == TrainingRun.objects.count() >= 1
    assert max(counted) <= 1


def test_one_of_twenty_starts_begins_a_test(model: ModelVersion) -> None:
    rival = factories.ModelVersionFactory(machine=model.machine)
    arms = {"model_a_id": str(model.pk), "model_b_id": str(rival.pk)}
    # An expired test is in the way of everybody, and must be closed once.
    expired = factories.ABTestFactory(
        machine=model.machine,
        model_a=model,
        model_b=rival,
        test_start=factories.START,
    )

    def start(client: APIClient, number: int) -> Any:
        given = series_of(model) | arms | {"test_name": f"caller {number}"}
        return client.post(f"{ROOT}/ab-test/start", given)

    responses = at_once(20, start)
    assert sorted(response.status_code for response in responses) == [200] + [409] * 19
    running = ABTest.objects.running().get()
    (started,) = [response.json() for response in responses if response.status_code == 200]
    assert str(running.pk) == started["test_id"]
    expired.refresh_from_db()
    assert expired.test_status == "completed"


def test_one_of_ten_registrations_under_one_id_creates_a_machine() -> None:
    given = {"id": "01890000-0000-7000-8000-000000000001", "name": "m", "type": "t"}
    responses = at_once(10, lambda client, _: client.post(f"{ROOT}/machines", given))
    assert sorted(response.status_code for response in responses) == [200] * 9 + [201]


def test_versions_registered_at_once_are_numbered_in_order(model: ModelVersion) -> None:
    def register(client: APIClient, _: int) -> Any:
        given = series_of(model) | {"is_active": True}
        return client.post(f"{ROOT}/models", given).json()["model_version"]

    assert sorted(at_once(8, register)) == list(range(2, 10))
    assert ModelVersion.objects.active().count() == 1


def test_one_of_eight_resolves_an_alert() -> None:
    alert = factories.AlertFactory()
    address = f"{ROOT}/alerts/{alert.pk}/resolve"
    responses = at_once(8, lambda client, _: client.post(address, {"action": "fixed"}))
    assert sorted(response.status_code for response in responses) == [200] + [409] * 7
