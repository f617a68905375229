"""Evaluations for the tests of recording: seeded series on daily windows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from modelperf.models import ModelVersion
from modelperf.services.metrics import Evaluation

START = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST = 200


def evaluation(model: ModelVersion, day: int = 0, **values: Any) -> Evaluation:
    """Return the evaluation of a day; `mae` is 1.0 unless metrics are given."""
    start = START + timedelta(days=day)
    given: dict[str, Any] = {
        "model_id": model.pk,
        "model_type": model.model_type,
        "machine_id": model.machine_id,
        "evaluation_start": start,
        "evaluation_end": start + timedelta(days=1),
        "metrics": {"mae": 1.0},
        "sample_count": 24,
    }
    return Evaluation(**given | values)


def series(model: ModelVersion, values: Sequence[float], metric: str = "mae") -> list[Evaluation]:
    """Return one evaluation a day with the values of one metric; long ones begin before `START`.

    What ends in the future is refused.
    """
    first = min(0, LONGEST - len(values))
    return [
        evaluation(model, day, metrics={metric: float(value)})
        for day, value in enumerate(values, start=first)
    ]


def noisy(seed: int, n: int, *, level: float = 1.0, fall_at: int | None = None) -> list[float]:
    """Return losses around a level; from `fall_at` on they are half as large again."""
    values = level * np.exp(np.random.default_rng(seed).normal(0, 0.1, n))
    if fall_at is not None:
        values[fall_at:] *= 1.5
    return [round(float(value), 6) for value in values]
