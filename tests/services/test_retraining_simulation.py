"""Weeks of automatic retraining, day by day: what helps comes to rest, so does what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import time_machine

from modelperf.models import ABTest, Alert, ModelActivation, ModelVersion, TrainingRun
from modelperf.services import ab_tests, checks, metrics
from tests.factories import ModelVersionFactory
from tests.services import loop
from tests.services.builders import START, evaluation, noisy, series
from tests.services.loop import BY, DAY, alert_of, follow

pytestmark = pytest.mark.django_db

SOUND_DAYS = 40
HOUR = timedelta(hours=1)
Level = Callable[[int, int], float]  # the loss of a version on a day


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START + SOUND_DAYS * DAY + HOUR) as clock:
        yield clock


class Series:
    """A series that has been sound for some weeks, and goes on as `level` says."""

    def __init__(self, clock: time_machine.Traveller, level: Level, *, seed: int) -> None:
        self.clock, self.level = clock, level
        self.rng = np.random.default_rng(seed)
        self.model: ModelVersion = ModelVersionFactory.create(is_active=True)
        self.day = SOUND_DAYS
        self.asked_on: list[int] = []
        self.seen: Counter[tuple[str, bool]] = Counter()
        self._before: set[tuple[Any, str, bool]] = set()
        loop.record(self.model, noisy(seed, SOUND_DAYS))

    def live(self, days: int) -> None:
        """Let days pass: windows are evaluated and checked, and a worker does what is due."""
        for _ in range(days):
            self.clock.move_to(START + (self.day + 1) * DAY + HOUR)
            self._evaluate()
            checks.run(by=BY)
            for _ in range(2):  # it looks each minute, also at what has been trained just now
                ab_tests.complete_expired(by=BY)
                self.asked_on += [self.day for _ in follow().triggered]
                loop.trained()
            self._look()
            self.day += 1

    def _evaluate(self) -> None:
        """Evaluate the version that serves, and one that is tested, on the window of the day."""
        tested = ABTest.objects.running().filter(machine=self.model.machine)
        arms = set(tested.values_list("model_b_id", flat=True))
        for one in ModelVersion.objects.filter(machine=self.model.machine):
            if one.is_active or one.pk in arms:
                loss = self.level(one.model_version, self.day) * np.exp(self.rng.normal(0, 0.1))
                sent = evaluation(one, self.day, metrics={"mae": round(float(loss), 6)})
                metrics.record(evaluation=sent, by=BY)

    def _look(self) -> None:
        """Count how often an alert of each type was seen to open, and to end."""
        found = Alert.objects.values_list("pk", "alert_type", "is_resolved")
        now = set(found)
        self.seen.update((kind, is_resolved) for _, kind, is_resolved in now - self._before)
        self._before = now

    @property
    def active(self) -> int:
        """The number of the version that serves."""
        return ModelVersion.objects.active().get(machine=self.model.machine).model_version


def always_bad(version: int, day: int) -> float:
    return 1.5


POLICIES = {
    "activate": {"after_training": "activate"},
    "test": {"after_training": "test", "test_duration_hours": 240},
    "fails": {"trainer": {"kind": "tests-loop", "outcome": "fails"}},
    "wait": {"after_training": "wait"},
}


@pytest.mark.parametrize(
    ("after", "seed"), [("activate", 1), ("activate", 2), ("test", 1), ("test", 2), ("fails", 1)]
)
def test_data_that_stay_bad_are_tried_three_times_and_then_reported_once(
    clock: time_machine.Traveller, after: str, seed: int
) -> None:
    loop.automatic(**POLICIES[after])
    world = Series(clock, always_bad, seed=seed)
    world.live(60)
    assert TrainingRun.objects.automatic().count() == 3
    assert TrainingRun.objects.count() == 3
    alert = Alert.objects.get(alert_type="retraining_not_helping")
    assert (alert.is_resolved, alert.occurrences) == (False, 1)
    assert not alert_of(world.model).is_resolved
    # Opened once, and never ended meanwhile.
    judged = world.seen["drift_detected", False] + world.seen["performance_degradation", False]
    assert judged == world.seen["retraining_not_helping", False] == 1
    assert not any(is_resolved for _, is_resolved in world.seen)
    if after == "test":
        decided = ABTest.objects.values_list("decision", flat=True)
        assert list(decided) == ["no_winner"] * 3
    assert world.active == (4 if after == "activate" else 1)


def test_a_limit_that_every_version_crosses_is_no_other_matter(
    clock: time_machine.Traveller,
) -> None:
    loop.automatic(after_training="activate", primary_metric="mae", limit_value=1.4)
    world = Series(clock, lambda version, day: 2.0, seed=4)
    world.live(60)
    assert TrainingRun.objects.count() == 3
    assert Alert.objects.filter(alert_type="retraining_not_helping").count() == 1
    assert world.seen["retraining_not_helping", False] == 1
    assert not world.seen["retraining_not_helping", True]


@pytest.mark.parametrize("seed", [1, 3])
def test_a_limit_that_is_crossed_now_and_then_is_no_new_matter_each_time(
    clock: time_machine.Traveller, seed: int
) -> None:
    limit = {"limit_value": 1.5, "clear_value": 1.5, "limit_clear_windows": 1}
    loop.automatic(**POLICIES["activate"], primary_metric="mae", **limit)
    world = Series(clock, always_bad, seed=seed)
    world.live(60)
    # Every version is within the limit now and then, and none is any better.
    assert sum(world.seen[kind, True] for kind in ("drift_detected", "performance_degradation"))
    assert TrainingRun.objects.count() == 3
    assert Alert.objects.filter(alert_type="retraining_not_helping").count() == 1
    assert not TrainingRun.objects.filter(metadata__has_key="condition_ended_at").exists()


def test_what_nobody_looks_at_is_trained_once(clock: time_machine.Traveller) -> None:
    loop.automatic(**POLICIES["wait"])
    world = Series(clock, always_bad, seed=1)
    world.live(60)
    assert TrainingRun.objects.count() == 1
    assert not Alert.objects.filter(alert_type="retraining_not_helping").exists()


def better_from_two(version: int, day: int) -> float:
    return 1.5 if version == 1 else 1.0


@pytest.mark.parametrize("after", ["activate", "test"])
def test_what_helps_is_done_once_and_ends_the_alert(
    clock: time_machine.Traveller, after: str
) -> None:
    loop.automatic(**POLICIES[after] | {"test_duration_hours": 672})
    world = Series(clock, better_from_two, seed=5)
    world.live(60)
    assert len(world.asked_on) == TrainingRun.objects.count() == 1
    alert = alert_of(world.model)
    assert (alert.is_resolved, alert.resolution_action) == (True, "retrained_model")
    assert Alert.objects.count() == 1
    assert sum(world.seen.values()) == 2
    assert world.active == 2
    kind = {"activate": "activated", "test": "promoted"}[after]
    assert [one.kind for one in ModelActivation.objects.all()] == [kind]


def gets_worse_again(version: int, day: int) -> float:
    """Return the loss of versions that are sound until the world changes a second time."""
    changes = sum(day >= at for at in (SOUND_DAYS, SOUND_DAYS + 45))
    return 1.0 if version > changes else 1.6


def test_each_change_that_training_helps_with_is_one_training(
    clock: time_machine.Traveller,
) -> None:
    loop.automatic(after_training="activate")
    world = Series(clock, gets_worse_again, seed=6)
    world.live(90)
    assert len(world.asked_on) == 2
    assert world.asked_on[0] < SOUND_DAYS + 45 <= world.asked_on[1]
    assert not Alert.objects.unresolved().exists()
    assert not Alert.objects.filter(alert_type="retraining_not_helping").exists()
    assert world.active == 3


# --- fleets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("judged", [False, True])
def test_300_machines_that_fall_together_train_nothing(
    clock: time_machine.Traveller, judged: bool
) -> None:
    loop.automatic(after_training="activate", retrain_daily_cap=1000)
    models = ModelVersionFactory.create_batch(300, is_active=True)
    for seed, model in enumerate(models):
        sent = series(model, noisy(seed, SOUND_DAYS, fall_at=SOUND_DAYS - 6))
        metrics.record_batch(evaluations=sent[:-1], by=BY)
        # What is judged as it comes has alerts of its own before any check looks.
        metrics.record_batch(evaluations=sent[-1:], by=BY, judge=judged)
    opened = Alert.objects.unresolved().filter(machine__isnull=False).count()
    assert opened > 150 if judged else opened == 0
    assert follow().triggered == []
    for _ in range(5):
        checks.run(by=BY)
        assert follow().triggered == []
        clock.shift(DAY)
    assert Alert.objects.unresolved().get().machine is None
    assert not TrainingRun.objects.exists()


def test_40_machines_that_fall_in_different_weeks_are_trained_ten_a_day(
    clock: time_machine.Traveller,
) -> None:
    loop.automatic(after_training="wait")
    n_days = 320
    models = ModelVersionFactory.create_batch(160, is_active=True)
    clock.move_to(START + n_days * DAY + HOUR)
    for at, model in enumerate(models):
        fall_at = 30 + 7 * at if at < 40 else None
        loop.record(model, noisy(at, n_days, fall_at=fall_at))
    checks.run(by=BY)
    fallen = {model.machine_id for model in models[:40]}
    alerted = set(Alert.objects.unresolved().values_list("machine_id", flat=True))
    assert len(alerted & fallen) >= 38
    asked: list[int] = []
    for _ in range(5 * 24):
        asked.append(len(follow().triggered))
        loop.trained()
        clock.shift(HOUR)
    assert max(sum(asked[hour : hour + 24]) for hour in range(len(asked))) == 10
    assert sum(asked) == len(alerted)
    assert sum(asked) == TrainingRun.objects.values("machine").distinct().count()
