"""Evaluations: millions of rows, shown newest first and never counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.functional import cached_property
from django.utils.html import format_html

from modelperf.admin.base import ReadOnlyAdmin, actor, component
from modelperf.models import ModelPerformanceMetric
from modelperf.services import metrics
from modelperf.templatetags.presentation import NOTHING, number, window

MOST_COUNTED = 2000
MOST_NAMED = 50
DELETE = "admin/modelperf/modelperformancemetric/delete.html"

if TYPE_CHECKING:
    _Paginator = Paginator[ModelPerformanceMetric]
else:  # generic for the type checker only
    _Paginator = Paginator


class BoundedPaginator(_Paginator):
    """Counts no further than the list goes: PostgreSQL would read the whole table for a count."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most `MOST_COUNTED`."""
        rows: Any = self.object_list
        return int(rows.order_by()[:MOST_COUNTED].count())


@admin.register(ModelPerformanceMetric)
class EvaluationAdmin(ReadOnlyAdmin):
    """The newest recorded evaluations. Wrong ones are corrected by sending them again."""

    paginator = BoundedPaginator
    list_display = (
        "series",
        "model_version",
        "window",
        "sample_count",
        "shown_metrics",
        "drift",
        "revision",
    )
    list_filter = ("drift_detected",)
    search_fields = ("machine__name",)
    search_help_text = f"By machine. The newest {MOST_COUNTED:,} are listed."
    list_select_related = ("machine",)
    # The key grows with time and is indexed: no other order of all rows is cheap.
    ordering = ("-id",)
    sortable_by = ()
    actions = ("delete_evaluations",)

    @admin.display(description="series")
    def series(self, row: ModelPerformanceMetric) -> str:
        """Return machine and type."""
        return f"{row.machine.name} · {row.model_type}"

    @admin.display(description="window, UTC")
    def window(self, row: ModelPerformanceMetric) -> str:
        """Return the window."""
        return window(row.evaluation_start, row.evaluation_end)

    @admin.display(description="drift")
    def drift(self, row: ModelPerformanceMetric) -> str:
        """Return whether drift was found at it: a mark of good or bad would say the contrary."""
        if not row.drift_detected:
            return NOTHING
        glyph = component("glyph", name="degraded", css="")
        return format_html('<span class="st degraded">{}Drift</span>', glyph)

    @admin.display(description="metrics")
    def shown_metrics(self, row: ModelPerformanceMetric) -> str:
        """Return the metrics, rounded."""
        return ", ".join(f"{name} {number(value)}" for name, value in sorted(row.metrics.items()))

    def has_erase_permission(self, request: HttpRequest) -> bool:
        """Whether the user may delete. Django's own deletion, which judges nothing, stays off."""
        return request.user.has_perm("modelperf.delete_modelperformancemetric")

    @admin.action(description="Delete… (series are judged anew)", permissions=["erase"])
    def delete_evaluations(
        self, request: HttpRequest, queryset: QuerySet[ModelPerformanceMetric]
    ) -> HttpResponse | None:
        """Ask once more, then delete the selected evaluations with their revisions."""
        doomed = list(queryset.order_by("-id")[:MOST_COUNTED])
        if "confirm" not in request.POST:
            return TemplateResponse(request, DELETE, self._delete_context(request, doomed))
        with transaction.atomic():
            self.log_deletions(request, queryset.filter(pk__in=[row.pk for row in doomed]))
            count = metrics.delete(metrics=doomed, by=actor(request))
        self.message_user(request, f"{count} deleted, their series judged anew.", messages.SUCCESS)
        return None

    def _delete_context(
        self, request: HttpRequest, doomed: list[ModelPerformanceMetric]
    ) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": "Delete evaluations",
            "opts": self.opts,
            "count": len(doomed),
            "shown": [f"{self.series(row)}, {self.window(row)}" for row in doomed[:MOST_NAMED]],
            "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
            "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "select_across": request.POST.get("select_across", "0"),
        }
