"""When automatic retraining holds back: never a loop, a double run, or a thousand at once."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Self

from django.conf import settings
from django.db.models import Q

from modelperf.models import ABTest, Alert, ModelActivation, ModelPerformanceMetric, TrainingRun
from modelperf.services.policies import PolicyValues

Series = tuple[uuid.UUID, str]

MEMORY: Final = timedelta(days=30)  # so long does a try count that did not help
DAY: Final = timedelta(days=1)


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


@dataclass(slots=True)
class Tried:
    """The automatic runs of some series that count, oldest first, and what became of them."""

    runs: Mapping[Series, Sequence[TrainingRun]]
    unfinished: frozenset[Series]
    tests: Mapping[uuid.UUID | None, ABTest]

    @classmethod
    def read(cls, series: Iterable[Series], now: datetime) -> Self:
        """Read what was tried for some series, since something last helped or a person said so."""
        wanted = set(series)
        machines = {machine_id for machine_id, _ in wanted}
        of_machines = TrainingRun.objects.filter(machine_id__in=machines)
        unfinished = of_machines.unfinished().values_list("machine_id", "model_type")
        began = _began(machines)
        runs: dict[Series, list[TrainingRun]] = defaultdict(list)
        recent = of_machines.automatic().filter(created_at__gt=now - MEMORY).select_related("model")
        for run in recent.exclude(trigger_type=TrainingRun.Trigger.SCHEDULED).order_by(
            "created_at"
        ):
            place = run.machine_id, run.model_type
            if place in wanted and (place not in began or run.created_at > began[place]):
                runs[place].append(run)
        of_runs = [run.pk for found in runs.values() for run in found]
        tests = ABTest.objects.filter(training_run_id__in=of_runs).order_by("created_at")
        return cls(runs, frozenset(unfinished), {test.training_run_id: test for test in tests})

    def refusal(self, place: Series, policy: PolicyValues, now: datetime) -> Refusal | None:
        """Return why a series is not trained again now, or None."""
        if place in self.unfinished:
            return Refusal(*place, "A training is under way.")
        runs = self.runs.get(place, ())
        if not runs:
            return None
        awaited = _awaited(runs[-1], self.tests.get(runs[-1].pk), policy)
        if awaited:
            return Refusal(*place, awaited)
        if len(runs) >= policy.retrain_tries:
            return Refusal(*place, f"{len(runs)} retrainings have not helped.", is_exhausted=True)
        pause = timedelta(seconds=policy.retrain_cooldown_seconds) * 2 ** (len(runs) - 1)
        until = (runs[-1].training_end or runs[-1].created_at) + pause
        if until > now:
            return Refusal(*place, f"Cools down until {until:%Y-%m-%d %H:%M} UTC.")
        return None


def _began(machines: set[uuid.UUID]) -> dict[Series, datetime]:
    """Return from when on tries count: a run's version that helped, or a person, ends a count."""
    helped = ModelActivation.objects.filter(
        machine_id__in=machines, kind=ModelActivation.Kind.PROMOTED
    )
    ended = Alert.objects.filter(machine_id__in=machines, is_resolved=True).filter(
        Q(alert_type=Alert.Type.RETRAINING_NOT_HELPING) & ~Q(resolved_by="system")
        | Q(resolution_action="retrained_model")
    )
    began: dict[Series, datetime] = {}
    for found in (
        helped.order_by().values_list("machine_id", "model_type", "activated_at"),
        ended.order_by().values_list("machine_id", "model_type", "resolved_at"),
    ):
        for machine_id, model_type, moment in found:
            place = machine_id, model_type
            if machine_id and moment:
                began[place] = max(moment, began.get(place, moment))
    return began


def _awaited(run: TrainingRun, test: ABTest | None, policy: PolicyValues) -> str | None:
    """Return what is still to be seen of the last try's version, or None where that is over."""
    if run.model is None:
        return None
    version = f"version {run.model.model_version}"
    if test is not None:
        is_over = test.decision is not None or test.test_status == ABTest.Status.CANCELLED
        return None if is_over else f"A test of {version} runs."
    if not run.model.is_active:
        served = ModelActivation.objects.filter(model=run.model).exists()
        return None if served else f"{version.capitalize()} waits for a person."
    n_seen = ModelPerformanceMetric.objects.filter(model=run.model).count()
    if n_seen < policy.min_evaluations:
        return f"{version.capitalize()} has {n_seen} of {policy.min_evaluations} evaluations."
    return None
