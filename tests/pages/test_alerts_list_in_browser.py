"""The list of alerts in a browser: what it is like with long texts, and on a narrow screen."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests import factories
from tests.pages.conftest import Visit

LIST = "/admin/modelperf/alert/"
OVERFLOWING = """[...document.querySelectorAll("#result_list :is(td, th)")]
    .filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.className)"""
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def long_rows() -> None:
    """Store alerts of long names and numbers, snoozed until whichever of three ends is first."""
    for name in ("Electricity for heating and cooling, hall 32", "x" * 200):
        model = factories.ModelVersionFactory.create(
            machine__name=name, machine__metadata={"unit": "kWh"}
        )
        factories.AlertFactory.create(
            model=model,
            alert_message=f"{name} · baseline v1: {name} {'y' * 300}",
            alert_details={"rule": "change_point", "metric": "rmse", "peak_statistic": 17.8},
            current_metric_value=2_140_013.0,
            baseline_metric_value=1_505_174.0,
            threshold_value=3.9,
            state="snoozed",
            snoozed_until=timezone.now() + timedelta(days=1),
            snoozed_until_count=900,
            snoozed_until_worse=True,
        )


def fits(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 812})
    results = page.get_by_role("region", name="Alerts, scrolls sideways")
    assert results.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert page.evaluate(OVERFLOWING) == []


def test_long_rows_fit_and_a_narrow_screen_begins_with_the_alerts(
    visit: Visit, superuser: User
) -> None:
    long_rows()
    watched = visit(LIST, user=superuser)
    page = watched.page
    first, verbs = page.locator("#result_list tbody tr").first, page.locator(".actions")
    severity = page.get_by_text("Severity", exact=True).first

    fits(page, 1280)
    expect(verbs).to_be_visible()
    expect(severity).to_be_visible()

    fits(page, 375)
    expect(verbs).to_be_hidden()
    expect(severity).to_be_hidden()
    assert (first.bounding_box() or {"y": 812})["y"] < 812 * 0.6
    page.get_by_text("Filters", exact=True).click()
    expect(severity).to_be_visible()
    page.locator("input.action-select").last.check()
    expect(verbs).to_be_in_viewport(ratio=1)
    watched.assert_clean()


def test_an_open_menu_closes_by_escape_and_by_a_click_elsewhere(
    visit: Visit, superuser: User
) -> None:
    factories.AlertFactory.create()
    watched = visit(LIST, user=superuser)
    page = watched.page
    summary = page.locator(".menu summary", has_text="Severity")
    choice = page.get_by_role("link", name="Critical")
    page.locator("input.action-select").check()

    summary.click()
    expect(choice).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(choice).to_be_hidden()
    expect(summary).to_be_focused()
    assert page.locator("input.action-select").is_checked(), "that Escape was for the menu"

    summary.click()
    expect(choice).to_be_visible()
    page.get_by_role("heading", name="Alerts").click()
    expect(choice).to_be_hidden()
    watched.assert_clean()
