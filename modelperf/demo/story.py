"""What becomes of the replayed meter meanwhile: alerts, trainings, tests, versions; told once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from modelperf.demo.load import shift_of
from modelperf.demo.meters import MODEL_TYPE, REPLAYED
from modelperf.models import ABTest, Alert, Machine, ModelActivation, TrainingRun


class Event(NamedTuple):
    """Something that happened; what it happened to, and which stage of it, make it one."""

    at: datetime
    of: uuid.UUID
    stage: str
    text: str


class Story:
    """The events of a machine's baseline, read from the tables; each is told once."""

    def __init__(self, machine: Machine) -> None:
        self._machine_id = machine.pk
        self._shift = shift_of(machine)
        self._told = {(event.of, event.stage) for event in self._events()}

    def news(self) -> list[str]:
        """Return what happened since the story was last asked, in order."""
        new = sorted(event for event in self._events() if (event.of, event.stage) not in self._told)
        self._told.update((event.of, event.stage) for event in new)
        return [event.text for event in new]

    def _events(self) -> Iterator[Event]:
        machine_id = self._machine_id
        for alert in Alert.objects.filter(machine_id=machine_id, model_type=MODEL_TYPE):
            yield from _of_alert(alert)
        for run in TrainingRun.objects.of_series(machine_id=machine_id, model_type=MODEL_TYPE):
            yield from _of_run(run, self._shift)
        for test in ABTest.objects.of_series(machine_id=machine_id, model_type=MODEL_TYPE):
            yield from _of_test(test, self._shift)
        for one in ModelActivation.objects.of_series(machine_id=machine_id, model_type=MODEL_TYPE):
            yield _of_activation(one)


def _of_alert(alert: Alert) -> Iterator[Event]:
    yield Event(alert.created_at, alert.pk, "opened", f"Alert: {alert.alert_message}")
    if alert.resolved_at is not None:
        text = f"Alert resolved by {alert.resolved_by}: {alert.resolution_action}."
        yield Event(alert.resolved_at, alert.pk, "resolved", text)


def _of_run(run: TrainingRun, shift: timedelta) -> Iterator[Event]:
    text = f"Training asked for by {run.triggered_by} ({run.trigger_type}): {run.reason}"
    yield Event(run.created_at, run.pk, "asked", text)
    if run.training_end is None:
        return
    text = f"Training {run.training_status}. {run.error_message}".rstrip()
    if run.training_status == TrainingRun.Status.COMPLETED:
        first, end = _day(run.training_data_start, shift), _day(run.training_data_end, shift)
        text = (
            f"Version {run.model_version} is trained on {run.training_samples:,} readings"
            f" (data of {first} up to {end})."
        )
    yield Event(run.training_end, run.pk, "ended", text)


def _of_test(test: ABTest, shift: timedelta) -> Iterator[Event]:
    versions = f"version {test.model_a_version} against version {test.model_b_version}"
    text = f"A/B test of {versions} on the days from {_day(test.test_start, shift)} of the data on."
    yield Event(test.created_at, test.pk, "started", text)
    if test.decided_at is not None:
        text = f"A/B test of {versions}: {test.decided_by} decided {test.decision}."
        yield Event(test.decided_at, test.pk, "decided", text)


def _of_activation(activation: ModelActivation) -> Event:
    before = activation.previous_version
    text = f"Version {activation.model_version} {activation.get_kind_display().lower()}"
    text += f" in place of version {before}." if before else "."
    return Event(activation.activated_at, activation.pk, "activated", text)


def _day(moment: datetime, shift: timedelta) -> str:
    return f"{(moment - shift).astimezone(REPLAYED.zone):%Y-%m-%d}"
