"""Which version serves, switched to and fro under traffic: everybody sees one, and what fits it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Event

import pytest
from django.db import connection
from rest_framework.test import APIClient

from modelperf.models import (
    Alert,
    LatestModelPerformance,
    LatestPerformance,
    ModelActivation,
    ModelVersion,
)
from modelperf.services import checks, metrics, registry
from modelperf.services.errors import ConflictError, InvalidError
from tests.factories import ModelVersionFactory, api_key
from tests.services.builders import START, evaluation, noisy, series
from tests.services.concurrency import at_once

ROOT = "/api/v1/model-performance"
SWITCHES = 40
Look = Callable[[], bool]


def versions(n: int) -> list[ModelVersion]:
    """Return so many versions of a series, each with evaluations of its own; the first serves."""
    first = ModelVersionFactory.create()
    others = [ModelVersionFactory.create(machine=first.machine) for _ in range(n - 1)]
    for seed, model in enumerate([first, *others]):
        metrics.record_batch(evaluations=series(model, noisy(seed, 10)), by="a")
    registry.activate_model(model=first, reason="the first", by="user:ada")
    return [first, *others]


# --- traffic ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_every_reader_sees_one_version_at_any_moment() -> None:
    models = versions(4)
    machine = models[0].machine
    client = APIClient(headers={"authorization": f"Api-Key {api_key('read')}"})
    is_over = Event()
    looks: list[Look] = [
        # The registry, by the ORM.
        lambda: ModelVersion.objects.active().filter(machine=machine).count() == 1,
        # The view, and the table behind it.
        lambda: LatestModelPerformance.objects.filter(machine_id=machine.pk).count() == 1,
        lambda: LatestPerformance.objects.filter(machine=machine).count() == 1,
        # Both in one statement: the latest evaluation is of the version that serves.
        lambda: fits(machine.pk),
        # The API.
        lambda: len(client.get(f"{ROOT}/metrics/latest").json()["results"]) == 1,
        lambda: len(client.get(f"{ROOT}/models", {"is_active": "true"}).json()["results"]) == 1,
    ]

    def work(number: int) -> list[bool]:
        if number == 0:
            try:
                return switch(models)
            finally:
                is_over.set()
        if number == 1:
            return traffic(models, is_over)
        seen = []
        while not is_over.is_set():
            seen.append(looks[number - 2]())
        return seen

    found = at_once(len(looks) + 2, work)
    assert [one for one in found if isinstance(one, Exception)] == []
    assert all(found), "each has looked"
    assert [seen.count(False) for seen in found] == [0] * len(found)
    assert ModelActivation.objects.count() == SWITCHES + 1


def switch(models: list[ModelVersion]) -> list[bool]:
    """Activate versions in turn, and roll every fourth back."""
    machine, done = models[0].machine, []
    for at in range(SWITCHES):
        if at % 4 == 3:
            registry.rollback(machine=machine, model_type="baseline", reason="no", by="user:ada")
        else:
            registry.activate_model(model=models[(at + 1) % len(models)], by="user:ada")
        done.append(True)
    return done


def traffic(models: list[ModelVersion], is_over: Event) -> list[bool]:
    """Record evaluations of all versions on the same windows, as long as there are switches."""
    recorded = []
    for day in range(10, 200):
        if is_over.is_set():
            break
        sent = [evaluation(model, day) for model in models]
        stored = metrics.record_batch(evaluations=sent, by="a", judge=True)
        recorded.append([one.status for one in stored] == ["created"] * 4)
    return recorded


def fits(machine_id: object) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*), bool_and(latest.model_id = v.id)
            FROM model_versions v LEFT JOIN model_latest_performance latest
                ON latest.machine_id = v.machine_id AND latest.model_type = v.model_type
            WHERE v.machine_id = %s AND v.is_active
            """,
            [machine_id],
        )
        return cursor.fetchone() == (1, True)


