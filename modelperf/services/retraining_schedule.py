"""Retrainings by the calendar, where policies ask for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, Max, OuterRef

from modelperf.models import Machine, ModelActivation, ModelVersion, Policy, TrainingRun
from modelperf.services import training
from modelperf.services.errors import DomainError
from modelperf.services.policies import Policies, PolicyValues
from modelperf.services.retraining_guards import ROLLED_BACK, Caps, Refusal
from modelperf.services.retraining_tried import Series
from modelperf.services.training_after import ACTOR

log = structlog.get_logger(__name__)


def trigger(*, now: datetime) -> tuple[list[TrainingRun], list[Refusal]]:
    """Trigger the runs whose time has come, those first that have waited longest."""
    triggered: list[TrainingRun] = []
    waiting: list[Refusal] = []
    due = sorted(_due(now), key=lambda one: (one[0], str(one[1].machine_id)))
    caps = Caps.read(now) if due else Caps()
    theirs = _rolled_back(due)
    for _, model, policy in due:
        full = caps.refusal(model.model_type, policy)
        if model.pk in theirs:
            waiting.append(Refusal(model.machine_id, model.model_type, ROLLED_BACK))
            continue
        if full:
            waiting.append(Refusal(model.machine_id, model.model_type, full))
            continue
        found = _trigger(model, policy, now)
        if isinstance(found, Refusal):
            waiting.append(found)
        else:
            triggered.append(found)
            caps.count(model.model_type)
    return triggered, waiting


def _due(now: datetime) -> Iterator[tuple[datetime, ModelVersion, PolicyValues]]:
    """Yield the series that were last trained, or tried, longer ago than their policy says."""
    asking = Policy.objects.filter(retrain_every_seconds__isnull=False)
    types = set(asking.values_list("model_type", flat=True))
    if not types:
        return
    policies, last = Policies.load(), _last_asked(types)
    serving = ModelVersion.objects.active().filter(model_type__in=types, machine__is_active=True)
    for model in serving.select_related("machine"):
        policy = policies.of(model.machine_id, model.model_type)
        if policy.retrain_every_seconds is None:
            continue
        known = [
            model.trained_at or model.created_at,
            last.get((model.machine_id, model.model_type)),
        ]
        at = max(moment for moment in known if moment is not None)
        if now - at >= timedelta(seconds=policy.retrain_every_seconds):
            yield at, model, policy


def _rolled_back(due: Sequence[tuple[datetime, ModelVersion, PolicyValues]]) -> set[uuid.UUID]:
    """Return the versions a person went back to, with no training asked for since."""
    found = ModelActivation.objects.filter(model__in=[model.pk for _, model, _ in due])
    newest = found.order_by("model_id", "-activated_at", "-id").distinct("model_id")
    later = TrainingRun.objects.filter(
        machine=OuterRef("machine"),
        model_type=OuterRef("model_type"),
        created_at__gte=OuterRef("activated_at"),
    )
    rolled_back = ModelActivation.Kind.ROLLED_BACK
    known = newest.annotate(is_asked=Exists(later)).values_list("model_id", "kind", "is_asked")
    return {model_id for model_id, kind, asked in known if kind == rolled_back and not asked}


def _last_asked(types: set[str]) -> dict[Series, datetime]:
    runs = TrainingRun.objects.filter(model_type__in=types).order_by()
    found = runs.values_list("machine_id", "model_type").annotate(at=Max("created_at"))
    return {(machine_id, model_type): at for machine_id, model_type, at in found}


def _trigger(model: ModelVersion, policy: PolicyValues, now: datetime) -> TrainingRun | Refusal:
    machine: Machine = model.machine
    days = (policy.retrain_every_seconds or 0) / 86_400
    try:
        with transaction.atomic():
            answer = training.trigger(
                machine=machine,
                model_type=model.model_type,
                reason=f"Trained every {days:g} days.",
                trigger_type=TrainingRun.Trigger.SCHEDULED,
                now=now,
                by=ACTOR,
            )
    except DomainError as error:
        return Refusal(machine.pk, model.model_type, error.detail)
    except Exception:  # whatever it is, the other series shall go on
        log.exception("retraining_not_scheduled", machine_id=str(machine.pk))
        return Refusal(machine.pk, model.model_type, "It could not be asked for: the log says why.")
    if answer.training_job_id is None:
        return Refusal(machine.pk, model.model_type, answer.reason)
    return TrainingRun.objects.get(pk=answer.training_job_id)
