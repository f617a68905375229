"""Tests that started by themselves: decided by their evidence, the winner promoted."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import structlog
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from modelperf.models import (
    ABTest,
    AfterTraining,
    Alert,
    ModelActivation,
    ModelVersion,
    TrainingRun,
)
from modelperf.services import ab_tests, ab_tests_ended, alerts_writing, metrics_store
from modelperf.services.ab_tests_results import Results
from modelperf.services.alerts_conditions import JUDGED_TYPES
from modelperf.services.alerts_following import RETRAINED
from modelperf.services.alerts_writing import Ended
from modelperf.services.database import execute
from modelperf.services.errors import ConflictError
from modelperf.services.policies import Policies, PolicyValues
from modelperf.services.training_after import ACTOR

log = structlog.get_logger(__name__)


class Settled(NamedTuple):
    """The tests that were decided, and the alerts that their winners have ended."""

    decided: list[ABTest]
    resolved: list[Alert]


class _Undecided(NamedTuple):
    """A test that started by itself, what has come in for it, and what had at the last look."""

    test_id: uuid.UUID
    machine_id: uuid.UUID
    model_type: str
    test_status: str
    test_end: datetime | None
    trigger_type: str
    triggered_by: str
    looked_at: str | None
    seen: str

    def is_due(self, policy: PolicyValues, now: datetime) -> bool:
        """Whether a look may find anything but what the last one has found."""
        delay = timedelta(seconds=policy.label_delay_seconds)
        return (
            self.test_status == ABTest.Status.COMPLETED
            or self.looked_at != self.seen
            or (self.test_end is not None and self.test_end + delay <= now)
        )

    def is_left_to_people(self, policy: PolicyValues) -> bool:
        """Whether the policy was changed since: no test shall promote by itself any more."""
        if policy.after_training == AfterTraining.WAIT:
            return True
        if self.triggered_by != ACTOR:
            return False
        if self.trigger_type == TrainingRun.Trigger.SCHEDULED:
            return policy.retrain_every_seconds is None
        return not policy.retrain_automatically


def settle(*, now: datetime) -> Settled:
    """Decide the tests that have a winner or are over, and end what their winners were trained for.

    A test that cannot be decided stops no other. What a person has decided counts the same.
    """
    settled = Settled([], [])
    looked: list[_Undecided] = []
    due, left_to_people = _undecided(now)
    for one in left_to_people:
        _ask(one.test_id, now)
    for one in due:
        try:
            test = _decide(one.test_id)
        except ConflictError:  # a person was first
            continue
        except Exception:  # whatever it is, the other tests shall go on
            log.exception("ab_test_not_decided", test_id=str(one.test_id))
            continue
        if test is None:
            looked.append(one)
        else:
            settled.decided.append(test)
    _remember(looked)
    for test in _won():
        try:
            settled.resolved.extend(_resolve(test, now))
        except Exception:  # as above
            log.exception("ab_test_not_followed", test_id=str(test.pk))
    return settled


def _undecided(now: datetime) -> tuple[list[_Undecided], list[_Undecided]]:
    """Return the tests to be looked at, and those that are over and left to people.

    Of the first something has come in, or their time is over.
    """
    found = [_Undecided(*row) for row in execute(_UNDECIDED, [], binary=True)]
    policies = Policies.load() if found else Policies({})
    due, left_to_people = [], []
    for one in found:
        policy = policies.of(one.machine_id, one.model_type)
        if not one.is_left_to_people(policy):
            due += [one] if one.is_due(policy, now) else []
        elif one.test_status == ABTest.Status.COMPLETED:
            left_to_people.append(one)
    return due, left_to_people


def _remember(looked: Sequence[_Undecided]) -> None:
    """Keep with tests what had come in when they were looked at."""
    if looked:
        execute(_REMEMBER, [[one.test_id for one in looked], [one.seen for one in looked]])


def _decide(test_id: uuid.UUID) -> ABTest | None:
    """Decide a test by what it has come to, or return None where that is nothing yet."""
    test = _read(test_id)
    if not _is_over(ab_tests.results(test=test)):
        return None
    with transaction.atomic():
        # From here on nobody records for the series, or activates another version of it.
        metrics_store.lock_series([test.model_a_id])
        test = _read(test_id)
        if not _is_over(ab_tests.results(test=test)):
            return None
        if test.test_status == ABTest.Status.RUNNING:
            test = ab_tests.complete(test=test, by=ACTOR)
        found = ab_tests.results(test=test)
        decision = _decision(test, found.winner)
        return ab_tests.decide(test=test, decision=decision, notes=found.recommendation, by=ACTOR)


@transaction.atomic
def _ask(test_id: uuid.UUID, now: datetime) -> None:
    """Ask people to decide a test that is over, unless somebody just has."""
    metrics_store.lock_series([_read(test_id).model_a_id])
    test = _read(test_id)
    if test.decision is None:
        ab_tests_ended.ask(test, ab_tests.results(test=test), now=now)


def _read(test_id: uuid.UUID) -> ABTest:
    return ABTest.objects.select_related("machine", "model_a", "model_b").get(pk=test_id)


def _is_over(found: Results) -> bool:
    return found.winner is not None or found.test_status == ABTest.Status.COMPLETED


def _decision(test: ABTest, winner: str | None) -> str:
    """Return what follows from a winner; people may have said meanwhile who shall serve."""
    if winner not in ("model_a", "model_b"):
        return ABTest.Decision.NO_WINNER.value
    is_a = winner == "model_a"
    promoted = ABTest.Decision.PROMOTE_A if is_a else ABTest.Decision.PROMOTE_B
    won, other = (test.model_a_id, test.model_b_id)[:: 1 if is_a else -1]
    serving = ModelVersion.objects.filter(pk__in=[won, other], is_active=True)
    serves = serving.values_list("pk", flat=True).first()
    if serves == won or (serves == other and not _was_changed_by_people(test)):
        return promoted.value
    return ABTest.Decision.MANUAL_REVIEW.value


def _was_changed_by_people(test: ABTest) -> bool:
    """Whether somebody has activated a version, or rolled one back, since the test was started."""
    activations = ModelActivation.objects.of_series(
        machine_id=test.machine_id, model_type=test.model_type
    )
    return activations.filter(activated_at__gt=test.created_at).exclude(activated_by=ACTOR).exists()


def _won() -> QuerySet[ABTest]:
    """Return the tests whose new version has won and serves, with alerts of older ones still."""
    alerts = _ended_by(
        OuterRef("machine_id"),
        OuterRef("model_type"),
        OuterRef("model_b_version"),
        OuterRef("decided_at"),
    )
    rolled_back = ModelActivation.objects.filter(
        machine_id=OuterRef("machine_id"),
        model_type=OuterRef("model_type"),
        kind=ModelActivation.Kind.ROLLED_BACK,
        activated_at__gte=OuterRef("decided_at"),
    )
    return ABTest.objects.filter(
        Exists(alerts),
        ~Exists(rolled_back),
        training_run__isnull=False,
        decision=ABTest.Decision.PROMOTE_B,
        winner_model=F("model_b"),
        model_b__is_active=True,
    )


def _ended_by(machine: Any, model_type: Any, version: Any, decided_at: Any) -> QuerySet[Alert]:
    """Return what earlier versions of a series were alerted for when a test was decided.

    What a person has opened again since is not over.
    """
    return Alert.objects.unresolved().filter(
        Q(reopened_at__isnull=True) | Q(reopened_at__lte=decided_at),
        machine_id=machine,
        model_type=model_type,
        model_version__lt=version,
        alert_type__in=JUDGED_TYPES,
        alert_timestamp__lte=decided_at,
    )


@transaction.atomic
def _resolve(test: ABTest, now: datetime) -> list[Alert]:
    """Resolve what the series' earlier versions were alerted for: the new one is better.

    Nothing is, where that is not so any more once the series is locked.
    """
    metrics_store.lock_series([test.model_b_id])
    if not _won().filter(pk=test.pk).exists():
        return []
    ended = _ended_by(test.machine_id, test.model_type, test.model_b_version, test.decided_at)
    alerts = list(ended.select_for_update())
    notes = f"Version {test.model_b_version} won the test “{test.test_name}”."
    over = [Ended(id=one.pk, action=RETRAINED, notes=notes) for one in alerts]
    alerts_writing.resolve(over, now=now)
    return alerts


# One of a retired machine waits for its return. What has come in is counted and not dated alone:
# what was stored first may become visible last, and what is corrected or deleted counts, too.
_UNDECIDED: Final = """
    SELECT t.id, t.machine_id, t.model_type, t.test_status, t.test_end,
        run.trigger_type, run.triggered_by, t.metadata ->> 'looked_at',
        concat_ws(' ', arms.n, arms.revisions, arms.newest, rows.rows_a, rows.rows_b,
            extract(epoch FROM rows.changed_at))
    FROM model_ab_tests t
    JOIN machines m ON m.id = t.machine_id AND m.is_active
    JOIN model_training_history run ON run.id = t.training_run_id
    LEFT JOIN model_ab_row_states rows ON rows.test_id = t.id
    CROSS JOIN LATERAL (
        SELECT count(*) AS n, sum(revision) AS revisions,
            extract(epoch FROM max(created_at)) AS newest
        FROM model_performance_metrics
        WHERE machine_id = t.machine_id AND model_type = t.model_type
            AND model_id IN (t.model_a_id, t.model_b_id)
            AND evaluation_end > t.test_start AND evaluation_start >= t.test_start
    ) AS arms
    WHERE t.decision IS NULL AND t.test_status IN ('running', 'completed')
    ORDER BY t.test_start, t.id
"""
_REMEMBER: Final = """
    UPDATE model_ab_tests t
    SET metadata = t.metadata || jsonb_build_object('looked_at', w.seen)
    FROM unnest(%b::uuid[], %b::text[]) AS w (id, seen)
    WHERE t.id = w.id AND t.test_status = 'running'
"""
