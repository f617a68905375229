"""Training runs: shown, and cancelled."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from modelperf.admin.base import ReadOnlyAdmin, WordsFilter, actor, component
from modelperf.models import TrainingRun
from modelperf.services import training, training_failures
from modelperf.templatetags.presentation import NOTHING, ago, moment, number, span, window, words

# What a trainer put out, and why and where it broke, may tell of files and addresses.
CONFIDENTIAL: Final = ("error_message", "error_traceback", "training_log")


@admin.register(TrainingRun)
class TrainingRunAdmin(ReadOnlyAdmin):
    """What was trained, why, by what, how far it is, and how it ended."""

    list_display = (
        "status",
        "series",
        "model_version",
        "asked_by",
        "reason",
        "trainer",
        "progress",
        "attempt",
        "asked",
        "duration",
    )
    list_display_links = ("series",)
    list_filter: ClassVar = [
        "training_status",
        ("trigger_type", WordsFilter),
        "trainer",
        "model_type",
    ]
    search_fields = ("machine__name", "reason")
    list_select_related = ("machine",)
    ordering = ("-training_start", "-id")
    actions = ("cancel",)
    fieldsets = (
        (None, {"fields": ("status", "machine", "model_type", "reason", "asked_by", "asked")}),
        ("Work", {"fields": ("trainer", "attempt", "progress", "heard_of", "lease", "retry",
            "started", "ended", "duration", "expected")}),
        ("Data", {"fields": ("data", "training_samples", "feature_names", "hyperparameters")}),
        ("Outcome", {"fields": ("model", "training", "validation")}),
        ("Belongs to", {"fields": ("alert", "tests")}),
    )  # fmt: skip

    def get_fieldsets(self, request: HttpRequest, obj: TrainingRun | None = None) -> Any:
        """Show what went wrong, and what the trainer put out, to those who may know."""
        shown: Any = super().get_fieldsets(request, obj)
        if training_failures.may_know(request.user):
            shown = (*shown, ("Put out", {"fields": CONFIDENTIAL}))
        return shown

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingRun]:
        """Leave large documents out of the list."""
        match = request.resolver_match
        is_list = match is not None and (match.url_name or "").endswith("changelist")
        found: QuerySet[TrainingRun] = super().get_queryset(request)
        return found.defer("hyperparameters", "feature_names", *CONFIDENTIAL) if is_list else found

    @admin.display(description="status", ordering="training_status")
    def status(self, run: TrainingRun) -> SafeString:
        """Return glyph and word."""
        return component("run", run=run)

    @admin.display(description="series", ordering="machine__name")
    def series(self, run: TrainingRun) -> str:
        """Return machine and type."""
        return f"{run.machine.name} · {run.model_type}"

    @admin.display(description="asked for by")
    def asked_by(self, run: TrainingRun) -> str:
        """Return what asked for it, and who."""
        return ", ".join(filter(None, (words(run.trigger_type), run.triggered_by)))

    @admin.display(description="asked for", ordering="created_at")
    def asked(self, run: TrainingRun) -> str:
        """Return when it was asked for."""
        return f"{moment(run.created_at)}, {ago(run.created_at)}"

    @admin.display(description="progress")
    def progress(self, run: TrainingRun) -> str:
        """Return how far it is, and what it does."""
        percent = "" if run.progress_percent is None else f"{run.progress_percent:.0f} %"
        return ", ".join(filter(None, (percent, run.progress_message))) or NOTHING

    @admin.display(description="last heard of")
    def heard_of(self, run: TrainingRun) -> str:
        """Return when whoever works on it was last heard of."""
        return _seconds(run.heartbeat_at)

    @admin.display(description="given up")
    def lease(self, run: TrainingRun) -> str:
        """Return when it is taken from whoever works on it, unless he is heard of."""
        return _seconds(run.leased_until)

    @admin.display(description="tried again")
    def retry(self, run: TrainingRun) -> str:
        """Return when a run that waits is tried again."""
        return _seconds(run.retry_at)

    @admin.display(description="started")
    def started(self, run: TrainingRun) -> str:
        """Return when the work on it began."""
        return _both(run.training_start) if run.attempt or run.training_end else NOTHING

    @admin.display(description="ended")
    def ended(self, run: TrainingRun) -> str:
        """Return when it was over."""
        return _both(run.training_end)

    @admin.display(description="took")
    def duration(self, run: TrainingRun) -> str:
        """Return how long it took."""
        return span(run.training_duration_seconds)

    @admin.display(description="expected to end")
    def expected(self, run: TrainingRun) -> str:
        """Return when past runs would be done."""
        if run.training_status not in TrainingRun.UNFINISHED:
            return NOTHING
        due = training.estimated_completion(run)
        return _both(due) if due else "no estimate: no past run"

    @admin.display(description="data window")
    def data(self, run: TrainingRun) -> str:
        """Return the window of the data."""
        return window(run.training_data_start, run.training_data_end)

    @admin.display(description="training metrics")
    def training(self, run: TrainingRun) -> SafeString | str:
        """Return what the trainer reported of the data it was trained on."""
        return _metrics(run.training_metrics)

    @admin.display(description="validation metrics")
    def validation(self, run: TrainingRun) -> SafeString | str:
        """Return what the trainer reported out of sample."""
        return _metrics(run.validation_metrics)

    @admin.display(description="A/B tests")
    def tests(self, run: TrainingRun) -> SafeString | str:
        """Return the tests that started by themselves for its version."""
        found = run.ab_tests.order_by("created_at")
        lines = (
            (reverse("admin:modelperf_abtest_change", args=[test.pk]), test.test_name)
            for test in found
        )
        return format_html_join("", '<div><a href="{}">{}</a></div>', lines) or NOTHING

    @admin.action(description="Cancel", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Give up runs that wait or are at work."""
        verb = partial(_cancel, by=actor(request))
        self.run(request, queryset, verb, done="cancelled", log="Cancelled.")


def _seconds(when: datetime | None) -> str:
    """Return how far away a moment is, to the second: leases are short."""
    if when is None:
        return NOTHING
    passed = timezone.now() - when
    told = f"{span(passed)} ago" if passed.total_seconds() >= 0 else f"in {span(-passed)}"
    return f"{told}, {moment(when)}"


def _both(when: datetime | None) -> str:
    return f"{moment(when)}, {ago(when)}" if when else NOTHING


def _metrics(metrics: dict[str, Any]) -> SafeString | str:
    lines = ((name, _number(value)) for name, value in sorted(metrics.items()))
    return format_html_join("", "<div>{} {}</div>", lines) or NOTHING


def _number(value: Any) -> SafeString:
    is_number = isinstance(value, int | float)
    return format_html("{}", number(value) if is_number else value)


def _cancel(run: TrainingRun, *, by: str) -> None:
    training.cancel(run=run, by=by)
