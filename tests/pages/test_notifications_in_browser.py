"""Channels, routes, silences and messages in a real browser: readable for all, on a phone too."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User

from modelperf.models import Channel, Message, Route, Silence
from tests import factories
from tests.pages.conftest import Visit, follow

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
ROOT = "/admin/modelperf"


def findings(page: Any) -> list[Any]:
    """Return what axe finds that is serious, what the policy refused, and a page too wide.

    The policy comes first: axe itself is refused a style, and asks for stylesheets that are none.
    """
    refused = page.evaluate("window.violations || []")
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    found = Axe().run(page).response["violations"]
    serious = [one["id"] for one in found if one["impact"] in {"serious", "critical"}]
    return refused + serious + ([f"{wide} too wide"] if wide > 0 else [])


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 375)])
def test_a_silence_is_set_and_every_page_can_be_read(
    visit: Visit, superuser: User, scheme: str, width: int
) -> None:
    alert = factories.AlertFactory.create(severity="critical", alert_message="It got worse.")
    channel = Channel.objects.create(
        name="operators", kind="email", settings={"to": ["a@example.org"]}
    )
    route = Route.objects.create(name="all", channel=channel)
    message = Message.objects.create(route=route, channel=channel, due_at=alert.alert_timestamp)
    watched = visit(f"{ROOT}/silence/add/", user=superuser, scheme=scheme, width=width)
    page = watched.page
    host = page.url.partition(ROOT)[0]
    assert findings(page) == []

    page.get_by_label("Matchers").fill('{"severity": ["critical"]}')
    page.get_by_label("Reason").fill("the filters are changed")
    page.get_by_label("Ends at").fill("2199-01-01T10:00:00")
    follow(page.get_by_role("button", name="Save"))
    assert page.get_by_role("link", name="It got worse.").is_visible()
    assert findings(page) == []
    follow(page.get_by_role("button", name="Save the silence"))

    silence = Silence.objects.get()
    assert (silence.reason, silence.owner) == ("the filters are changed", superuser.username)
    for path in (
        "silence/",
        f"channel/{channel.pk}/change/",
        f"route/{route.pk}/change/",
        f"message/{message.pk}/change/",
    ):
        page.goto(f"{host}{ROOT}/{path}")
        assert (path, findings(page)) == (path, [])
    assert watched.foreign == []
