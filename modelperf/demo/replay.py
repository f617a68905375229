"""Replay the days that the load held back: one by one, as if they happened now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from modelperf.demo.evaluation import evaluate, fair_versions, held_back_days, versions_of
from modelperf.demo.load import BY, DemoError, shift_of
from modelperf.demo.meters import METERS
from modelperf.models import Machine, ModelPerformanceMetric
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


def replay() -> Iterator[list[Replayed]]:
    """Record the next held-back day of each meter at every step, until none is left.

    Days that are recorded already are passed over, so that a replay goes on where one ended. A
    version is only judged on days after its training data.
    """
    meters = [meter for meter in METERS if meter.days_held_back]
    machines = {
        machine.pk: machine
        for machine in Machine.objects.filter(pk__in=[meter.machine_id for meter in meters])
    }
    if not machines:
        raise DemoError("The demo is not loaded: run `manage.py load_demo` first.")
    for meter in meters:
        machine = machines[meter.machine_id]
        shift = shift_of(machine)
        versions = versions_of(meter)
        for day in held_back_days(meter):
            recorded = _recorded_versions(machine, day.end + shift)
            step = []
            for model in fair_versions(versions, day, shift=shift):
                if model.pk in recorded:
                    continue
                evaluation = evaluate(model, day, shift=shift)
                step.append(
                    Replayed(
                        machine=machine.name,
                        model_version=model.model_version,
                        data_day=day.day.isoformat(),
                        evaluation_end=evaluation.evaluation_end,
                        nmbe=evaluation.metrics.get("nmbe"),
                        recorded=metrics.record(evaluation=evaluation, by=BY),
                    )
                )
            if step:
                yield step


def _recorded_versions(machine: Machine, evaluation_end: datetime) -> set[object]:
    return set(
        ModelPerformanceMetric.objects.filter(
            machine_id=machine.pk, evaluation_end=evaluation_end
        ).values_list("model_id", flat=True)
    )
