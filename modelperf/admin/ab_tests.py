"""A/B tests, shown."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.utils.safestring import SafeString

from modelperf.admin.base import ReadOnlyAdmin, component
from modelperf.models import ABTest


@admin.register(ABTest)
class ABTestAdmin(ReadOnlyAdmin):
    """Which versions were compared, and what came of it."""

    list_display = (
        "status",
        "test_name",
        "series",
        "versions",
        "test_start",
        "test_end",
        "decision",
    )
    list_display_links = ("test_name",)
    list_filter: ClassVar = ["test_status", "decision", "model_type"]
    search_fields = ("test_name", "machine__name")
    list_select_related = ("machine",)
    ordering = ("-test_start", "-id")
    actions = None

    @admin.display(description="status", ordering="test_status")
    def status(self, test: ABTest) -> SafeString:
        """Return glyph and word."""
        return component("test", test=test)

    @admin.display(description="series", ordering="machine__name")
    def series(self, test: ABTest) -> str:
        """Return machine and type."""
        return f"{test.machine.name} · {test.model_type}"

    @admin.display(description="versions")
    def versions(self, test: ABTest) -> str:
        """Return both versions."""
        return f"v{test.model_a_version} · v{test.model_b_version}"