@pytest.mark.django_db(transaction=True)
def test_activations_and_rollbacks_at_once_are_one_history() -> None:
    models = versions(4)
    machine = models[0].machine

    def work(number: int) -> int:
        if number % 3 == 2:
            try:
                done = registry.rollback(
                    machine=machine, model_type="baseline", reason="no", by=f"user:{number}"
                )
            except ConflictError:  # nothing served before
                return 0
        else:
            done = registry.activate_model(model=models[number % 4], by=f"user:{number}")
        return done.model_version

    found = at_once(12, work)
    assert [one for one in found if isinstance(one, Exception)] == []
    told = list(ModelActivation.objects.order_by("activated_at", "id"))
    # Each begins where the one before ended, and the last one serves.
    assert [one.previous_id for one in told] == [None, *(one.model_id for one in told[:-1])]
    assert ModelVersion.objects.active().get().pk == told[-1].model_id
    assert LatestPerformance.objects.get().model_id == told[-1].model_id


# --- the way back -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_again_and_again_goes_further_back_until_nothing_served_before() -> None:
    models = versions(3)
    machine = models[0].machine
    registry.activate_model(model=models[1], by="user:ada")
    registry.activate_model(model=models[2], by="user:ada")

    def back(reason: str = "it errs") -> int:
        return registry.rollback(
            machine=machine, model_type="baseline", reason=reason, by="user:bob"
        ).model_version

    assert (back(), back()) == (2, 1)
    with pytest.raises(ConflictError, match="No version is known to have served before"):
        back()
    for empty in ("", " "):
        with pytest.raises(InvalidError, match="Say why"):
            back(empty)
    assert ModelVersion.objects.active().get() == models[0]
    kept = ModelActivation.objects.order_by("id").values_list(
        "kind", "model_version", "previous_version", "reason", "activated_by"
    )
    assert list(kept) == [
        ("activated", 1, None, "the first", "user:ada"),
        ("activated", 2, 1, "", "user:ada"),
        ("activated", 3, 2, "", "user:ada"),
        ("rolled_back", 2, 3, "it errs", "user:bob"),
        ("rolled_back", 1, 2, "it errs", "user:bob"),
    ]


@pytest.mark.django_db
def test_a_version_that_served_twice_is_gone_back_from_twice() -> None:
    one, two = versions(2)
    registry.activate_model(model=two, by="user:ada")
    registry.activate_model(model=one, by="user:ada")

    def back() -> int:
        return registry.rollback(
            machine=one.machine, model_type="baseline", reason="no", by="user:bob"
        ).model_version

    assert (back(), back()) == (2, 1)
    with pytest.raises(ConflictError, match="No version is known to have served before"):
        back()


@pytest.mark.django_db
def test_what_was_put_in_service_after_a_rollback_goes_back_to_what_it_replaced() -> None:
    one, two, three = versions(3)
    registry.activate_model(model=two, by="user:ada")
    back = {"machine": one.machine, "model_type": "baseline", "reason": "no", "by": "user:bob"}
    assert registry.rollback(**back) == one
    registry.activate_model(model=three, by="user:ada")
    assert registry.rollback(**back) == one
    with pytest.raises(ConflictError):
        registry.rollback(**back)


@pytest.mark.django_db
def test_latest_rows_and_alerts_follow_the_way_back() -> None:
    old, new = versions(2)
    sound, bad = noisy(1, 60), noisy(2, 60, fall_at=45)
    metrics.record_batch(evaluations=series(old, sound)[10:], by="a")
    metrics.record_batch(evaluations=series(new, bad)[10:], by="a")
    registry.activate_model(model=new, reason="newer", by="user:ada")
    checks.run(by="a")
    alert = Alert.objects.unresolved().get()
    assert alert.model_id == new.pk
    assert LatestPerformance.objects.get().model_id == new.pk
    registry.rollback(machine=old.machine, model_type="baseline", reason="worse", by="user:ada")
    latest = LatestPerformance.objects.get()
    assert (latest.model_id, latest.evaluation_start) == (old.pk, START + timedelta(days=59))
    assert not Alert.objects.unresolved().exists()
    registry.activate_model(model=new, reason="once more", by="user:ada")
    assert LatestPerformance.objects.get().model_id == new.pk
    assert Alert.objects.unresolved().get().pk == alert.pk
