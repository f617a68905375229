"""The story of a series and its verbs in a real browser; progress that follows by itself."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import expect

from modelperf.models import Machine, ModelVersion, TrainingRun
from modelperf.services import registry, training
from tests import factories
from tests.pages import worlds
from tests.pages.conftest import Visit, follow
from tests.pages.test_browser import LOOKS, PAGE, serious, widths

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def operator(user: User) -> User:
    """Return a user who may train and activate."""
    allowed = ("add_trainingrun", "add_modelperformancemetric")
    user.user_permissions.set(Permission.objects.filter(codename__in=allowed))
    return user


@pytest.fixture
def at_work() -> Machine:
    """Return a machine with a story, and a run at work on it."""
    machine = worlds.looped("a pump with a name that is rather long to show, in hall 7")
    worlds.fail(machine, "FileNotFoundError: " + "/srv/readings/of/hall-7/" * 6)
    factories.TrainingRunFactory.create(
        machine=machine,
        running=True,
        attempt=1,
        trainer="command",
        triggered_by="user:ada",
        progress_percent=40,
        progress_message="fitting the second half",
    )
    return machine


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_story_and_verbs_are_accessible_clean_and_fit(
    visit: Visit, operator: User, at_work: Machine, scheme: str, width: int
) -> None:
    watched = visit(f"{PAGE}?machine={at_work.pk}", user=operator, scheme=scheme, width=width)

    assert watched.page.locator(".story > li").count() == 10
    assert watched.page.get_by_role("link", name="Retrain…").is_visible()
    assert widths(watched) == (width, width)
    assert serious(watched) == []
    watched.assert_clean()


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_question_is_accessible_clean_and_fits(
    visit: Visit, operator: User, at_work: Machine, scheme: str, width: int
) -> None:
    address = f"{PAGE}/roll-back?machine={at_work.pk}&type=baseline"
    watched = visit(address, user=operator, scheme=scheme, width=width)

    assert watched.page.get_by_label("Reason").is_visible()
    assert widths(watched) == (width, width)
    assert serious(watched) == []
    watched.assert_clean()


@pytest.mark.parametrize("javascript", [True, False])
def test_retrain_is_asked_once_more_and_told(
    visit: Visit, operator: User, javascript: bool
) -> None:
    machine = worlds.machine()
    worlds.version(machine)
    page = visit(f"{PAGE}?machine={machine.pk}", user=operator, javascript=javascript).page

    follow(page.get_by_role("link", name="Retrain…"))
    page.get_by_label("Reason").fill("the works are over")
    follow(page.get_by_role("button", name="Retrain"))

    assert "A training was asked for." in page.get_by_role("status").first.inner_text()
    assert "Manual: the works are over" in page.locator("#training").inner_text()
    assert TrainingRun.objects.get().triggered_by == f"user:{operator.username}"


def test_versions_are_activated_and_rolled_back(visit: Visit, operator: User) -> None:
    machine = worlds.machine()
    worlds.version(machine)
    worlds.version(machine, active=False)
    watched = visit(f"{PAGE}?machine={machine.pk}", user=operator)
    page = watched.page

    follow(page.get_by_role("link", name="Activate v2…"))
    follow(page.get_by_role("button", name="Activate"))
    assert ModelVersion.objects.get(is_active=True).model_version == 2

    follow(page.get_by_role("link", name="Roll back to v1…"))
    page.get_by_label("Reason").fill("it is worse")
    follow(page.get_by_role("button", name="Roll back"))
    assert ModelVersion.objects.get(is_active=True).model_version == 1
    assert "Rolled back to version 1" in page.locator(".story").inner_text()
    watched.assert_clean()


def test_progress_and_its_end_show_up_by_themselves(visit: Visit, operator: User) -> None:
    machine = worlds.machine()
    worlds.version(machine)
    training.trigger(machine=machine, model_type="baseline", reason="x", by="user:ada")
    runs = TrainingRun.objects.all()
    watched = visit(f"{PAGE}?machine={machine.pk}", user=operator)
    page = watched.page

    runs.update(progress_percent=40, progress_message="fitting")
    expect(page.locator("#training progress")).to_be_visible()
    expect(page.locator("#training")).to_contain_text("40 %, fitting")

    training.cancel(run=runs.get(), by="user:eve")
    registry.activate_model(model=worlds.version(machine, active=False), by="user:eve")
    expect(page.locator(".story")).to_contain_text("Training cancelled")
    expect(page.locator("#training progress")).to_have_count(0)
    watched.assert_clean()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 375)])
def test_admin_asks_for_the_reason_of_a_roll_back(
    visit: Visit, superuser: User, scheme: str, width: int
) -> None:
    machine = worlds.machine("pump 7")
    first, second = worlds.version(machine), worlds.version(machine)
    watched = visit("/admin/modelperf/modelversion/", user=superuser, scheme=scheme, width=width)
    page = watched.page

    page.locator(f"input[value='{second.pk}']").check()
    page.get_by_label("Action:").select_option("roll_back")
    follow(page.get_by_role("button", name="Go"))
    assert "pump 7 · baseline: back to version 1" in page.locator("#content").inner_text()
    assert widths(watched) == (width, width)
    watched.assert_clean()  # before axe, whose own styles the admin's policy refuses
    assert serious(watched) == []
    page.get_by_label("Reason").fill("it is worse")
    follow(page.get_by_role("button", name="Roll back"))

    assert page.locator(".messagelist").inner_text().strip() == "1 rolled back."
    assert ModelVersion.objects.get(is_active=True) == first
