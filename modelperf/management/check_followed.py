"""What `check_drift` tells of the retraining that followed a check."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final

from modelperf.management import training_runs
from modelperf.models import ABTest, Machine
from modelperf.services.retraining import Followed

MOST_WAITING: Final = 20  # lines of text; the JSON has them all


def document(followed: Followed) -> dict[str, Any]:
    """Return all that was done, and what waits and why."""
    return {
        "decided": [
            {
                "test_id": test.pk,
                "test_name": test.test_name,
                "machine_id": test.machine_id,
                "model_type": test.model_type,
                "model_a_version": test.model_a_version,
                "model_b_version": test.model_b_version,
                "decision": decision,
            }
            for test, decision in _decided(followed)
        ],
        "resolved": [
            {
                "alert_id": alert.pk,
                "machine_id": alert.machine_id,
                "model_type": alert.model_type,
                "message": alert.alert_message,
            }
            for alert in followed.resolved
        ],
        "triggered": [training_runs.document(run) for run in followed.triggered],
        "waiting": [
            {"machine_id": one.machine_id, "model_type": one.model_type, "reason": one.reason}
            for one in followed.waiting
        ],
    }


def lines(followed: Followed) -> Iterator[str]:
    """Yield a line on each thing that was done or waits; nothing where there is nothing."""
    for test, decision in _decided(followed):
        yield f"Test decided: {test.test_name} {decision.replace('_', ' ')}."
    for alert in followed.resolved:
        yield f"Resolved, a new version is better: {alert.alert_message}"
    for run in followed.triggered:
        yield f"Retraining asked for: {training_runs.series_name(run)} ({run.pk})."
    if followed.triggered:
        yield "A worker takes them; without one, manage.py run_training does."
    names = _names({one.machine_id for one in followed.waiting[:MOST_WAITING]})
    for one in followed.waiting[:MOST_WAITING]:
        yield f"Retraining waits: {names[one.machine_id]} · {one.model_type}: {one.reason}"
    more = len(followed.waiting) - MOST_WAITING
    if more > 0:
        yield f"Retraining waits: {more} more series."


def _decided(followed: Followed) -> Iterator[tuple[ABTest, str]]:
    """Yield the tests with what is stored of them by now."""
    stored = dict(
        ABTest.objects.filter(pk__in=[test.pk for test in followed.decided]).values_list(
            "pk", "decision"
        )
    )
    for test in followed.decided:
        yield test, stored.get(test.pk) or ""


def _names(machines: set[uuid.UUID]) -> dict[uuid.UUID, str]:
    return dict(Machine.objects.filter(pk__in=machines).values_list("pk", "name"))
