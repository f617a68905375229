"""Replay the days that the load held back: one by one, as if they happened now."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from modelperf.demo.evaluation import evaluate, held_back_days, versions_of
from modelperf.demo.load import BY, DemoError, shift_of
from modelperf.demo.meters import MODEL_TYPE, REPLAYED
from modelperf.demo.readings import Day
from modelperf.models import Machine, ModelPerformanceMetric, ModelVersion
from modelperf.services import metrics
from modelperf.services.metrics import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One evaluation of the replay, with its verdict."""

    machine: str
    model_version: int
    data_day: str
    evaluation_end: datetime
    nmbe: float | None
    recorded: Recorded


def replayed_machine() -> Machine:
    """Return the machine whose days are held back."""
    machine = Machine.objects.filter(pk=REPLAYED.machine_id).first()
    if machine is None:
        raise DemoError("The demo is not loaded: run `manage.py load_demo` first.")
    return machine


def replay() -> Iterator[list[Replayed]]:
    """Record the next held-back day at every step, until none is left.

    What is recorded already is passed over, so that a replay goes on where one ended. The versions
    are read anew for every day. One that was trained meanwhile is judged on the days since its
    training data as well, and none ever on days that it was trained on.
    """
    machine = replayed_machine()
    while step := _step(machine):
        yield step


def _step(machine: Machine) -> list[Replayed]:
    shift = shift_of(machine)
    recorded = _recorded(machine)
    ends = {end for _, end in recorded}
    versions = versions_of(REPLAYED)
    return [
        _record(machine, model, day)
        for day in _up_to_next(held_back_days(REPLAYED), {end - shift for end in ends})
        for model, trained_up_to in versions
        if trained_up_to <= day.start + shift and (model.pk, day.end + shift) not in recorded
    ]


def _recorded(machine: Machine) -> set[tuple[uuid.UUID, datetime]]:
    rows = ModelPerformanceMetric.objects.of_series(machine_id=machine.pk, model_type=MODEL_TYPE)
    return set(rows.values_list("model_id", "evaluation_end"))


def _up_to_next(days: tuple[Day, ...], seen: set[datetime]) -> tuple[Day, ...]:
    """Return the days up to the first one that no version is judged on, including it."""
    following = (place for place, day in enumerate(days, start=1) if day.end not in seen)
    return days[: next(following, len(days))]


def _record(machine: Machine, model: ModelVersion, day: Day) -> Replayed:
    evaluation = evaluate(model, day, shift=shift_of(machine))
    return Replayed(
        machine=machine.name,
        model_version=model.model_version,
        data_day=day.day.isoformat(),
        evaluation_end=evaluation.evaluation_end,
        nmbe=evaluation.metrics.get("nmbe"),
        recorded=metrics.record(evaluation=evaluation, by=BY),
    )
