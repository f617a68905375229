"""The trainings that the page of a series shows, and what its reader may do about the series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.contrib.auth.models import AnonymousUser, User
from django.utils import timezone

from modelperf.models import ApiKey, ModelVersion, TrainingRun
from modelperf.models.access import PERMISSION_OF_SCOPE
from modelperf.pages.fleet import Row
from modelperf.pages.story import MOST_EVENTS
from modelperf.services import registry, training, training_failures
from modelperf.templatetags.presentation import actor

Reader = User | AnonymousUser
MOST_RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class RunRow:
    """A training run, and when it will be done as far as past runs tell."""

    run: TrainingRun
    due: datetime | None

    @property
    def is_unfinished(self) -> bool:
        """Whether it waits or is at work."""
        return self.run.training_status in TrainingRun.UNFINISHED

    @property
    def has_begun(self) -> bool:
        """Whether somebody has taken it."""
        return self.run.attempt > 0 or self.run.training_status != TrainingRun.Status.PENDING

    @property
    def asked_by(self) -> str:
        """Who asked for it."""
        return actor(self.run.triggered_by)

    @property
    def is_late(self) -> bool:
        """Whether it takes longer than past runs did."""
        return self.due is not None and self.due < timezone.now()


@dataclass(frozen=True, slots=True)
class Verbs:
    """What a reader may do about a series; `previous` is what a roll back would activate.

    `may_know` why its trainings failed.
    """

    may_know: bool
    may_train: bool
    may_activate: bool
    previous: ModelVersion | None


def may_train(user: Reader) -> bool:
    """Whether a user may do what a key needs the scope train for."""
    return user.has_perm(PERMISSION_OF_SCOPE[ApiKey.Scope.TRAIN])


def may_activate(user: Reader) -> bool:
    """Whether a user may do what a key needs the scope write for."""
    return user.has_perm(PERMISSION_OF_SCOPE[ApiKey.Scope.WRITE])


def verbs(row: Row, user: Reader) -> Verbs:
    """Return what a reader may do about a series; a retired machine is left as it is."""
    is_free = row.machine.is_active
    is_activating = is_free and may_activate(user)
    return Verbs(
        may_know=training_failures.may_know(user),
        may_train=is_free and may_train(user),
        may_activate=is_activating,
        previous=registry.previous_active(machine=row.machine, model_type=row.model_type)
        if is_activating
        else None,
    )


def newest_runs(row: Row) -> list[TrainingRun]:
    """Return the newest runs of a series without their documents, as many as a story tells."""
    of_series = TrainingRun.objects.of_series(machine_id=row.machine.pk, model_type=row.model_type)
    return list(
        of_series.defer(
            "error_traceback",
            "training_log",
            "hyperparameters",
            "feature_names",
            "training_metrics",
            "validation_metrics",
        ).order_by("-training_start", "-id")[:MOST_EVENTS]
    )


def shown(runs: list[TrainingRun]) -> list[RunRow]:
    """Return the newest of some runs as they are shown."""
    return [RunRow(run, training.estimated_completion(run)) for run in runs[:MOST_RUNS]]
