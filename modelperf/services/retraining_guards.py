"""When automatic retraining holds back: never a loop, a double run, or a thousand at once."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Self

from django.conf import settings

from modelperf.models import ABTest, ModelActivation, TrainingRun
from modelperf.services import ab_tests
from modelperf.services.policies import PolicyValues
from modelperf.services.retraining_tried import TELLING, Series, Tried
from modelperf.services.training_after import PASSED_OVER, WAITS

DAY: Final = timedelta(days=1)
LONGEST_PAUSE: Final = timedelta(days=366)
# A try counts so long at least after its end, and what a next one takes besides: its pause and its
# test. An alert that comes and goes would bring new tries otherwise.
MEMORY: Final = timedelta(days=30)
ROLLED_BACK: Final = "A person rolled back; the next training is theirs to ask for."


class Refusal(NamedTuple):
    """A retraining that is not due, and why."""

    machine_id: uuid.UUID
    model_type: str
    reason: str
    is_exhausted: bool = False


@dataclass(slots=True)
class Caps:
    """How many automatic runs were asked for within a day, by type and in all."""

    by_type: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, now: datetime) -> Self:
        """Count the automatic runs of the past day."""
        recent = TrainingRun.objects.automatic().filter(created_at__gt=now - DAY)
        return cls(Counter(recent.order_by().values_list("model_type", flat=True)))

    def refusal(self, model_type: str, policy: PolicyValues) -> str | None:
        """Return why there is no more room for a run, or None."""
        if self.by_type[model_type] >= policy.retrain_daily_cap:
            return f"{policy.retrain_daily_cap} automatic runs of {model_type} within a day."
        if self.by_type.total() >= settings.RETRAIN_DAILY_CAP:
            return f"{settings.RETRAIN_DAILY_CAP} automatic runs of the fleet within a day."
        return None

    def count(self, model_type: str) -> None:
        """Count one more run."""
        self.by_type[model_type] += 1


def refusal(place: Series, tried: Tried, policy: PolicyValues, now: datetime) -> Refusal | None:
    """Return why a series is not trained again now, or None."""
    if place in tried.unfinished:
        return Refusal(*place, "A training is under way.")
    if _is_a_persons_turn(place, tried):
        return Refusal(*place, ROLLED_BACK)
    awaited = _awaited_of_run(place, tried) or _awaited_in_service(place, tried)
    if awaited:
        return Refusal(*place, awaited)
    tries = _counting(place, tried, policy, now)
    if len(tries) >= policy.retrain_tries:
        return Refusal(*place, _in_vain(tries), is_exhausted=True)
    until = _cools_until(place, tried, policy, len(tries))
    if until is not None and until > now:
        return Refusal(*place, f"Cools down until {until:%Y-%m-%d %H:%M} UTC.")
    return None


def _is_a_persons_turn(place: Series, tried: Tried) -> bool:
    """Whether a person went back to an earlier version, and nothing was asked for since.

    What is trained and promoted by itself would only put in service again what they took out.
    """
    activation, last = tried.activations.get(place), tried.last.get(place)
    if activation is None or activation.kind != ModelActivation.Kind.ROLLED_BACK:
        return False
    return last is None or last.created_at < activation.activated_at


def _in_vain(tries: Sequence[TrainingRun]) -> str:
    ends = Counter(run.training_status for run in tries)
    told = [
        f"{ends[status]} {status.value}"
        for status in (TrainingRun.Status.FAILED, TrainingRun.Status.CANCELLED)
        if ends[status]
    ]
    subject = "1 retraining has" if len(tries) == 1 else f"{len(tries)} retrainings have"
    return f"{subject} not helped{'; ' if told else ''}{', '.join(told)}."


def _counting(
    place: Series, tried: Tried, policy: PolicyValues, now: datetime
) -> list[TrainingRun]:
    """Return the tries of a series that are not forgotten: those after the last quiet time."""
    counting: list[TrainingRun] = []
    for run in tried.tries.get(place, ()):
        if _is_forgotten(place, counting, tried, policy, run.created_at):
            counting = []
        counting.append(run)
    return [] if _is_forgotten(place, counting, tried, policy, now) else counting


def _is_forgotten(
    place: Series,
    tries: Sequence[TrainingRun],
    tried: Tried,
    policy: PolicyValues,
    moment: datetime,
) -> bool:
    """Whether nothing was tried for so long that it is another matter, nor an alert about that."""
    if not tries or tries[-1].created_at >= tried.opened[place]:
        return False
    gave_up = tried.gave_up.get(place)
    ended = _ended_at(tries[-1], tried)
    if gave_up is not None and gave_up <= moment:
        ended = max(ended, gave_up)
    tested = timedelta(hours=policy.test_duration_hours)
    return moment - ended > MEMORY + tested + _pause(policy, len(tries))


def _ended_at(run: TrainingRun, tried: Tried) -> datetime:
    """Return when a run has ended, or the last test of its version."""
    ends = [run.created_at, run.training_end]
    for test in tried.tests.get(run.model_id, ()) if run.model_id else ():
        ends += [test.decided_at, _cancelled_at(test)]
    return max(moment for moment in ends if moment)


def _cancelled_at(test: ABTest) -> datetime | None:
    at = test.metadata.get(ab_tests.CANCELLED_AT)
    return datetime.fromisoformat(at) if at else None


def _pause(policy: PolicyValues, n_tries: int) -> timedelta:
    """Return how long a series rests: twice as long after each try that did not help."""
    doubled: int = 2 ** max(n_tries - 1, 0)
    seconds = min(policy.retrain_cooldown_seconds * doubled, LONGEST_PAUSE.total_seconds())
    return timedelta(seconds=seconds)


def _cools_until(
    place: Series, tried: Tried, policy: PolicyValues, n_tries: int
) -> datetime | None:
    """Return until when a series rests after its last run, whoever asked for that."""
    last = tried.last.get(place)
    return None if last is None else _ended_at(last, tried) + _pause(policy, n_tries)


def _awaited_of_run(place: Series, tried: Tried) -> str | None:
    """Return what the version of the last run waits for, until it was tested or passed over."""
    run = tried.last_version.get(place)
    if run is None or run.model is None:
        return None
    version = run.model.model_version
    tests = tried.tests.get(run.model_id, ())
    if any(test.test_status == ABTest.Status.RUNNING for test in tests):
        return f"A test of version {version} runs."
    # Who has decided or cancelled a test has acted, whatever came of it.
    if any(test.decision or test.test_status == ABTest.Status.CANCELLED for test in tests):
        return None
    if (
        PASSED_OVER in run.metadata
        or run.model.is_active
        or _is_passed_over(run, tried.activations.get(place))
    ):
        return None
    return f"Version {version} waits for {'its test' if WAITS in run.metadata else 'a person'}."


def _is_passed_over(run: TrainingRun, activation: ModelActivation | None) -> bool:
    """Whether somebody has put a version in service since, this one or another."""
    if activation is None or run.training_end is None:
        return False
    return activation.activated_at > run.training_end


def _awaited_in_service(place: Series, tried: Tried) -> str | None:
    """Return what is to be seen of a version that came into service since the alert opened."""
    activation = tried.activations.get(place)
    if activation is None or activation.activated_at < tried.opened[place]:
        return None
    n_seen = tried.n_seen.get(activation.model_id, 0)
    if n_seen < TELLING:
        return f"Version {activation.model_version} has {n_seen} of {TELLING} evaluations."
    return None
