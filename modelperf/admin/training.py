"""Training runs: shown, and cancelled."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from modelperf.admin.base import ReadOnlyAdmin, WordsFilter, actor, component
from modelperf.models import TrainingRun
from modelperf.services import training
from modelperf.templatetags.presentation import span


@admin.register(TrainingRun)
class TrainingRunAdmin(ReadOnlyAdmin):
    """What was trained, why, and how it ended."""

    list_display = ("status", "series", "model_version", "reason", "training_start", "duration")
    list_display_links = ("series",)
    list_filter: ClassVar = ["training_status", ("trigger_type", WordsFilter), "model_type"]
    search_fields = ("machine__name", "reason")
    list_select_related = ("machine",)
    ordering = ("-training_start", "-id")
    actions = ("cancel",)

    @admin.display(description="status", ordering="training_status")
    def status(self, run: TrainingRun) -> SafeString:
        """Return glyph and word."""
        return component("run", run=run)

    @admin.display(description="series", ordering="machine__name")
    def series(self, run: TrainingRun) -> str:
        """Return machine and type."""
        return f"{run.machine.name} · {run.model_type}"

    @admin.display(description="took")
    def duration(self, run: TrainingRun) -> str:
        """Return how long it took."""
        return span(run.training_duration_seconds)

    @admin.action(description="Cancel", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Give up runs that wait or are at work."""
        verb = partial(_cancel, by=actor(request))
        self.run(request, queryset, verb, done="cancelled", log="Cancelled.")


def _cancel(run: TrainingRun, *, by: str) -> None:
    training.cancel(run=run, by=by)
