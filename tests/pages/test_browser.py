"""The pages in a real browser: light and dark, wide and narrow, with and without scripts."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User

from modelperf.models import ModelVersion
from tests import factories
from tests.pages import worlds
from tests.pages.conftest import Visit, Watched, follow

PAGE = "/ui/model-performance"
LOOKS = [("light", 1280), ("dark", 1280), ("light", 375), ("dark", 375)]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def degraded() -> ModelVersion:
    """Return a degraded series in a fleet that also has a stable, a silent and an empty one."""
    worlds.series(worlds.noisy(40), name="a stable pump with a name that is rather long to show")
    worlds.series(worlds.noisy(40), name="silent", last_end=worlds.midnight() - 40 * worlds.DAY)
    worlds.machine("without a model")
    machine = worlds.machine(
        "pump 7", location="hall 1", metadata={"notice": "Simulated.", "unit": "kWh"}
    )
    model = worlds.version(machine)
    worlds.record(model, worlds.noisy(80, fall=0.03, at=60), skip=range(20, 30))
    challenger = worlds.version(machine, active=False)
    worlds.record(challenger, worlds.noisy(30, level=0.92))
    factories.AlertFactory.create(fleet=True, severity="critical", alert_message="Many fell.")
    factories.TrainingRunFactory.create(machine=machine, failed=True)
    return model


def serious(watched: Watched) -> list[str]:
    """Return the serious and critical findings of axe."""
    results: dict[str, Any] = Axe().run(watched.page).response
    return [
        f"{finding['id']}: {[node['html'][:120] for node in finding['nodes']]}"
        for finding in results["violations"]
        if finding["impact"] in {"serious", "critical"}
    ]


def widths(watched: Watched) -> tuple[int, int]:
    found = watched.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    return found[0], found[1]


def background(watched: Watched) -> str:
    colour: str = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return colour


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_series_is_accessible_clean_and_fits(
    visit: Visit, user: User, degraded: ModelVersion, scheme: str, width: int
) -> None:
    watched = visit(f"{PAGE}?machine={degraded.machine_id}", user=user, scheme=scheme, width=width)

    assert watched.page.locator(".badge.degraded").count() == 1
    assert widths(watched) == (width, width)
    assert serious(watched) == []
    watched.assert_clean()


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_login_is_accessible_clean_and_fits(visit: Visit, scheme: str, width: int) -> None:
    watched = visit("/login", scheme=scheme, width=width)

    assert widths(watched) == (width, width)
    assert serious(watched) == []
    watched.assert_clean()


@pytest.mark.parametrize("path", ["", "?machine=unknown", "?days=0", "?find=nobody"])
def test_page_that_has_nothing_to_show_is_accessible(visit: Visit, user: User, path: str) -> None:
    if path:
        worlds.machine()
    watched = visit(PAGE + path, user=user, width=375)

    assert widths(watched) == (375, 375)
    assert serious(watched) == []
    assert watched.violations() == []


def test_login_leads_to_the_page_that_was_asked_for(visit: Visit, degraded: ModelVersion) -> None:
    factories.UserFactory.create(username="ada", password="the analytical engine")
    watched = visit(f"{PAGE}?machine={degraded.machine_id}")
    page = watched.page

    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password").fill("wrong")
    follow(page.get_by_role("button", name="Log in"))
    assert "correct username and password" in page.get_by_role("alert").inner_text()

    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password").fill("the analytical engine")
    follow(page.get_by_role("button", name="Log in"))
    assert page.locator("h1").inner_text().startswith("pump 7")

    follow(page.get_by_role("button", name="Log out"))
    assert page.url.endswith("/login")
    watched.assert_clean()


@pytest.mark.parametrize("javascript", [True, False])
def test_pickers_put_the_choice_into_the_address(
    visit: Visit, user: User, degraded: ModelVersion, javascript: bool
) -> None:
    page = visit(PAGE, user=user, javascript=javascript).page

    page.get_by_label("Machine", exact=True).select_option(label="silent")
    page.get_by_label("Period").select_option(label="90 days")
    follow(page.get_by_role("button", name="Show"))

    assert "days=90" in page.url
    assert page.locator("h1").inner_text().startswith("silent")
    assert page.locator(".badge.old").count() == 1

    page.get_by_label("Metric").select_option(label="RMSE")
    follow(page.get_by_role("button", name="Show"))

    assert "metric=rmse" in page.url
    assert page.locator(".ctitle h2").inner_text().startswith("RMSE")


def test_unknown_machine_leaves_no_number_of_the_one_before(
    visit: Visit, user: User, degraded: ModelVersion, live_server: Any
) -> None:
    page = visit(f"{PAGE}?machine={degraded.machine_id}", user=user).page
    assert page.locator("figure").count() == 1

    page.goto(f"{live_server.url}{PAGE}?machine=00000000-0000-0000-0000-000000000000")

    assert page.locator("h1").inner_text() == "Machine not found"
    assert page.locator("figure, .badge, td").count() == 0


@pytest.mark.parametrize("javascript", [True, False])
def test_theme_is_chosen_kept_and_given_back(
    visit: Visit, user: User, degraded: ModelVersion, javascript: bool
) -> None:
    watched = visit(f"{PAGE}?days=90", user=user, javascript=javascript)
    page = watched.page
    light = page.locator("html")
    assert light.get_attribute("data-theme") is None

    follow(page.get_by_role("button", name="Dark theme"))
    assert page.url.endswith("?days=90")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    if javascript:
        assert background(watched) == "rgb(20, 21, 23)"

    page.reload()
    follow(page.get_by_role("button", name="Light theme"))
    assert page.locator("html").get_attribute("data-theme") == "light"

    follow(page.get_by_role("button", name="Theme as the system has it"))
    assert page.locator("html").get_attribute("data-theme") is None


def test_chosen_light_theme_wins_over_a_dark_system(
    visit: Visit, user: User, degraded: ModelVersion
) -> None:
    watched = visit(PAGE, user=user, scheme="dark")
    assert background(watched) == "rgb(20, 21, 23)"

    follow(watched.page.get_by_role("button", name="Light theme"))

    assert background(watched) == "rgb(252, 252, 251)"
    assert serious(watched) == []


def test_keyboard_reaches_the_pickers_after_the_skip_link(
    visit: Visit, user: User, degraded: ModelVersion
) -> None:
    page = visit(PAGE, user=user).page

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.id") == "pick-machine"


def test_stored_markup_stays_text_in_the_browser(visit: Visit, user: User) -> None:
    machine = worlds.machine(worlds.MARKUP, metadata={"notice": worlds.MARKUP})
    worlds.record(worlds.version(machine), worlds.noisy(40))

    watched = visit(PAGE, user=user)

    assert worlds.MARKUP in watched.page.locator("h1").inner_text()
    assert watched.page.locator("main b:text-is('bold')").count() == 0
    watched.assert_clean()


def test_chart_is_told_in_words_and_drawn_where_the_gap_is(
    visit: Visit, user: User, degraded: ModelVersion
) -> None:
    page = visit(f"{PAGE}?machine={degraded.machine_id}", user=user).page

    chart = page.get_by_role("img", name="R² over time")
    assert chart.count() == 1
    told = page.locator(f"#{chart.get_attribute('aria-describedby')}").inner_text()
    assert told.startswith("R² of 100 evaluations from")
    assert page.locator(".plot .gap").count() == 1
    assert page.locator(".plot .chg").count() == 1
    assert page.locator(".ends text").count() == 2


@pytest.mark.parametrize("width", [1280, 900])
def test_facts_have_no_divider_at_the_end_of_a_line(visit: Visit, user: User, width: int) -> None:
    factories.PolicyFactory.create(limit_value=0.7)
    model = worlds.series([level - 0.002 * i for i, level in enumerate(worlds.noisy(60))])
    page = visit(f"{PAGE}?machine={model.machine_id}", user=user, width=width).page

    facts = page.evaluate(
        """[...document.querySelectorAll("main > .facts:first-of-type > div")].map(one => ({
            top: one.getBoundingClientRect().top,
            text: one.firstElementChild.getBoundingClientRect().left,
            right: getComputedStyle(one).borderRightWidth,
        }))"""
    )

    edge = page.locator("h1").bounding_box()
    assert edge is not None
    assert {one["right"] for one in facts} == {"0px"}
    firsts = {one["top"]: one["text"] for one in reversed(facts)}
    assert len(firsts) >= 2
    assert set(firsts.values()) == {edge["x"]}  # dividers of what begins a line are cut off
