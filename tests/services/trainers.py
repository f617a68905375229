"""Trainers for tests: each ends in one way, and none computes anything."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
from django.db import connection

from modelperf.models import Machine, TrainingRun
from modelperf.services import registry, training
from modelperf.trainers import (
    HandedOver,
    TrainedModel,
    Trainer,
    TrainingRequest,
    UnavailableError,
    Watch,
)
from modelperf.trainers.base import register
from tests.config.clients import wait_until
from tests.factories import MachineFactory, PolicyFactory


def trained_by(kind: str, **settings: Any) -> Machine:
    """Return a machine whose models are trained by one of these."""
    machine = MachineFactory.create()
    PolicyFactory.create(machine=machine, trainer={"kind": f"tests.{kind}"}, **settings)
    return machine


def nothing_learned(request: TrainingRequest, **artefact: Any) -> TrainedModel:
    previous = request.previous and request.previous.model_version
    return TrainedModel(
        artefact={"mean": 1.0, "previous": previous, **artefact},
        feature_names=(),
        hyperparameters=dict(request.hyperparameters),
        training_metrics={"rmse": 1.0},
        validation_metrics={"rmse": 2.0},
        training_samples=10,
        log="nothing to tell",
    )


def of_request(request: TrainingRequest) -> TrainingRun:
    return TrainingRun.objects.get(pk=request.run_id)


@register("tests.learns_nothing")
class LearnsNothing(Trainer, frozen=True, kw_only=True):
    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        return nothing_learned(request)


@register("tests.breaks")
class Breaks(Trainer, frozen=True, kw_only=True):
    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        raise ZeroDivisionError("division by zero")


@register("tests.breaks_unprintably")
class BreaksUnprintably(Trainer, frozen=True, kw_only=True):
    """Its last words hold half a character and a NUL, which no database takes."""

    is_unavailable: bool = False

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        kind = UnavailableError if self.is_unavailable else ValueError
        raise kind("no file \ud800\0")


@register("tests.interrupted")
class Interrupted(Trainer, frozen=True, kw_only=True):
    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        raise KeyboardInterrupt


@register("tests.bad_artefact")
class BadArtefact(Trainer, frozen=True, kw_only=True):
    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        return nothing_learned(request, weight=float("nan"))


@register("tests.cancelled_meanwhile")
class CancelledMeanwhile(Trainer, frozen=True, kw_only=True):
    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        training.cancel(run=of_request(request), by="user:other")
        return nothing_learned(request)


@register("tests.retired_meanwhile")
class RetiredMeanwhile(Trainer, frozen=True, kw_only=True):
    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        registry.retire_machine(machine=of_request(request).machine, by="user:other")
        return nothing_learned(request)


@register("tests.taken_meanwhile")
class TakenMeanwhile(Trainer, frozen=True, kw_only=True):
    """Another worker has got the run meanwhile; `ends` says how this one's work does."""

    ends: str = "well"

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        TrainingRun.objects.filter(pk=request.run_id).update(lease_id=uuid.uuid4())
        if self.ends == "unavailable":
            raise UnavailableError("The site does not answer.")
        if self.ends == "badly":
            raise ZeroDivisionError
        return nothing_learned(request)


@register("tests.unavailable")
class Unavailable(Trainer, frozen=True, kw_only=True):
    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        raise UnavailableError("The site does not answer.")


@register("tests.hands_over")
class HandsOver(Trainer, frozen=True, kw_only=True):
    def train(self, request: TrainingRequest, watch: Watch) -> HandedOver:
        return HandedOver(timeout_seconds=600)


@register("tests.works_until_unwanted")
class WorksUntilUnwanted(Trainer, frozen=True, kw_only=True):
    """Tells that half of it is done, and what it found only once nobody wants it any more."""

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        watch.progress(50, "half of it")
        wait_until(lambda: not watch.is_wanted())
        return nothing_learned(request)


@register("tests.cuts_the_connection")
class CutsTheConnection(Trainer, frozen=True, kw_only=True):
    """The server ends this process's connection, as one that restarts does."""

    def train(self, request: TrainingRequest, watch: Watch) -> TrainedModel:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        place = connection.get_connection_params()
        place.pop("cursor_factory")
        place.pop("context")
        with psycopg.connect(**place, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        return nothing_learned(request)
