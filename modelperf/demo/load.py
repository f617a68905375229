"""Load the demo: train, evaluate, train again and compare, through the services as anyone would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from modelperf.demo import forecasts, login
from modelperf.demo.evaluation import evaluate, evaluated_days, shown_days
from modelperf.demo.meters import COMPARED, METERS, MODEL_TYPE, REPLAYED, Meter
from modelperf.demo.readings import Day, midnight
from modelperf.models import Machine, ModelVersion, Policy
from modelperf.services import ab_tests, metrics, policies, registry, training

BY = "demo"
# Bias is judged from 5 % on: what ASHRAE Guideline 14 tolerates in a calibrated model's NMBE.
POLICY = {
    "primary_metric": "nmbe",
    "directions": {"nmbe": "target_zero", "cv_rmse": "loss"},
    "min_effect": 5.0,
    "training_source": {"kind": "demo"},  # each machine's own meter of the data file
    "trainer": {"kind": "energy_baseline"},
}
# Of the replayed meter alone: a change that is found is trained on, tested and settled by itself.
# The replay plays a day in seconds, so that a minute of it is a time to see whether a try helped.
AUTOMATIC = {
    "retrain_automatically": True,
    "train_since_change": True,
    "after_training": "test",
    "retrain_cooldown_seconds": 60,
}
TEST_GOES_ON = timedelta(weeks=4)
_LOCK = 0x6D70_64656D6F

Step = Callable[[str], None]


class DemoError(Exception):
    """The demo could not be loaded; the text says why."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a first load made: the login, where there was none, and by how much dates were moved."""

    login: login.Login | None
    shift_weeks: dict[str, int]


def n_steps() -> int:
    """Return how often a first load reports a step."""
    first = sum(1 + len(shown_days(meter)) for meter in METERS)
    second = sum(1 + len(_common_days(meter)) for meter in COMPARED)
    return first + second + sum(2 * len(forecasts.trainings(meter)) for meter in METERS)


def is_loaded() -> bool:
    """Whether this installation has the demo's machines."""
    return Machine.objects.filter(pk__in=[meter.machine_id for meter in METERS]).exists()


def load(*, step: Step, now: datetime | None = None) -> Loaded | None:
    """Load everything or nothing; None where the demo is there already.

    All versions of a type are registered before anything of it is recorded, since an alert's
    cut-off depends on how many series are judged.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if is_loaded():
            return None
        for model_type, values in (
            (MODEL_TYPE, POLICY),
            (forecasts.MODEL_TYPE, forecasts.POLICY),
        ):
            if not Policy.objects.filter(model_type=model_type).exists():
                policies.set_policy(model_type=model_type, values=values, by=BY)
        shifts = {meter.key: _shift_weeks(meter, now or timezone.now()) for meter in METERS}
        first = {meter: _first_version(meter, shifts[meter.key], step) for meter in METERS}
        for meter, model in first.items():
            _record(meter, model, shown_days(meter), step)
        for meter in COMPARED:
            second = _second_version(meter, first[meter], step)
            _record(meter, second, _common_days(meter), step)
            _compare(meter, first[meter], second)
        machine = first[REPLAYED].machine
        policies.set_policy(model_type=MODEL_TYPE, machine=machine, values=AUTOMATIC, by=BY)
        _forecast({meter: model.machine for meter, model in first.items()}, step)
        return Loaded(login=login.create(), shift_weeks=shifts)


def shift_of(machine: Machine) -> timedelta:
    """Return by how much a demo machine's dates are moved, fixed when it was loaded."""
    return timedelta(weeks=machine.metadata["demo"]["shift_weeks"])


def _shift_weeks(meter: Meter, now: datetime) -> int:
    """Return the whole weeks that bring the meter's last day closest to now without passing it."""
    return (now - evaluated_days(meter)[-1].end) // timedelta(weeks=1)


def _common_days(meter: Meter) -> list[Day]:
    return [day for day in shown_days(meter) if day.day >= meter.second_training[1]]


def _first_version(meter: Meter, shift_weeks: int, step: Step) -> ModelVersion:
    machine, _ = registry.create_machine(
        id=meter.machine_id,
        name=meter.name,
        type=meter.type,
        location=meter.location,
        data_interval_seconds=3600,
        metadata=meter.metadata(shift_weeks=shift_weeks),
        by=BY,
    )
    model = _train(meter, machine, meter.first_training, "The first year of readings is complete.")
    step(f"{meter.name}: trained")
    return registry.activate_model(model=model, by=BY)


def _second_version(meter: Meter, first: ModelVersion, step: Step) -> ModelVersion:
    reason = "Half a year of readings after the works." if meter.is_simulated else "A year passed."
    model = _train(meter, first.machine, meter.second_training, reason)
    step(f"{meter.name}: trained again")
    return model


def _train(meter: Meter, machine: Machine, days: tuple[date, date], reason: str) -> ModelVersion:
    shift = shift_of(machine)
    training.trigger(
        machine=machine,
        model_type=MODEL_TYPE,
        reason=reason,
        data_start=midnight(days[0], meter) + shift,
        data_end=midnight(days[1], meter) + shift,
        by=BY,
    )
    (run,) = training.run_pending(machine=machine, by=BY)
    if run.model is None:
        raise DemoError(f"{meter.name}: {run.error_message}")
    return run.model


def _record(meter: Meter, model: ModelVersion, days: Sequence[Day], step: Step) -> None:
    """Record day by day, so that every evaluation has the verdict of its own day."""
    shift = shift_of(model.machine)
    for day in days:
        metrics.record(evaluation=evaluate(model, day, shift=shift), by=BY)
        step(f"{meter.name}: version {model.model_version} evaluated")


def _compare(meter: Meter, first: ModelVersion, second: ModelVersion) -> None:
    shift = shift_of(first.machine)
    start = midnight(meter.second_training[1], meter) + shift
    end = evaluated_days(meter)[-1].end + shift + TEST_GOES_ON
    ab_tests.start(
        test_name=f"{meter.name}: is version 2 better?",
        machine=first.machine,
        model_type=MODEL_TYPE,
        model_a=first,
        model_b=second,
        test_start=start.astimezone(UTC),
        duration_hours=(end - start) // timedelta(hours=1),
        by=BY,
    )


def _forecast(machines: Mapping[Meter, Machine], step: Step) -> None:
    """Train and evaluate the day-ahead forecasts: weeks in batches, judged at once."""
    models = []
    for meter, machine in machines.items():
        for model in forecasts.train(machine, meter, shift=shift_of(machine), by=BY):
            step(f"{meter.name}: forecast trained")
            models.append((meter, model))
    for meter, model in models:
        weeks = list(forecasts.evaluations(meter, model, shift=shift_of(model.machine)))
        metrics.record_batch(evaluations=weeks, by=BY, judge=True)
        step(f"{meter.name}: forecast evaluated")
