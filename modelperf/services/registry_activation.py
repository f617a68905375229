"""Which version serves a series: activated, promoted, rolled back; exactly one at every moment."""

from __future__ import annotations

import structlog
from django.db import transaction

from modelperf.models import Machine, ModelActivation, ModelPerformanceMetric, ModelVersion
from modelperf.services import drift, metrics
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.registry_checks import check_model_type, check_text
from modelperf.services.registry_locks import lock_series, refuse_retired

log = structlog.get_logger(__name__)


@transaction.atomic
def activate_model(
    *,
    model: ModelVersion,
    reason: str = "",
    kind: ModelActivation.Kind = ModelActivation.Kind.ACTIVATED,
    by: str,
) -> ModelVersion:
    """Let a version serve its series in place of the one that did."""
    check_text(reason=reason)
    refuse_retired(Machine.objects.get(pk=model.machine_id), "activate models")
    lock_series(machine=model.machine, model_type=model.model_type)
    current = ModelVersion.objects.get(pk=model.pk)
    if current.is_active:
        return current
    return swap(current, reason=reason, kind=kind, by=by)


@transaction.atomic
def rollback(*, machine: Machine, model_type: str, reason: str, by: str) -> ModelVersion:
    """Let the version serve again that served before the present one.

    Again goes back further: what was rolled back from is passed over.

    Raises
    ------
    InvalidError
        There is no reason.
    ConflictError
        No version is active, or none is known to have served before it.
    """
    check_model_type(model_type)
    if not reason.strip():
        raise InvalidError.field("reason", "Say why: the reason is kept with the rollback.")
    check_text(reason=reason)
    refuse_retired(Machine.objects.get(pk=machine.pk), "roll back")
    lock_series(machine=machine, model_type=model_type)
    previous = previous_active(machine=machine, model_type=model_type)
    if previous is None:
        raise ConflictError(
            "No version is known to have served before the present one. Activate one by its id."
        )
    return swap(previous, reason=reason, kind=ModelActivation.Kind.ROLLED_BACK, by=by)


def previous_active(*, machine: Machine, model_type: str) -> ModelVersion | None:
    """Return the version that a rollback would activate."""
    served = _served(machine, model_type)
    if len(served) < 2 or served[-1] is None:
        return None
    is_present = ModelVersion.objects.filter(pk=served[-1].pk, is_active=True).exists()
    return served[-2] if is_present else None


def _served(machine: Machine, model_type: str) -> list[ModelVersion | None]:
    """Return which versions served in turn, without what was rolled back from; None is nothing."""
    served: list[ModelVersion | None] = []
    activations = ModelActivation.objects.of_series(machine_id=machine.pk, model_type=model_type)
    for one in activations.select_related("model", "previous").order_by("activated_at", "id"):
        if not served or served[-1] != one.previous:
            served.append(one.previous)
        if one.kind == ModelActivation.Kind.ROLLED_BACK:
            served.pop()
            while served and served[-1] != one.model:
                served.pop()
        if not served or served[-1] != one.model:
            served.append(one.model)
    return served


def swap(
    model: ModelVersion, *, reason: str = "", kind: ModelActivation.Kind, by: str
) -> ModelVersion:
    """Swap the active version and what depends on it, under the lock of the series."""
    series = ModelVersion.objects.of_series(
        machine_id=model.machine_id, model_type=model.model_type
    )
    previous = series.active().first()
    series.active().update(is_active=False)
    series.filter(pk=model.pk).update(is_active=True)
    model.is_active = True
    ModelActivation.objects.create(
        machine_id=model.machine_id,
        model_type=model.model_type,
        model=model,
        model_version=model.model_version,
        previous=previous,
        previous_version=previous.model_version if previous else None,
        kind=kind,
        reason=reason,
        activated_by=by,
    )
    metrics.refresh_latest([(model.machine_id, model.model_type)])
    if ModelPerformanceMetric.objects.filter(
        machine_id=model.machine_id, model_type=model.model_type, model=model
    ).exists():
        # Alerts are about the version that serves: they follow its verdict from now on.
        drift.check(model=model, by=by)
    log.info("model_activated", model_id=str(model.id), version=model.model_version, by=by)
    return model
