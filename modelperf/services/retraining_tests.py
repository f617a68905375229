"""Tests that started by themselves: decided by their evidence, the winner promoted."""

from __future__ import annotations

from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import QuerySet

from modelperf.models import ABTest, Alert, ModelVersion
from modelperf.services import ab_tests
from modelperf.services.alerts_conditions import JUDGED_TYPES
from modelperf.services.alerts_following import SYSTEM
from modelperf.services.errors import ConflictError
from modelperf.services.training_after import ACTOR

log = structlog.get_logger(__name__)

_STATUSES = (ABTest.Status.RUNNING, ABTest.Status.COMPLETED)


def settle(*, now: datetime) -> list[ABTest]:
    """Decide the tests that have a winner or are over; one that cannot be stops no other."""
    decided = []
    for test in _undecided():
        try:
            if _settle(test, now):
                decided.append(test)
        except ConflictError:  # a person was first
            continue
        except Exception:  # whatever it is, the other tests shall go on
            log.exception("ab_test_not_decided", test_id=str(test.pk))
    return decided


def _undecided() -> QuerySet[ABTest]:
    found = ABTest.objects.filter(
        training_run__isnull=False, decision__isnull=True, test_status__in=_STATUSES
    )
    return found.select_related("machine", "model_a", "model_b").order_by("test_start", "id")


def _settle(test: ABTest, now: datetime) -> bool:
    found = ab_tests.results(test=test)
    is_over = found.test_status == ABTest.Status.COMPLETED
    if found.winner not in ("model_a", "model_b") and not is_over:
        return False
    with transaction.atomic():
        decision = _decision(test, found.winner)
        ab_tests.decide(test=test, decision=decision, notes=found.recommendation, by=ACTOR)
        if decision == ABTest.Decision.PROMOTE_B:
            _resolve(test, now)
    return True


def _decision(test: ABTest, winner: str | None) -> str:
    """Return what follows from a winner; who serves by now may be another than was tested."""
    if winner == "model_b":
        is_active = ModelVersion.objects.filter(pk=test.model_a_id, is_active=True).exists()
        decision = ABTest.Decision.PROMOTE_B if is_active else ABTest.Decision.MANUAL_REVIEW
    else:
        decision = ABTest.Decision.NO_WINNER
    return decision.value


def _resolve(test: ABTest, now: datetime) -> None:
    """Resolve what the series' earlier versions were alerted for: the new one is better."""
    of_series = Alert.objects.unresolved().filter(
        machine_id=test.machine_id, model_type=test.model_type, alert_type__in=JUDGED_TYPES
    )
    of_series.filter(model_version__lt=test.model_b_version).update(
        state=Alert.State.RESOLVED,
        is_resolved=True,
        resolved_at=now,
        resolved_by=SYSTEM,
        resolution_action="retrained_model",
        resolution_notes=f"Version {test.model_b_version} won the test “{test.test_name}”.",
    )
