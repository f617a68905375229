"""Reference distributions and window profiles: shown only, services write them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from modelperf.admin.base import ReadOnlyAdmin
from modelperf.admin.metrics import MOST_COUNTED, BoundedPaginator
from modelperf.models import FeatureReference, WindowProfile
from modelperf.templatetags.presentation import window


class _ProfileAdmin(ReadOnlyAdmin):
    """Lists leave the counts out, which are up to 20 KB a row."""

    paginator = BoundedPaginator
    search_help_text = f"By machine or feature. The newest {MOST_COUNTED:,} are listed."
    # The key grows with time and is indexed: no other order of all rows is cheap.
    ordering = ("-id",)
    sortable_by = ()
    exclude = ("profile",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave the counts where they are."""
        return super().get_queryset(request).defer("profile")


@admin.register(FeatureReference)
class FeatureReferenceAdmin(_ProfileAdmin):
    """What features are compared with, replaced ones included."""

    list_display = (
        "name",
        "series",
        "role",
        "kind",
        "n",
        "created_at",
        "created_by",
        "replaced_at",
    )
    list_filter: ClassVar = ["role", ("replaced_at", admin.EmptyFieldListFilter)]
    search_fields = ("name", "model__machine__name")
    list_select_related = ("model__machine",)

    @admin.display(description="model version")
    def series(self, row: FeatureReference) -> str:
        """Return machine, type and version."""
        return f"{row.model.machine.name} · {row.model}"


@admin.register(WindowProfile)
class WindowProfileAdmin(_ProfileAdmin):
    """The windows that were recorded, one row a feature."""

    list_display = ("feature", "series", "window", "n", "missing", "n_parts", "revision")
    list_filter = ("reference__role",)
    search_fields = ("feature", "machine__name")
    list_select_related = ("machine",)

    @admin.display(description="model version")
    def series(self, row: WindowProfile) -> str:
        """Return machine, type and version."""
        return f"{row.machine.name} · {row.model_type} v{row.model_version}"

    @admin.display(description="window, UTC")
    def window(self, row: WindowProfile) -> str:
        """Return the window."""
        return window(row.window_start, row.window_end)

    @admin.display(description="parts")
    def n_parts(self, row: WindowProfile) -> int | str:
        """Return how many parts were added up; a window that came as a whole has none."""
        return len(row.parts) or "–"
