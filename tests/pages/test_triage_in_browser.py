"""Twenty alerts triaged by keyboard alone, and what assistive technology makes of each page."""

from __future__ import annotations

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from modelperf.models import Alert
from tests import factories
from tests.pages import worlds
from tests.pages.conftest import Visit, follow

LIST = "/admin/modelperf/alert/"
N = 20
# What the rest of a page's rules find is the same in every light and at every width.
OF_LOOKS = {
    "runOnly": [
        "color-contrast",
        "link-in-text-block",
        "target-size",
        "scrollable-region-focusable",
        "meta-viewport",
    ]
}
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def opened(n: int) -> list[Alert]:
    """Return open alerts, worst first: a series that fell, a fleet alert, and the rest."""
    worlds.series(worlds.noisy(60, fall=0.03, at=40))
    fleet = factories.AlertFactory.create(
        fleet=True, alert_details={"rule": "storm", "n_members": 2, "n_machines": 9}
    )
    for i in range(2):
        model = factories.ModelVersionFactory.create(machine__name=f"pump in hall {i}, north side")
        fleet.members.create(
            machine=model.machine,
            model=model,
            condition_key=str(i),
            joined_at=fleet.alert_timestamp,
        )
    factories.AlertFactory.create_batch(n - 2)
    return list(Alert.objects.worst_first())


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def go_by(page: Page, key: str) -> None:
    """Press a key that leads to another page, and wait until that one listens."""
    with page.expect_navigation():
        page.keyboard.press(key)


def tab_to(page: Page, selector: str, *, key: str = "Tab") -> None:
    """Go on by Tab until what is wanted has the focus."""
    for _ in range(60):
        page.keyboard.press(key)
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    pytest.fail(f"{selector} is not reached by Tab")


def states() -> dict[str, int]:
    return {
        state: Alert.objects.filter(state=state).count()
        for state in ("open", "acknowledged", "snoozed", "resolved")
    }


def test_twenty_alerts_are_triaged_by_keyboard_alone(visit: Visit, superuser: User) -> None:
    assert len(opened(N)) == N
    watched = visit(LIST, user=superuser)
    page = watched.page
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(N)

    # One by one: the first is acknowledged, and the list comes back to where one was.
    press(page, "j")
    go_by(page, "a")
    expect(page.locator(".messagelist")).to_have_text("1 acknowledged.")
    assert states()["acknowledged"] == 1
    assert rows.nth(0).evaluate("row => row.contains(document.activeElement)")

    # Several at once, snoozed until it gets worse.
    press(page, "j", "x", "j", "x", "j", "x")
    go_by(page, "s")
    tab_to(page, "[name=done-worse]")
    press(page, "Space")
    tab_to(page, "[name=confirm]")
    go_by(page, "Enter")
    expect(page.locator(".messagelist")).to_have_text("3 snoozed.")
    assert states()["snoozed"] == 3

    # What is selected by mistake is let go; then two are resolved with a reason.
    press(page, "x", "Escape", "j", "x", "j", "x")
    go_by(page, "e")
    tab_to(page, "[name=done-action]")
    page.keyboard.type("Fixed")
    tab_to(page, "[name=done-notes]")
    page.keyboard.type("a new bearing, jaxes")
    tab_to(page, "[name=confirm]")
    go_by(page, "Enter")
    expect(page.locator(".messagelist")).to_have_text("2 resolved.")
    resolved = Alert.objects.filter(state="resolved")
    assert {one.resolution_notes for one in resolved} == {"a new bearing, jaxes"}
    expect(rows).to_have_count(N - 2)

    # One is opened, taken on its page by Tab and Enter, commented, and left by the breadcrumbs.
    press(page, "j")
    go_by(page, "Enter")
    tab_to(page, "button[value=assign_to_me]")
    go_by(page, "Enter")
    expect(page.locator(".messagelist")).to_have_text("1 assigned.")
    tab_to(page, "#comment")
    page.keyboard.type("Looking into it.")
    tab_to(page, ".comment button")
    go_by(page, "Enter")
    expect(page.locator(".story")).to_contain_text("Looking into it.")
    assert Alert.objects.filter(assignee=superuser).count() == 1
    tab_to(page, f".breadcrumbs a[href='{LIST}']")
    go_by(page, "Enter")

    # Without the keys everything goes by Tab, Space and Enter: all that is left is acknowledged.
    tab_to(page, ".keys-hint button:last-of-type")
    press(page, "Enter", "j", "x", "a")
    expect(page.locator(".keys-hint")).to_have_text("Turn keys on")
    tab_to(page, "#action-toggle")
    press(page, "Space")
    tab_to(page, "button[value=acknowledge]", key="Shift+Tab")
    go_by(page, "Enter")

    assert states() == {"open": 0, "acknowledged": N - 2, "snoozed": 0, "resolved": 2}
    watched.assert_clean()


def test_keys_are_told_switched_off_and_rest_while_somebody_types(
    visit: Visit, superuser: User
) -> None:
    factories.AlertFactory.create()
    watched = visit(LIST, user=superuser)
    page = watched.page

    press(page, "?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    press(page, "a", "Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    press(page, "j", "/")
    page.keyboard.type("jaxes")
    expect(page.locator("#searchbar")).to_have_value("jaxes")
    page.get_by_role("button", name="Turn keys off").click()
    page.reload()
    press(page, "j", "a", "?")

    expect(page.get_by_role("button", name="Turn keys on")).to_be_visible()
    assert page.locator("dialog[open], tr.current").count() == 0
    assert states()["open"] == 1
    watched.assert_clean()


def findings(page: Page, name: str) -> list[str]:
    """Return what is serious or critical, light and dark, at both widths."""
    found = []
    page.evaluate(AXE_SCRIPT)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for width in (1280, 375):
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("Promise.all(document.getAnimations().map(one => one.finished))")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            is_first = (scheme, width) == ("light", 1280)
            options = {"resultTypes": ["violations"], **({} if is_first else OF_LOOKS)}
            for one in page.evaluate("options => axe.run(options)", options)["violations"]:
                if one["impact"] in {"serious", "critical"}:
                    nodes = [node["target"] for node in one["nodes"]]
                    found.append(f"{name}, {scheme} {width}: {one['id']} {nodes}")
    return found


def test_axe_finds_nothing_serious_on_any_page_of_the_triage(visit: Visit, superuser: User) -> None:
    fallen = opened(4)[0]
    watched = visit(LIST, user=superuser)
    page, address = watched.page, watched.page.url
    watched.assert_clean()  # before axe, whose own styles the policy refuses
    found = findings(page, "list")

    for verb in ("resolve", "snooze", "assign", "retrain", "comment"):
        page.goto(address)
        page.locator("input.action-select").first.check()
        follow(page.locator(f"button[value={verb}]"))
        found += findings(page, verb)
    for alert in (fallen, Alert.objects.get(machine=None)):
        page.goto(f"{address}{alert.pk}/change/")
        for summary in page.locator(".alert-page summary").all():
            summary.click()
        found += findings(page, "page")

    assert "\n".join(found) == ""
