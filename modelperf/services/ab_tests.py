"""A/B tests: two versions of one series compared on the same windows until one has won."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from modelperf.models import ABTest, Machine, ModelPerformanceMetric, ModelVersion
from modelperf.services import metrics_store, registry
from modelperf.services.ab_tests_evidence import MIN_PAIRS, compare, evidence_document, winner
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.policies import policy_of

SHORTEST_TEST_HOURS: Final = 0.1
LONGEST_TEST_HOURS: Final = 24 * 366


@dataclass(frozen=True, slots=True)
class Started:
    """A test that runs, and what to expect of it."""

    test: ABTest
    message: str


@dataclass(frozen=True, slots=True)
class Results:
    """Where a test stands. Differences are loss_a - loss_b: positive, model B leads."""

    test_id: uuid.UUID
    test_name: str
    test_status: str
    model_a_version: int
    model_b_version: int
    winner: str | None
    confidence: float
    model_a_metrics: dict[str, Any]
    model_b_metrics: dict[str, Any]
    recommendation: str
    metric: str | None
    effect: float | None
    interval: tuple[float | None, float | None]
    evidence: dict[str, Any]
    sample_ratio: dict[str, Any]


def start(
    *,
    test_name: str,
    machine: Machine,
    model_type: str,
    model_a: ModelVersion,
    model_b: ModelVersion,
    duration_hours: float = 24,
    test_start: datetime | None = None,
    by: str,
) -> Started:
    """Start a test of two versions of one series; an expired one of the series is closed first.

    Raises
    ------
    InvalidError
        The versions are the same or of another series, or the duration is out of range.
    ConflictError
        A test of the series is running.
    """
    _refuse_arms(machine, model_type, model_a, model_b)
    if not test_name.strip() or len(test_name) > 200:
        raise InvalidError.field("test_name", "test_name is a text of up to 200 characters.")
    if not SHORTEST_TEST_HOURS <= duration_hours <= LONGEST_TEST_HOURS:
        msg = f"duration_hours lies between {SHORTEST_TEST_HOURS} and {LONGEST_TEST_HOURS}."
        raise InvalidError.field("duration_hours", msg)
    begin = test_start or timezone.now()
    if begin > timezone.now():
        raise InvalidError.field("test_start", "test_start must not lie in the future.")
    with transaction.atomic():
        metrics_store.lock_series([model_a.pk])
        of_series = ABTest.objects.of_series(machine_id=machine.pk, model_type=model_type)
        for expired in of_series.expired(timezone.now()):
            _complete(expired)
        running = of_series.running().first()
        if running is not None:
            raise ConflictError(
                f"The A/B test “{running.test_name}” of this series is running.",
                test_id=str(running.pk),
            )
        test = ABTest.objects.create(
            test_name=test_name,
            machine=machine,
            model_type=model_type,
            model_a=model_a,
            model_a_version=model_a.model_version,
            model_b=model_b,
            model_b_version=model_b.model_version,
            test_start=begin,
            test_end=begin + timedelta(hours=duration_hours),
            created_by=by,
        )
    return Started(test, _expectation(test))


def _refuse_arms(
    machine: Machine, model_type: str, model_a: ModelVersion, model_b: ModelVersion
) -> None:
    if model_a.pk == model_b.pk:
        raise InvalidError.field("model_b_id", "A model cannot be tested against itself.")
    for name, model in (("model_a_id", model_a), ("model_b_id", model_b)):
        if (model.machine_id, model.model_type) != (machine.pk, model_type):
            raise InvalidError.field(name, "The model belongs to another series.")


def _expectation(test: ABTest) -> str:
    """Say how many windows the test will see, and warn where no decision can come of them."""
    message = f"A/B test of v{test.model_a_version} and v{test.model_b_version} started."
    cadence = _cadence(test)
    if cadence is None or test.test_end is None:
        return f"{message} At least {MIN_PAIRS} common windows are needed for a decision."
    windows = int((test.test_end - test.test_start) / cadence)
    if windows >= MIN_PAIRS:
        return f"{message} About {windows} windows are expected until its end."
    hours = MIN_PAIRS * cadence / timedelta(hours=1)
    return (
        f"{message} It is too short for a decision: about {windows} windows are expected and at"
        f" least {MIN_PAIRS} are needed. Plan {hours:.0f} hours or more."
    )


def _cadence(test: ABTest) -> timedelta | None:
    """Return the median distance of the series' last windows, None where it has too few."""
    ends = sorted(
        set(
            ModelPerformanceMetric.objects.of_series(
                machine_id=test.machine_id, model_type=test.model_type
            )
            .order_by("-evaluation_end", "-evaluation_start")
            .values_list("evaluation_end", flat=True)[:60]
        )
    )
    steps = sorted(after - before for before, after in pairwise(ends))
    return steps[len(steps) // 2] if steps else None


def results(*, test: ABTest) -> Results:
    """Return where a test stands: as stored once it is over, computed and not stored before."""
    if test.test_status == ABTest.Status.COMPLETED and test.evidence:
        return _results(test, test.evidence, test.model_a_metrics, test.model_b_metrics, ended=True)
    comparison = compare(test, policy_of(machine_id=test.machine_id, model_type=test.model_type))
    return _results(
        test,
        evidence_document(comparison),
        comparison.model_a_metrics,
        comparison.model_b_metrics,
        ended=status_now(test) != ABTest.Status.RUNNING,
    )


def status_now(test: ABTest) -> str:
    """Return the status as it is now: a running test is over once its end has passed."""
    over = test.test_end is not None and test.test_end <= timezone.now()
    if test.test_status == ABTest.Status.RUNNING and over:
        return ABTest.Status.COMPLETED.value
    return test.test_status


def _results(
    test: ABTest,
    evidence: dict[str, Any],
    model_a_metrics: dict[str, Any],
    model_b_metrics: dict[str, Any],
    *,
    ended: bool,
) -> Results:
    cancelled = test.test_status == ABTest.Status.CANCELLED
    return Results(
        test_id=test.pk,
        test_name=test.test_name,
        test_status=status_now(test),
        model_a_version=test.model_a_version,
        model_b_version=test.model_b_version,
        winner=None if cancelled else winner(evidence["outcome"], ended=ended),
        confidence=evidence["confidence"],
        model_a_metrics=model_a_metrics,
        model_b_metrics=model_b_metrics,
        recommendation=_recommendation(test, evidence, ended=ended),
        metric=evidence["metric"],
        effect=evidence["mean_difference"],
        interval=(evidence["low"], evidence["high"]),
        evidence=evidence,
        sample_ratio=_sample_ratio(test, evidence),
    )


def _sample_ratio(test: ABTest, evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the windows of the arms. On common windows their ratio is one by construction."""
    return {
        "checked": False,
        "planned": [test.traffic_split_a, test.traffic_split_b],
        "windows": [evidence["windows_a"], evidence["windows_b"]],
        "reason": "Both arms are compared on the windows they share."
        if evidence["design"] == "paired"
        else "Windows are not traffic: their number says nothing about the split.",
    }


def _recommendation(test: ABTest, evidence: dict[str, Any], *, ended: bool) -> str:
    n, metric = evidence["n"], evidence["metric"]
    if test.test_status == ABTest.Status.CANCELLED:
        return f"The test was cancelled after {n} windows: it has no result."
    if evidence["outcome"] in ("model_a", "model_b"):
        better = "a" if evidence["outcome"] == "model_a" else "b"
        version = test.model_a_version if better == "a" else test.model_b_version
        return (
            f"Promote v{version}: its {metric} is better on {n} windows"
            f" ({_sureness(evidence['confidence'])})."
        )
    if evidence["outcome"] == "equivalent":
        return f"No winner: on {n} windows the versions differ by less than what matters."
    if n == 0:
        return "No data: neither version has evaluations on the windows of this test."
    if ended:
        return f"No winner: {n} windows were not enough to tell the versions apart."
    outlook = (
        f"about {evidence['needed']} more are likely needed."
        if evidence["needed"]
        else "no end is in sight at the present difference."
    )
    return f"Undecided after {n} windows: {outlook}"


def _sureness(confidence: float) -> str:
    """Say how sure it is, never rounded up to certainty."""
    return "confidence above 99.9 %" if confidence > 0.999 else f"confidence {confidence:.1%}"


def complete(*, test: ABTest, by: str) -> ABTest:
    """End a running test and store its evidence and winner for good.

    Raises
    ------
    ConflictError
        The test is not running.
    """
    with transaction.atomic():
        return _complete(_running(test))


def complete_expired(*, by: str) -> int:
    """End every running test whose end has passed; return how many there were."""
    ended = 0
    for test in ABTest.objects.expired(timezone.now()):
        try:
            complete(test=test, by=by)
        except ConflictError:
            continue
        ended += 1
    return ended


def _locked(test: ABTest) -> ABTest:
    """Lock the series, as starting a test does, and return the test as it is now."""
    metrics_store.lock_series([test.model_a_id])
    return ABTest.objects.select_related("model_a", "model_b").get(pk=test.pk)


def _running(test: ABTest) -> ABTest:
    locked = _locked(test)
    if locked.test_status != ABTest.Status.RUNNING:
        raise ConflictError(f"The test is {locked.test_status}.", test_status=locked.test_status)
    return locked


def _complete(test: ABTest) -> ABTest:
    comparison = compare(test, policy_of(machine_id=test.machine_id, model_type=test.model_type))
    outcome = comparison.evidence.outcome.value
    test.test_status = ABTest.Status.COMPLETED
    test.evidence = evidence_document(comparison)
    test.model_a_metrics = comparison.model_a_metrics
    test.model_b_metrics = comparison.model_b_metrics
    test.statistical_significance = comparison.evidence.confidence
    if outcome in ("model_a", "model_b"):
        test.winner_model_id = test.model_a_id if outcome == "model_a" else test.model_b_id
        test.winner_declared_at = timezone.now()
    test.save()
    return test


def cancel(*, test: ABTest, by: str) -> ABTest:
    """Stop a running test without a result."""
    with transaction.atomic():
        locked = _running(test)
        if status_now(locked) != ABTest.Status.RUNNING:
            raise ConflictError("The test is over: its result stands.", test_status="completed")
        locked.test_status = ABTest.Status.CANCELLED
        locked.metadata = {**locked.metadata, "cancelled_by": by}
        locked.save(update_fields=["test_status", "metadata"])
        return locked


def decide(*, test: ABTest, decision: str, notes: str = "", by: str) -> ABTest:
    """Decide a test once and for all; promoting a version activates it in the same transaction.

    Raises
    ------
    InvalidError
        The decision is not one there is.
    ConflictError
        The test was decided or cancelled before.
    """
    if decision not in ABTest.Decision.values:
        raise InvalidError.field(
            "decision", f"decision is one of {', '.join(ABTest.Decision.values)}."
        )
    with transaction.atomic():
        locked = _locked(test)
        if locked.decision is not None:
            raise ConflictError(
                f"{locked.decided_by} decided {locked.decision}.", decision=locked.decision
            )
        if locked.test_status == ABTest.Status.CANCELLED:
            raise ConflictError("The test is cancelled.", test_status=locked.test_status)
        if locked.test_status == ABTest.Status.RUNNING:
            _complete(locked)
        locked.decision, locked.decision_notes = decision, notes
        locked.decided_by, locked.decided_at = by, timezone.now()
        locked.save()
        promoted = {"promote_a": locked.model_a, "promote_b": locked.model_b}.get(decision)
        if promoted is not None:
            registry.activate_model(model=promoted, by=by)
    return locked
