"""Machines and the versions of the models that serve them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog
from django.db import IntegrityError, transaction

from modelperf.models import Machine, ModelActivation, ModelVersion
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.registry_activation import (
    activate_model,
    previous_active,
    rollback,
    swap,
)
from modelperf.services.registry_checks import check_machine, check_model
from modelperf.services.registry_locks import (
    lock_machine_in_service,
    lock_series,
    take_from_check,
)

__all__ = [
    "activate_model",
    "create_machine",
    "previous_active",
    "register_model",
    "retire_machine",
    "return_machine",
    "rollback",
    "update_machine",
]

log = structlog.get_logger(__name__)

MACHINE_FIELDS = ("name", "type", "location", "data_interval_seconds", "metadata")
MODEL_FIELDS = (
    "model_type",
    "trained_at",
    "artefact",
    "feature_names",
    "hyperparameters",
    "metadata",
)


def create_machine(
    *,
    name: str,
    type: str = "",
    location: str = "",
    data_interval_seconds: int | None = None,
    metadata: dict[str, Any] | None = None,
    id: uuid.UUID | None = None,
    by: str,
) -> tuple[Machine, bool]:
    """Add a machine; the same again under the same id answers the one that is there."""
    machine = Machine(
        name=name,
        type=type,
        location=location,
        data_interval_seconds=data_interval_seconds,
        metadata=metadata or {},
    )
    if id is not None:
        machine.id = id
    check_machine(machine)
    try:
        with transaction.atomic():
            machine.save(force_insert=True)
    except IntegrityError:
        return _same_machine(machine), False
    log.info("machine_created", machine_id=str(machine.id), name=machine.name, by=by)
    return machine, True


@transaction.atomic
def update_machine(*, machine: Machine, changes: dict[str, Any], by: str) -> Machine:
    """Change what is said of a machine: any of `MACHINE_FIELDS`."""
    unknown = sorted(changes.keys() - set(MACHINE_FIELDS))
    if unknown:
        raise InvalidError.field(
            unknown[0], f"{unknown[0]} cannot be changed. Send {', '.join(MACHINE_FIELDS)}."
        )
    current = Machine.objects.select_for_update(no_key=True).get(pk=machine.pk)
    for name, value in changes.items():
        setattr(current, name, value)
    check_machine(current)
    current.save(update_fields=list(changes))
    log.info("machine_updated", machine_id=str(current.id), fields=sorted(changes), by=by)
    return current


def retire_machine(*, machine: Machine, by: str) -> Machine:
    """Take a machine out of service: hidden, with everything known of it kept."""
    return _set_in_service(machine, in_service=False, by=by)


def return_machine(*, machine: Machine, by: str) -> Machine:
    """Take a retired machine back into service."""
    return _set_in_service(machine, in_service=True, by=by)


@transaction.atomic
def register_model(
    *,
    machine: Machine,
    model_type: str,
    model_version: int | None = None,
    id: uuid.UUID | None = None,
    is_active: bool = False,
    trained_at: datetime | None = None,
    artefact: dict[str, Any] | None = None,
    feature_names: Sequence[str] = (),
    hyperparameters: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    by: str,
) -> tuple[ModelVersion, bool]:
    """Add a version to a series, as its next number unless one is given.

    The same again under the same id answers the version that is there, which may have been
    activated or deactivated since.
    """
    model = ModelVersion(
        machine=machine,
        model_type=model_type,
        trained_at=trained_at,
        artefact=artefact,
        feature_names=list(feature_names),
        hyperparameters=hyperparameters or {},
        metadata=metadata or {},
    )
    if id is not None:
        model.id = id
    check_model(model, model_version)
    lock_machine_in_service(machine, "register models")
    lock_series(machine=machine, model_type=model_type)
    existing = ModelVersion.objects.filter(pk=model.pk).first() if id else None
    if existing is not None:
        return _same_model(existing, model, model_version), False
    model.model_version = _free_number(model, model_version)
    _insert(model)
    log.info("model_registered", model_id=str(model.id), version=model.model_version, by=by)
    if is_active:
        reason = "Registered as active."
        swap(model, reason=reason, kind=ModelActivation.Kind.ACTIVATED, by=by)
    return model, True


@transaction.atomic
def _set_in_service(machine: Machine, *, in_service: bool, by: str) -> Machine:
    """Retire or return a machine; a check that runs leaves its series to the next one."""
    changed = Machine.objects.filter(pk=machine.pk, is_active=not in_service).update(
        is_active=in_service
    )
    if not changed:
        state = "in service" if in_service else "retired"
        raise ConflictError(f"The machine {machine.name} is {state} already.", is_active=in_service)
    take_from_check(machine)
    machine.refresh_from_db()
    event = "machine_returned" if in_service else "machine_retired"
    log.info(event, machine_id=str(machine.id), name=machine.name, by=by)
    return machine


def _same_machine(machine: Machine) -> Machine:
    existing = Machine.objects.get(pk=machine.pk)
    different = [
        name for name in MACHINE_FIELDS if getattr(existing, name) != getattr(machine, name)
    ]
    if different:
        raise ConflictError(
            f"The id {machine.pk} belongs to a machine with another {different[0]}.",
            id=str(machine.pk),
        )
    return existing


def _same_model(existing: ModelVersion, model: ModelVersion, number: int | None) -> ModelVersion:
    if existing.machine_id != model.machine_id:
        # A limited key may not see that machine, so nothing of it is told.
        raise _taken(model)
    different = [name for name in MODEL_FIELDS if getattr(existing, name) != getattr(model, name)]
    if number not in {None, existing.model_version}:
        different.append("model_version")
    if different:
        raise ConflictError(
            f"The id {model.pk} belongs to a model with another {different[0]}.", id=str(model.pk)
        )
    return existing


def _free_number(model: ModelVersion, number: int | None) -> int:
    versions = ModelVersion.objects.of_series(
        machine_id=model.machine_id, model_type=model.model_type
    )
    if number is None:
        newest = versions.order_by("-model_version").first()
        return newest.model_version + 1 if newest else 1
    if versions.filter(model_version=number).exists():
        raise ConflictError(
            f"The series has a version {number} already. Leave model_version out for the next one.",
            model_version=number,
        )
    return number


def _insert(model: ModelVersion) -> None:
    try:
        with transaction.atomic():
            model.save(force_insert=True)
    except IntegrityError as error:
        # The series is locked, so only the id can be taken: by another series, just now.
        raise _taken(model) from error


def _taken(model: ModelVersion) -> ConflictError:
    return ConflictError(f"The id {model.pk} belongs to another model.", id=str(model.pk))
