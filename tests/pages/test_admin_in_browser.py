"""Triage in a real browser: the admin works under the strict policy."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User

from modelperf.models import Alert, ApiKey
from tests import factories
from tests.pages.conftest import Visit, follow

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_alert_is_resolved_with_a_reason(visit: Visit, superuser: User, scheme: str) -> None:
    alert = factories.AlertFactory.create(severity="critical", alert_message="It got worse.")
    factories.AlertFactory.create(fleet=True, alert_message="Many got worse.")
    watched = visit("/admin/modelperf/alert/", user=superuser, scheme=scheme)
    page = watched.page
    assert page.locator("td .badge.degraded").inner_text().strip() == "Critical"

    page.locator(f"input[value='{alert.pk}']").check()
    follow(page.get_by_role("button", name="Resolve…"))
    page.get_by_label("What was done").select_option("fixed")
    page.get_by_label("Notes").fill("a new bearing")
    follow(page.get_by_role("button", name="Resolve", exact=True))

    assert page.locator(".messagelist").inner_text().strip() == "1 resolved."
    assert page.locator("#result_list tbody tr").count() == 1
    alert = Alert.objects.get(pk=alert.pk)
    assert (alert.resolution_action, alert.resolution_notes) == ("fixed", "a new bearing")
    watched.assert_clean()


def test_key_is_made_and_shown_once(visit: Visit, superuser: User) -> None:
    watched = visit("/admin/modelperf/apikey/add/", user=superuser)
    page = watched.page

    page.get_by_label("Name:").fill("nightly")
    page.get_by_label("Read", exact=True).check()
    follow(page.get_by_role("button", name="Save", exact=True))

    text = page.locator(".messagelist code").inner_text()
    assert ApiKey.objects.get_from_key(text).name == "nightly"
    watched.assert_clean()


def test_severity_badges_have_contrast(visit: Visit, superuser: User) -> None:
    for severity in ("critical", "warning", "normal"):
        factories.AlertFactory.create(severity=severity)
    watched = visit("/admin/modelperf/alert/", user=superuser)

    results = Axe().run(watched.page, context=".badge").response

    assert [finding["id"] for finding in results["violations"]] == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 375)])
def test_page_of_a_fleet_alert_fits_its_machines(
    visit: Visit, superuser: User, scheme: str, width: int
) -> None:
    alert = factories.AlertFactory.create(fleet=True, alert_message="Many got worse.")
    for i in range(4):
        model = factories.ModelVersionFactory.create(machine__name=f"pump in hall {i}, north side")
        alert.members.create(
            machine=model.machine,
            model=model,
            condition_key=str(i),
            details={"peak_statistic": 7.25, "baseline": 1.25, "current": 1.75}
            | {"changed_at": "2026-11-01T00:00:00Z"},
            joined_at=alert.alert_timestamp,
        )

    watched = visit(
        f"/admin/modelperf/alert/{alert.pk}/change/", user=superuser, scheme=scheme, width=width
    )

    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    assert watched.page.get_by_role("region", name="Machines", exact=True).is_visible()
    watched.assert_clean()
