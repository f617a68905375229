"""Policies: how the series of a model type are judged."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from modelperf.admin.base import ObjectForm, ServiceAdmin, actor
from modelperf.models import Policy
from modelperf.services import policies
from modelperf.stats.results import MetricKind


class PolicyForm(ObjectForm):
    """The values of a policy."""

    class Meta:
        model = Policy
        fields = (
            "model_type",
            "primary_metric",
            "directions",
            "min_effect",
            "limit_value",
            "clear_value",
            "expected_cadence_seconds",
        )

        help_texts: ClassVar = {
            "primary_metric": "The metric that is judged. Empty: the first one reported of those"
            " that modelperf knows.",
            "directions": 'Kind of each metric: {"nmbe": "target_zero"}. One of '
            + ", ".join(MetricKind)
            + ".",
            "min_effect": "Smallest change that counts, as a share of the level before (0.02 is"
            " 2 %); for target_zero in the metric's own unit (5 is 5 points of nmbe).",
            "limit_value": "In the metric's own unit: an alert opens where the last evaluations"
            " are beyond it, whether or not anything changed. Empty: no limit.",
            "clear_value": "In the metric's own unit: where a crossed limit counts as over, on the"
            " good side of the limit. Empty: at the limit itself.",
            "expected_cadence_seconds": "Seconds from one evaluation to the next; a series is"
            " stale after twice as long.",
        }

    def clean_directions(self) -> dict[str, Any]:
        """Refuse what is no object."""
        return self.cleaned_object("directions")


@admin.register(Policy)
class PolicyAdmin(ServiceAdmin):
    """A type without a policy is judged by the defaults."""

    form = PolicyForm
    list_display = (
        "model_type",
        "primary_metric",
        "min_effect",
        "limit_value",
        "clear_value",
        "expected_cadence_seconds",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Keep the type of a policy that exists."""
        return ("model_type",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Policy, form: Any, change: bool) -> None:
        """Write through the service."""
        values = dict(form.cleaned_data)
        values.pop("model_type", None)
        policy = policies.set_policy(model_type=obj.model_type, values=values, by=actor(request))
        obj.pk = policy.pk
