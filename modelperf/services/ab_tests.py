"""A/B tests: two versions of one series compared on the same windows until one has won."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from modelperf.models import (
    ABTest,
    Machine,
    ModelActivation,
    ModelPerformanceMetric,
    ModelVersion,
    TrainingRun,
)
from modelperf.services import ab_tests_ended, metrics_store, registry
from modelperf.services.ab_tests_evidence import (
    MIN_PAIRS,
    Comparison,
    compare,
    evidence_document,
)
from modelperf.services.ab_tests_results import Results, told
from modelperf.services.ab_tests_status import closes_at, status_now
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.policies import policy_of
from modelperf.services.registry_locks import lock_machine_in_service
from modelperf.stats.row_fold import MIN_ROWS
from modelperf.stats.row_sums import LARGEST_LOSS

log = structlog.get_logger(__name__)

SMALLEST_SPLIT: Final = 0.01
LARGEST_CONFIDENCE: Final = 0.9999
SHORTEST_TEST_HOURS: Final = 0.1
LONGEST_TEST_HOURS: Final = 24 * 366
CANCELLED_AT: Final = "cancelled_at"


@dataclass(frozen=True, slots=True)
class Started:
    """A test that runs, and what to expect of it."""

    test: ABTest
    message: str


class Expired(NamedTuple):
    """The tests that a call has ended, and those that it could not."""

    ended: list[ABTest]
    failed: list[ABTest]


def start(
    *,
    test_name: str,
    machine: Machine,
    model_type: str,
    model_a: ModelVersion,
    model_b: ModelVersion,
    duration_hours: float = 24,
    test_start: datetime | None = None,
    traffic_split_a: float = 0.5,
    confidence_level: float = 0.95,
    margin: float | None = None,
    training_run: TrainingRun | None = None,
    by: str,
) -> Started:
    """Start a test of two versions of one series; an expired one of the series is closed first.

    Its rows decide nothing before one window of the series has passed: every hour of its day, or
    whatever a window covers, has been seen by then.

    Raises
    ------
    InvalidError
        The versions are the same or of another series, or a number is out of range.
    ConflictError
        A test of the series is running, or the machine is retired.
    """
    _refuse_arms(machine, model_type, model_a, model_b)
    if not test_name.strip() or len(test_name) > 200:
        raise InvalidError.field("test_name", "test_name is a text of up to 200 characters.")
    if not SHORTEST_TEST_HOURS <= duration_hours <= LONGEST_TEST_HOURS:
        msg = f"duration_hours lies between {SHORTEST_TEST_HOURS} and {LONGEST_TEST_HOURS}."
        raise InvalidError.field("duration_hours", msg)
    _refuse_rules(traffic_split_a, confidence_level, margin)
    begin = test_start or timezone.now()
    if begin > timezone.now():
        raise InvalidError.field("test_start", "test_start must not lie in the future.")
    with transaction.atomic():
        lock_machine_in_service(machine, "start A/B tests")
        metrics_store.lock_series([model_a.pk])
        of_series = ABTest.objects.of_series(machine_id=machine.pk, model_type=model_type)
        for expired in _over(of_series):
            _complete(_locked(expired), by)
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
            traffic_split_a=traffic_split_a,
            traffic_split_b=1 - traffic_split_a,
            confidence_level=confidence_level,
            margin=margin,
            training_run=training_run,
            created_by=by,
        )
        cadence = _cadence(test)
        test.min_duration_seconds = cadence.total_seconds() if cadence else 0
        test.save(update_fields=["min_duration_seconds"])
        ab_tests_ended.is_settled(test, now=timezone.now())
    return Started(test, _expectation(test, cadence))


def _refuse_rules(traffic_split_a: float, confidence_level: float, margin: float | None) -> None:
    if not SMALLEST_SPLIT <= traffic_split_a <= 1 - SMALLEST_SPLIT:
        msg = f"traffic_split_a lies between {SMALLEST_SPLIT} and {1 - SMALLEST_SPLIT}."
        raise InvalidError.field("traffic_split_a", msg)
    if not 0.5 <= confidence_level <= LARGEST_CONFIDENCE:
        msg = f"confidence_level lies between 0.5 and {LARGEST_CONFIDENCE}."
        raise InvalidError.field("confidence_level", msg)
    if margin is not None and not 0 <= margin <= LARGEST_LOSS:
        raise InvalidError.field("margin", "margin is a number of at least 0.")


def _refuse_arms(
    machine: Machine, model_type: str, model_a: ModelVersion, model_b: ModelVersion
) -> None:
    if model_a.pk == model_b.pk:
        raise InvalidError.field("model_b_id", "A model cannot be tested against itself.")
    for name, model in (("model_a_id", model_a), ("model_b_id", model_b)):
        if (model.machine_id, model.model_type) != (machine.pk, model_type):
            raise InvalidError.field(name, "The model belongs to another series.")


def _expectation(test: ABTest, cadence: timedelta | None) -> str:
    """Say how many windows the test will see, and warn where no decision can come of them."""
    message = f"A/B test of v{test.model_a_version} and v{test.model_b_version} started."
    closes = closes_at(test)
    if closes is not None and closes != test.test_end:
        message += f" Its labels may come late: it is decided on {closes:%d %B %Y, %H:%M} UTC."
    if cadence is None or test.test_end is None:
        return f"{message} At least {MIN_PAIRS} common windows are needed for a decision."
    windows = int((test.test_end - test.test_start) / cadence)
    if windows >= MIN_PAIRS:
        return f"{message} About {windows} windows are expected until its end."
    hours = MIN_PAIRS * cadence / timedelta(hours=1)
    return (
        f"{message} It is too short for a decision: about {windows} windows are expected and at"
        f" least {MIN_PAIRS} are needed. Plan {hours:.0f} hours or more, or send the losses of"
        f" single rows, of which {MIN_ROWS} are needed over {_hours(cadence)} hours."
    )


def _hours(duration: timedelta) -> str:
    return f"{duration / timedelta(hours=1):.3g}"


def _cadence(test: ABTest) -> timedelta | None:
    """Return the median distance of the series' last windows, else what its policy expects."""
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
    if steps:
        return steps[len(steps) // 2]
    policy = policy_of(machine_id=test.machine_id, model_type=test.model_type)
    seconds = policy.expected_cadence_seconds
    return timedelta(seconds=seconds) if seconds else None


def results(*, test: ABTest) -> Results:
    """Return where a test stands: as stored once it is over, computed and not stored before."""
    if test.test_status == ABTest.Status.COMPLETED and test.evidence:
        return told(test, test.evidence, test.model_a_metrics, test.model_b_metrics, ended=True)
    is_over = status_now(test) == ABTest.Status.COMPLETED
    comparison = _compared_at(test, closes_at(test) if is_over else None)
    return told(
        test,
        evidence_document(comparison),
        comparison.model_a_metrics,
        comparison.model_b_metrics,
        ended=status_now(test) != ABTest.Status.RUNNING,
    )


def _compared_at(test: ABTest, ended_at: datetime | None) -> Comparison:
    policy = policy_of(machine_id=test.machine_id, model_type=test.model_type)
    return compare(test, policy, ended_at=ended_at)


def complete(*, test: ABTest, by: str) -> ABTest:
    """End a running test and store its evidence and winner for good; an alert asks to decide it.

    One that started by itself is decided by itself. Where it no longer is, `retraining_tests` asks.

    Raises
    ------
    ConflictError
        The test is not running.
    """
    with transaction.atomic():
        ended = _complete(_running(test), by)
        if ended.training_run_id is None:
            ab_tests_ended.ask(ended, results(test=ended), now=timezone.now())
        return ended


def complete_expired(*, by: str) -> Expired:
    """End every running test that is over; one that cannot be ended stops no other."""
    found = Expired([], [])
    for test in _over(ABTest.objects.order_by("test_end", "id")):
        try:
            found.ended.append(complete(test=test, by=by))
        except ConflictError:  # somebody else has ended it meanwhile
            continue
        except Exception:  # whatever it is, the other tests shall end
            log.exception("ab_test_not_ended", test_id=str(test.pk))
            found.failed.append(test)
    return found


def _over(tests: QuerySet[ABTest]) -> list[ABTest]:
    """Return the running tests that end now: those whose labels may still come run on."""
    expired = tests.filter(test_status=ABTest.Status.RUNNING, test_end__lte=timezone.now())
    return [test for test in expired if status_now(test) == ABTest.Status.COMPLETED]


def _locked(test: ABTest) -> ABTest:
    """Lock the series, as starting a test does, then the test, as observing does."""
    metrics_store.lock_series([test.model_a_id])
    tests = ABTest.objects.select_related("machine", "model_a", "model_b")
    return tests.select_for_update(of=("self",)).get(pk=test.pk)


def _running(test: ABTest) -> ABTest:
    locked = _locked(test)
    if locked.test_status != ABTest.Status.RUNNING:
        raise ConflictError(f"The test is {locked.test_status}.", test_status=locked.test_status)
    return locked


def _complete(test: ABTest, by: str) -> ABTest:
    """Store what a locked test has come to; the database lets nobody change it afterwards."""
    now = timezone.now()
    comparison = _compared_at(test, min(now, closes_at(test) or now))
    test.test_status = ABTest.Status.COMPLETED
    test.evidence = evidence_document(comparison)
    test.model_a_metrics = comparison.model_a_metrics
    test.model_b_metrics = comparison.model_b_metrics
    test.statistical_significance = comparison.evidence.confidence
    test.metadata = {**test.metadata, "completed_by": by, "completed_at": now.isoformat()}
    found = told(test, test.evidence, test.model_a_metrics, test.model_b_metrics, ended=True)
    if found.winner in ("model_a", "model_b"):
        test.winner_model_id = test.model_a_id if found.winner == "model_a" else test.model_b_id
        test.winner_declared_at = now
    test.save()
    return test


def cancel(*, test: ABTest, by: str) -> ABTest:
    """Stop a running test without a result."""
    with transaction.atomic():
        locked = _running(test)
        if status_now(locked) != ABTest.Status.RUNNING:
            raise ConflictError("The test is over: its result stands.", test_status="completed")
        locked.test_status = ABTest.Status.CANCELLED
        cancelled = {"cancelled_by": by, CANCELLED_AT: timezone.now().isoformat()}
        locked.metadata = {**locked.metadata, **cancelled}
        locked.save(update_fields=["test_status", "metadata"])
        ab_tests_ended.is_settled(locked, now=timezone.now())
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
            _complete(locked, by)
        locked.decision, locked.decision_notes = decision, notes
        locked.decided_by, locked.decided_at = by, timezone.now()
        locked.save()
        ab_tests_ended.is_settled(locked, now=locked.decided_at)
        promoted = {"promote_a": locked.model_a, "promote_b": locked.model_b}.get(decision)
        if promoted is not None:
            registry.activate_model(
                model=promoted,
                kind=ModelActivation.Kind.PROMOTED,
                reason=f"A/B test “{locked.test_name}”: {notes or decision}",
                by=by,
            )
    return locked
