"""Distributions: what a model version was trained on, and what its windows look like since."""

from __future__ import annotations

import uuid
from typing import ClassVar, Final

from django.db import models
from django.db.models import F, Func, Q
from django.db.models.lookups import LessThanOrEqual

from modelperf.models.keys import uuid7
from modelperf.models.registry import MODEL_TYPE_LENGTH, Machine, ModelVersion

FEATURE_LENGTH: Final = 200
LARGEST_PROFILE_BYTES: Final = 20 * 1024


def _octets(column: str) -> Func:
    return Func(F(column), function="octet_length", output_field=models.IntegerField())


class FeatureReferenceQuerySet(models.QuerySet["FeatureReference"]):
    """Reads of references."""

    def current(self) -> FeatureReferenceQuerySet:
        """Leave out those that were replaced."""
        return self.filter(replaced_at__isnull=True)

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> FeatureReferenceQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(model__machine_id__in=machine_ids)


class FeatureReference(models.Model):
    """The distribution that one feature of a model version is compared with.

    It is never changed: another one takes its place, and the replaced one stays as history. Its
    window is the period it describes; windows within it tell how much windows differ anyway.
    """

    class Role(models.TextChoices):
        FEATURE = "feature"
        PREDICTION = "prediction"
        TARGET = "target"

    id = models.UUIDField(primary_key=True, default=uuid7)
    model = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="feature_references"
    )
    name = models.CharField(max_length=FEATURE_LENGTH)
    role = models.CharField(max_length=10, choices=Role.choices)
    kind = models.CharField(max_length=20)
    profile = models.BinaryField()
    n = models.BigIntegerField()
    window_start = models.DateTimeField(null=True, blank=True)
    window_end = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=200, blank=True, default="")
    replaced_at = models.DateTimeField(null=True, blank=True)
    replaced_by = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001

    objects: ClassVar[models.Manager[FeatureReference]] = FeatureReferenceQuerySet.as_manager()

    class Meta:
        db_table = "model_feature_references"
        verbose_name = "reference distribution"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_feature_references_one_current",
                fields=["model", "name"],
                condition=Q(replaced_at__isnull=True),
            ),
            models.CheckConstraint(name="model_feature_references_named", condition=~Q(name="")),
            models.CheckConstraint(
                name="model_feature_references_role",
                condition=Q(role__in=["feature", "prediction", "target"]),
            ),
            models.CheckConstraint(name="model_feature_references_n", condition=Q(n__gte=0)),
            models.CheckConstraint(
                name="model_feature_references_size",
                condition=LessThanOrEqual(_octets("profile"), LARGEST_PROFILE_BYTES),
            ),
            models.CheckConstraint(
                name="model_feature_references_window",
                condition=Q(window_start__isnull=True, window_end__isnull=True)
                | Q(
                    window_start__isnull=False,
                    window_end__isnull=False,
                    window_end__gt=F("window_start"),
                ),
            ),
            models.CheckConstraint(
                name="model_feature_references_replacement_paired",
                condition=Q(replaced_at__isnull=True, replaced_by__isnull=True)
                | Q(replaced_at__isnull=False, replaced_by__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


class WindowProfileQuerySet(models.QuerySet["WindowProfile"]):
    """Reads of window profiles."""

    def within(self, machine_ids: frozenset[uuid.UUID] | None) -> WindowProfileQuerySet:
        """Keep what a limited key may see; None means all."""
        return self if machine_ids is None else self.filter(machine_id__in=machine_ids)


class WindowProfile(models.Model):
    """One feature on one window, counted in the cells of its reference.

    The primary key in the database is (id, machine_id), as with evaluations. `parts` names what
    was added to the window one after the other, each with the digest of its content; a window
    that came as a whole has none.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    model = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    machine = models.ForeignKey(
        Machine, on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    model_type = models.CharField(max_length=MODEL_TYPE_LENGTH)
    model_version = models.PositiveIntegerField()
    reference = models.ForeignKey(FeatureReference, on_delete=models.PROTECT, db_index=False)
    feature = models.CharField(max_length=FEATURE_LENGTH)
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    n = models.BigIntegerField()
    missing = models.BigIntegerField()
    profile = models.BinaryField()
    parts = models.JSONField(default=dict, blank=True)
    revision = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=200, blank=True, default="")

    objects: ClassVar[models.Manager[WindowProfile]] = WindowProfileQuerySet.as_manager()

    class Meta:
        db_table = "model_profiles"
        verbose_name = "window profile"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="model_profiles_natural_key",
                fields=[
                    "machine",
                    "model_type",
                    "window_end",
                    "window_start",
                    "model",
                    "feature",
                ],
            ),
            models.CheckConstraint(
                name="model_profiles_window", condition=Q(window_end__gt=F("window_start"))
            ),
            models.CheckConstraint(
                name="model_profiles_counts", condition=Q(n__gte=0, missing__gte=0)
            ),
            models.CheckConstraint(
                name="model_profiles_size",
                condition=LessThanOrEqual(_octets("profile"), LARGEST_PROFILE_BYTES),
            ),
        ]
        indexes: ClassVar = [
            # The latest windows of one feature, which a check reads.
            models.Index(
                name="model_profiles_of_reference", fields=["reference", "window_end", "machine"]
            ),
        ]

    def __str__(self) -> str:
        return f"{self.feature} to {self.window_end:%Y-%m-%d %H:%M}"
