"""A/B tests, shown."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from modelperf.admin.base import ReadOnlyAdmin, component
from modelperf.models import ABLook, ABRowState, ABTest
from modelperf.services import ab_tests
from modelperf.templatetags.presentation import number

MOST_LOOKS = 10


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
    readonly_fields = ("stands", "observations", "looks")
    actions = None

    @admin.display(description="where it stands")
    def stands(self, test: ABTest) -> str:
        """Return the recommendation: as stored once the test is over, else as of now."""
        return ab_tests.results(test=test).recommendation

    @admin.display(description="observations")
    def observations(self, test: ABTest) -> str:
        """Return how many rows of each arm were observed."""
        state = ABRowState.objects.filter(test=test).first()
        return f"{state.rows_a:,} · {state.rows_b:,} as {state.form}" if state else "none"

    @admin.display(description="newest looks")
    def looks(self, test: ABTest) -> SafeString:
        """Return what the last looks at the observations have seen, the newest first."""
        newest = ABLook.objects.filter(test=test).order_by("-rows")[:MOST_LOOKS]
        lines = ((f"{look.rows:,}", _interval(look), number(look.p_value)) for look in newest)
        return format_html_join("", "<div>after {} rows: {}, p = {}</div>", lines)

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


def _interval(look: ABLook) -> str:
    """Return the difference of the losses with its interval, once it has one."""
    if look.low is None or look.high is None:
        return number(look.mean_difference)
    return f"{number(look.mean_difference)} ({number(look.low)} to {number(look.high)})"
