"""Who may call the API: hashed keys with scopes, an expiry and optionally named machines."""

from __future__ import annotations

from typing import ClassVar, Final

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from rest_framework_api_key.models import AbstractAPIKey

from modelperf.models.registry import Machine


class ApiKey(AbstractAPIKey):
    """A key that authenticates a program. Only its hash is kept."""

    class Scope(models.TextChoices):
        READ = "read"
        WRITE = "write"
        TRAIN = "train"
        TRIAGE = "triage"
        ADMIN = "admin"

    scopes = ArrayField(models.CharField(max_length=10, choices=Scope.choices))
    machines = models.ManyToManyField(
        Machine,
        blank=True,
        db_table="api_key_machines",
        help_text="Where given, the key sees and changes these machines only.",
    )

    is_limited = models.BooleanField(
        default=False,
        help_text="It was made for named machines: when those are deleted it sees nothing.",
    )

    class Meta(AbstractAPIKey.Meta):
        db_table = "api_keys"
        verbose_name = "API key"
        constraints: ClassVar = [
            models.CheckConstraint(
                name="api_keys_scopes",
                condition=Q(scopes__contained_by=["read", "write", "train", "triage", "admin"])
                & ~Q(scopes=[]),
            ),
        ]


# What a logged-in user needs for what a key needs a scope for; a superuser has them all, and
# every user may read.
PERMISSION_OF_SCOPE: Final[dict[str, str]] = {
    ApiKey.Scope.WRITE: "modelperf.add_modelperformancemetric",
    ApiKey.Scope.TRAIN: "modelperf.add_trainingrun",
    ApiKey.Scope.TRIAGE: "modelperf.change_alert",
    ApiKey.Scope.ADMIN: "modelperf.change_policy",
}
