"""Policies: how series are judged and what their models are trained on, with every change."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from modelperf.admin.base import ModelForm, ReadOnlyAdmin, ServiceAdmin, actor
from modelperf.admin.policies_training import RETRAINING_HELP
from modelperf.models import Policy, PolicyEvent
from modelperf.services import policies
from modelperf.services.policies import SETTINGS, PolicyValues
from modelperf.stats.results import MetricKind

DEFAULTS = PolicyValues()


class ObjectField(forms.JSONField):
    """An object, or nothing at all."""

    def prepare_value(self, value: Any) -> Any:
        """Show nothing as nothing."""
        return "" if value is None else super().prepare_value(value)

    def clean(self, value: Any) -> Any:
        """Refuse what is no object."""
        found = super().clean(value)
        if found is not None and not isinstance(found, dict):
            raise forms.ValidationError('Write an object, such as {"unit": "kWh"}.')
        return found


class PolicyForm(ModelForm):
    """The settings of a policy, each of which may be left empty."""

    class Meta:
        model = Policy
        fields = ("model_type", "machine", *SETTINGS)
        field_classes: ClassVar = dict.fromkeys(
            ("directions", "season", "training_source", "trainer"), ObjectField
        )
        help_texts: ClassVar = {
            "machine": "Empty: the settings of the type. With a machine: what differs on it.",
            "primary_metric": "The metric that is judged. Empty: R² where it is reported, else the"
            " first one reported of those that modelperf knows.",
            "directions": 'Kind of each metric: {"nmbe": "target_zero"}. One of '
            + ", ".join(MetricKind)
            + ".",
            "min_effect": "Smallest change that counts, as a share of the level before (0.02 is"
            " 2 %); for target_zero in the metric's own unit (5 is 5 points of nmbe)."
            f" Default {DEFAULTS.min_effect}.",
            "limit_value": "In the metric's own unit: an alert opens where the last evaluations"
            " are beyond it, whether or not anything changed. Empty: no limit.",
            "clear_value": "In the metric's own unit: where a crossed limit counts as over, on the"
            " good side of the limit. Empty: at the limit itself.",
            "limit_hits": "So many of the last windows must be beyond the limit. Default"
            f" {DEFAULTS.limit_hits}.",
            "limit_windows": f"So many windows are looked at. Default {DEFAULTS.limit_windows}.",
            "limit_clear_windows": "So many good windows in a row end the alert."
            f" Default {DEFAULTS.limit_clear_windows}.",
            "q": "Share of false alarms among the alerts of a run, up to 0.2. Default"
            f" {DEFAULTS.q}.",
            "min_evaluations": "With fewer no change is looked for, from 15 to 400. Default"
            f" {DEFAULTS.min_evaluations}.",
            "label_delay_seconds": "Windows that ended less than so many seconds ago are not judged"
            " yet, since their labels are still to come. Default 0.",
            "expected_cadence_seconds": "Seconds from one evaluation to the next; a series is"
            " stale after twice as long and the label delay. Empty: nothing is ever missing.",
            "alert_on_outlier": "Whether a single evaluation far off its neighbours is an alert."
            " Default no.",
            "season": 'A season to take out: {"period_days": 365.25, "harmonics": 2}.',
            "fleet_alert_machines": "From so many machines on that fall together they are one"
            f" alert. Default {DEFAULTS.fleet_alert_machines}.",
            "fleet_alert_share": "And from this share of the machines on. Default"
            f" {DEFAULTS.fleet_alert_share}.",
            **RETRAINING_HELP,
        }


@admin.register(Policy)
class PolicyAdmin(ServiceAdmin):
    """What is left empty is inherited: a machine's from its type, a type's from the defaults."""

    form = PolicyForm
    list_display = (
        "model_type",
        "machine",
        "primary_metric",
        "min_effect",
        "limit_value",
        "clear_value",
        "expected_cadence_seconds",
    )
    list_filter = ("model_type",)
    list_select_related = ("machine",)
    search_fields = ("model_type", "machine__name")
    autocomplete_fields = ("machine",)
    fieldsets = (
        (None, {"fields": ("model_type", "machine", "changes")}),
        ("What is judged", {"fields": ("primary_metric", "directions", "season")}),
        ("When something changed", {"fields": ("min_effect", "min_evaluations", "q")}),
        (
            "Limit",
            {
                "fields": (
                    "limit_value",
                    "clear_value",
                    "limit_hits",
                    "limit_windows",
                    "limit_clear_windows",
                )
            },
        ),
        ("When evaluations come", {"fields": ("expected_cadence_seconds", "label_delay_seconds")}),
        (
            "Alerts",
            {"fields": ("alert_on_outlier", "fleet_alert_machines", "fleet_alert_share")},
        ),
        (
            "Training",
            {
                "fields": (
                    "trainer",
                    "training_source",
                    "training_window_days",
                    "train_since_change",
                    "training_retries",
                    "after_training",
                    "test_duration_hours",
                )
            },
        ),
        (
            "Retraining",
            {
                "fields": (
                    "retrain_automatically",
                    "retrain_every_seconds",
                    "retrain_cooldown_seconds",
                    "retrain_tries",
                    "retrain_daily_cap",
                )
            },
        ),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Keep what a policy that exists is about."""
        return ("model_type", "machine", "changes") if obj else ("changes",)

    @admin.display(description="changes")
    def changes(self, policy: Policy) -> str:
        """Return the way to all changes of the type's policies."""
        if not policy.model_type:
            return "-"
        address = reverse("admin:modelperf_policyevent_changelist")
        asked = urlencode({"model_type": policy.model_type})
        return format_html('<a href="{}?{}">Every change, and by whom</a>', address, asked)

    def save_model(self, request: HttpRequest, obj: Policy, form: Any, change: bool) -> None:
        """Write through the service."""
        stored = policies.set_policy(
            model_type=obj.model_type,
            machine=obj.machine,
            values={name: form.cleaned_data[name] for name in SETTINGS},
            by=actor(request),
        )
        obj.pk = stored.pk


@admin.register(PolicyEvent)
class PolicyEventAdmin(ReadOnlyAdmin):
    """Every change of a policy: as it stood after it was set or changed, or before its removal."""

    list_display = ("pgh_created_at", "model_type", "machine", "event", "by")
    list_filter = ("model_type",)
    list_select_related = ("machine",)
    fields = ("pgh_created_at", "event", "by", "model_type", "machine", *SETTINGS)

    @admin.display(description="event")
    def event(self, change: Any) -> str:
        """Return what happened."""
        return str(change.pgh_label)

    @admin.display(description="by")
    def by(self, change: Any) -> str:
        """Return who did it; a change that went past modelperf has nobody."""
        return str((change.pgh_context or {}).get("actor", "–"))
