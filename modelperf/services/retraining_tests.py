"""Tests that started by themselves: decided by their evidence, the winner promoted."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from modelperf.models import ABTest, Alert, ModelVersion
from modelperf.services import ab_tests, metrics_store
from modelperf.services.alerts_conditions import JUDGED_TYPES
from modelperf.services.alerts_following import SYSTEM
from modelperf.services.errors import ConflictError
from modelperf.services.training_after import ACTOR

log = structlog.get_logger(__name__)

_STATUSES = (ABTest.Status.RUNNING, ABTest.Status.COMPLETED)


class Settled(NamedTuple):
    """The tests that were decided, and the alerts that their winners have ended."""

    decided: list[ABTest]
    resolved: list[Alert]


def settle(*, now: datetime) -> Settled:
    """Decide the tests that have a winner or are over, and end what their winners were trained for.

    A test that cannot be decided stops no other. What a person has decided counts the same.
    """
    settled = Settled([], [])
    for test in _undecided():
        try:
            if _decide(test):
                settled.decided.append(test)
        except ConflictError:  # a person was first
            continue
        except Exception:  # whatever it is, the other tests shall go on
            log.exception("ab_test_not_decided", test_id=str(test.pk))
    for test in _won():
        settled.resolved.extend(_resolve(test, now))
    return settled


def _undecided() -> QuerySet[ABTest]:
    """Return the tests to be decided; one of a retired machine waits for its return."""
    found = ABTest.objects.filter(
        training_run__isnull=False,
        decision__isnull=True,
        test_status__in=_STATUSES,
        machine__is_active=True,
    )
    return found.select_related("machine", "model_a", "model_b").order_by("test_start", "id")


def _decide(test: ABTest) -> bool:
    found = ab_tests.results(test=test)
    if found.winner is None and found.test_status != ABTest.Status.COMPLETED:
        return False
    with transaction.atomic():
        # From here on nobody activates another version of the series.
        metrics_store.lock_series([test.model_a_id])
        decision = _decision(test, found.winner)
        ab_tests.decide(test=test, decision=decision, notes=found.recommendation, by=ACTOR)
    return True


def _decision(test: ABTest, winner: str | None) -> str:
    """Return what follows from a winner; who serves by now may be another than was tested."""
    if winner not in ("model_a", "model_b"):
        return ABTest.Decision.NO_WINNER.value
    won = test.model_a_id if winner == "model_a" else test.model_b_id
    replaced = won if winner == "model_a" else test.model_a_id
    is_foreseen = ModelVersion.objects.filter(pk__in=[won, replaced], is_active=True).exists()
    if not is_foreseen:
        return ABTest.Decision.MANUAL_REVIEW.value
    promoted = {"model_a": ABTest.Decision.PROMOTE_A, "model_b": ABTest.Decision.PROMOTE_B}
    return promoted[winner].value


def _won() -> QuerySet[ABTest]:
    """Return the tests whose new version has won and serves, with alerts of older ones still."""
    alerts = _ended_by(OuterRef("machine_id"), OuterRef("model_type"), OuterRef("model_b_version"))
    return ABTest.objects.filter(
        Exists(alerts.filter(alert_timestamp__lte=OuterRef("decided_at"))),
        training_run__isnull=False,
        decision=ABTest.Decision.PROMOTE_B,
        winner_model=F("model_b"),
        model_b__is_active=True,
    )


def _ended_by(machine: Any, model_type: Any, version: Any) -> QuerySet[Alert]:
    """Return what earlier versions of a series are alerted for."""
    return Alert.objects.unresolved().filter(
        machine_id=machine,
        model_type=model_type,
        model_version__lt=version,
        alert_type__in=JUDGED_TYPES,
    )


def _resolve(test: ABTest, now: datetime) -> list[Alert]:
    """Resolve what the series' earlier versions were alerted for: the new one is better."""
    ended = _ended_by(test.machine_id, test.model_type, test.model_b_version)
    alerts = list(ended.filter(alert_timestamp__lte=test.decided_at))
    Alert.objects.unresolved().filter(
        pk__in=[one.pk for one in alerts], model_version__lt=test.model_b_version
    ).update(
        state=Alert.State.RESOLVED,
        is_resolved=True,
        resolved_at=now,
        resolved_by=SYSTEM,
        resolution_action="retrained_model",
        resolution_notes=f"Version {test.model_b_version} won the test “{test.test_name}”.",
    )
    return alerts
