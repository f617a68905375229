"""Series for the pages' tests, made as any client would make them: through the services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import time_machine
from django.utils import timezone

from modelperf.models import Machine, ModelVersion
from modelperf.services import checks, metrics, registry
from modelperf.services.metrics import Evaluation
from tests import factories
from tests.services import loop
from tests.services.builders import noisy as noisy_losses

BY = "user:tests"
DAY = timedelta(days=1)
MARKUP = "<script>alert(1)</script><b>bold</b>&amp;\"'"


def midnight() -> datetime:
    """Return the last midnight in UTC."""
    return timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def noisy(n: int, *, level: float = 0.9, fall: float = 0.0, at: int | None = None) -> list[float]:
    """Return R² values around a level that falls at a position."""
    values = level + np.random.default_rng(7).normal(0, 0.01, n)
    if at is not None:
        values[at:] -= fall
    return [float(value) for value in values]


def machine(name: str = "pump 1", **fields: Any) -> Machine:
    """Return a machine in service."""
    made, _ = registry.create_machine(name=name, by=BY, **{"type": "pump"} | fields)
    return made


def version(
    of: Machine, *, model_type: str = "baseline", active: bool = True, **fields: Any
) -> ModelVersion:
    """Return the next version of a series."""
    made, _ = registry.register_model(
        machine=of, model_type=model_type, is_active=active, by=BY, **fields
    )
    return made


def record(
    model: ModelVersion,
    values: Sequence[float],
    *,
    last_end: datetime | None = None,
    skip: Iterable[int] = (),
    metric: str = "r_squared",
    only: bool = False,
    **fields: Any,
) -> None:
    """Record daily evaluations that end at the last midnight, and judge them."""
    end = last_end or midnight()
    left_out = set(skip)
    rows = [
        Evaluation(
            model_id=model.pk,
            model_type=model.model_type,
            machine_id=model.machine_id,
            evaluation_start=end - (len(values) - i) * DAY,
            evaluation_end=end - (len(values) - i - 1) * DAY,
            metrics={metric: value} if only else {metric: value, "rmse": 1.25},
            **{"sample_count": 1440} | fields,
        )
        for i, value in enumerate(values)
        if i not in left_out
    ]
    metrics.record_batch(evaluations=rows, by=BY, judge=True)


def series(values: Sequence[float], *, name: str = "pump 1", **fields: Any) -> ModelVersion:
    """Return the active version of a new machine with evaluations."""
    model = version(machine(name))
    record(model, values, **fields)
    return model


def fail(machine: Machine, message: str) -> None:
    """Let a training of a machine have failed an hour after it was asked for."""
    begun = timezone.now() - DAY
    factories.TrainingRunFactory.create(
        machine=machine,
        failed=True,
        error_message=message,
        created_at=begun,
        training_start=begun,
        training_end=begun + DAY / 24,
    )


def looped(name: str = "pump 7") -> Machine:
    """Return a machine that fell, was trained anew by itself, tested, promoted: all is well again.

    The days pass on a clock of its own; the last of them is over.
    """
    start = loop.CHECKED
    with time_machine.travel(start) as clock:
        (model,) = loop.fallen(45, after_training="test", test_duration_hours=20 * 24)
        Machine.objects.filter(pk=model.machine_id).update(name=name)
        clock.shift(DAY / 24)
        checks.run(by="command:check_drift")
        loop.follow()
        clock.shift(40)
        loop.trained()
        clock.shift(20 * DAY)
        new = loop.newest(model)
        loop.record(model, noisy_losses(5, 20, level=1.5), first=loop.N)
        loop.record(new, noisy_losses(6, 20), first=loop.N)
        clock.shift(DAY)
        loop.follow()
    return model.machine
