"""What is tracked: machines, the series of models that serve them, and those models' versions."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from modelperf.models.keys import uuid7

MODEL_TYPE_LENGTH = 50
MODEL_TYPE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"


class MachineQuerySet(models.QuerySet["Machine"]):
    """Reads of machines."""

    def in_service(self) -> MachineQuerySet:
        """Leave out retired machines."""
        return self.filter(is_active=True)

    def retired(self) -> MachineQuerySet:
        """Keep the retired machines."""
        return self.filter(is_active=False)

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> MachineQuerySet:
        """Keep the machines a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(pk__in=machine_ids)


class Machine(models.Model):
    """The thing a model serves: a machine, meter, line or store. Retired when not active."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    name = models.CharField(max_length=200)
    type = models.CharField(max_length=100, blank=True, default="")
    location = models.CharField(max_length=200, blank=True, default="")
    is_active = models.BooleanField(default=True)
    data_interval_seconds = models.PositiveIntegerField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[Machine]] = MachineQuerySet.as_manager()

    class Meta:
        db_table = "machines"
        ordering: ClassVar = ["name", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(name="machines_name_given", condition=~Q(name="")),
            models.CheckConstraint(
                name="machines_interval_positive",
                condition=Q(data_interval_seconds__isnull=True) | Q(data_interval_seconds__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Series(models.Model):
    """A machine x model type. Its row is the lock under which the series' evaluations change."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="series")
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    check_id = models.UUIDField(
        null=True,
        blank=True,
        editable=False,
        help_text="The check that reads the series; whoever changes its evaluations takes it away",
    )
    checked_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When the last check of the whole fleet began that did not leave the series out",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "model_series"
        verbose_name_plural = "series"
        constraints: ClassVar = [
            models.UniqueConstraint(name="model_series_once", fields=["machine", "model_type"]),
        ]

    def __str__(self) -> str:
        return f"{self.machine} · {self.model_type}"


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    """Reads of model versions."""

    def of_series(self, *, machine_id: uuid.UUID, model_type: str) -> ModelVersionQuerySet:
        """Keep the versions of one series."""
        return self.filter(machine_id=machine_id, model_type=model_type)

    def active(self) -> ModelVersionQuerySet:
        """Keep the versions that serve their series."""
        return self.filter(is_active=True)

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> ModelVersionQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class ModelVersion(models.Model):
    """One trained artefact, a version within its series. At most one version is active."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="model_versions")
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    model_version = models.PositiveIntegerField()
    is_active = models.BooleanField(default=False)
    trained_at = models.DateTimeField(null=True, blank=True)
    artefact = models.JSONField(null=True, blank=True)
    feature_names = ArrayField(models.TextField(), default=list, blank=True)
    hyperparameters = models.JSONField(default=dict, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[ModelVersion]] = ModelVersionQuerySet.as_manager()

    class Meta:
        db_table = "model_versions"
        ordering: ClassVar = ["machine", "model_type", "model_version"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_versions_number_once", fields=["machine", "model_type", "model_version"]
            ),
            models.UniqueConstraint(
                name="model_versions_one_active",
                fields=["machine", "model_type"],
                condition=Q(is_active=True),
            ),
            # What the evaluations' composite foreign key refers to: one key enforces the series.
            models.UniqueConstraint(
                name="model_versions_identity",
                fields=["id", "machine", "model_type", "model_version"],
            ),
            models.CheckConstraint(
                name="model_versions_type_slug",
                condition=Q(model_type__regex=MODEL_TYPE_PATTERN),
            ),
            models.CheckConstraint(
                name="model_versions_number_positive", condition=Q(model_version__gte=1)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_type} v{self.model_version}"


class ModelActivationQuerySet(models.QuerySet["ModelActivation"]):
    """Reads of activations."""

    def of_series(self, *, machine_id: uuid.UUID, model_type: str) -> ModelActivationQuerySet:
        """Keep the activations of one series."""
        return self.filter(machine_id=machine_id, model_type=model_type)


class ModelActivation(models.Model):
    """A version came to serve its series in place of another: when, by whom, and why."""

    class Kind(models.TextChoices):
        ACTIVATED = "activated"
        PROMOTED = "promoted"
        ROLLED_BACK = "rolled_back"

    id = models.UUIDField(primary_key=True, default=uuid7)
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="activations")
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="activations")
    model_version = models.PositiveIntegerField()
    previous = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    previous_version = models.PositiveIntegerField(null=True, blank=True)
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.ACTIVATED)
    reason = models.TextField(blank=True, default="")
    activated_by = models.CharField(max_length=200)
    activated_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar[models.Manager[ModelActivation]] = ModelActivationQuerySet.as_manager()

    class Meta:
        db_table = "model_activations"
        ordering: ClassVar = ["-activated_at", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="model_activations_kind",
                condition=Q(kind__in=["activated", "promoted", "rolled_back"]),
            ),
            models.CheckConstraint(
                name="model_activations_previous_paired",
                condition=Q(previous__isnull=True, previous_version__isnull=True)
                | Q(previous__isnull=False, previous_version__isnull=False),
            ),
            models.CheckConstraint(
                name="model_activations_rollback_says_why",
                condition=~Q(kind="rolled_back") | ~Q(reason=""),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["machine", "model_type", "-activated_at"],
                name="model_activations_of_series",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_type} v{self.model_version} {self.kind}"
