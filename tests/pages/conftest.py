"""A real browser for the pages: the installed Chromium, driven by Playwright.

Without a Chromium these tests fail with one line that says what to install; they never skip.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Violations of the content security policy, told by the page itself from its first moment.
LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
    e => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


def chromium() -> str:
    """Return the path of the installed Chromium."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail("No Chromium for the browser tests: apt-get install chromium", pytrace=False)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return the one browser of this run."""
    path = chromium()
    # Playwright's loop runs in this thread; Django would take it for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@dataclass
class Watched:
    """A page, and what it did that no page should do."""

    page: Page
    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def watch(self, host: str) -> None:
        """Write down errors and requests to other hosts."""
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self._sent(host, request.url))

    def _heard(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.console.append(text)

    def _sent(self, host: str, url: str) -> None:
        if urlsplit(url).netloc not in {host, ""}:
            self.foreign.append(url)

    def violations(self) -> list[str]:
        """Return what the content security policy refused."""
        found: list[str] = self.page.evaluate("window.violations || []")
        return found

    def assert_clean(self) -> None:
        """Nothing was complained of, refused, or asked of others."""
        assert (self.console, self.foreign, self.violations()) == ([], [], [])


Visit = Callable[..., Watched]


def follow(link: Locator) -> None:
    """Press what leads to another page, and wait until that one is there."""
    with link.page.expect_navigation():
        link.click()


@pytest.fixture
def visit(browser: Browser, live_server: Any) -> Iterator[Visit]:
    """Return a visitor: `visit("/path", user=user, width=375, scheme="dark")`."""
    contexts: list[BrowserContext] = []

    def go(
        path: str,
        *,
        user: User | None = None,
        width: int = 1280,
        scheme: str = "light",
        javascript: bool = True,
    ) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=javascript,
            reduced_motion="reduce",
        )
        contexts.append(context)
        if user is not None:
            context.add_cookies([_session(user, live_server.url)])
        context.add_init_script(LISTEN)
        watched = Watched(context.new_page())
        watched.watch(urlsplit(live_server.url).netloc)
        watched.page.goto(live_server.url + path)
        return watched

    yield go
    for context in contexts:
        context.close()


def _session(user: User, url: str) -> Any:
    client = Client()
    client.force_login(user)
    return {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}
