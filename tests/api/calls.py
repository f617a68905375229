"""What the tests of the API have in common: its root, evaluations, and how errors must look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from modelperf.models import ModelVersion
from modelperf.services import metrics
from modelperf.services.metrics import Evaluation

ROOT = "/api/v1/model-performance"
NOWHERE = "00000000-0000-0000-0000-000000000000"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
JSON = "application/json"


def problem(response: Any, status: int) -> dict[str, Any]:
    """Assert an error as every error must be, and return its document."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert isinstance(document["detail"], str)
    assert document["detail"]
    assert not {"SELECT", "INSERT", "psycopg", "Traceback"} & set(document["detail"].split())
    return document


def places(response: Any) -> list[list[str | int]]:
    """Return the places of a 422's errors."""
    errors = problem(response, 422)["errors"]
    assert all(error["msg"] and error["type"] for error in errors)
    return [error["loc"] for error in errors]


def series_of(model: ModelVersion) -> dict[str, str]:
    """Return the parameters that name a model's series."""
    return {"model_type": model.model_type, "machine_id": str(model.machine_id)}


def window(day: int = 0) -> dict[str, str]:
    """Return a window of a day, `day` days before today's noon."""
    end = NOON - timedelta(days=day)
    start = end - timedelta(days=1)
    return {"evaluation_start": f"{start:%FT%TZ}", "evaluation_end": f"{end:%FT%TZ}"}


def subject(model: ModelVersion) -> dict[str, str]:
    """Return the parameters that name a model version in its series."""
    return {"model_id": str(model.pk), **series_of(model)}


def evaluation(model: ModelVersion, day: int = 0, **metrics: float) -> dict[str, Any]:
    """Return the body of a recording."""
    return {**subject(model), **window(day), "metrics": metrics or {"r_squared": 0.9, "rmse": 1.5}}


def recorded(model: ModelVersion, values: list[float], metric: str = "rmse") -> None:
    """Record a value a day, the last one today, judged as a batch."""
    days = range(len(values) - 1, -1, -1)
    metrics.record_batch(
        evaluations=[
            Evaluation(
                model_id=model.pk,
                model_type=model.model_type,
                machine_id=model.machine_id,
                evaluation_start=NOON - timedelta(days=day + 1),
                evaluation_end=NOON - timedelta(days=day),
                metrics={metric: value},
                sample_count=24,
            )
            for day, value in zip(days, values, strict=True)
        ],
        by="key:tests",
        judge=True,
    )


def steps(*levels: tuple[int, float]) -> list[float]:
    """Return values that alternate a little around each level, so many at each."""
    return [
        level * (1 + 0.01 * ((7 * number) % 5 - 2))
        for count, level in levels
        for number in range(count)
    ]
