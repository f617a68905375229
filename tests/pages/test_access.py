"""Login, logout, lock-out, theme, and the pages of what goes wrong."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.template import loader
from django.test import Client
from django.urls import path
from pytest_django import Settings

from tests import factories

PASSWORD = "the analytical engine"
pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return factories.UserFactory.create(username="ada", password=PASSWORD)


def log_in(client: Client, password: str, **extra: str) -> object:
    return client.post("/login", {"username": "ada", "password": password, **extra})


def test_root_leads_to_the_page() -> None:
    response = Client().get("/")

    assert (response.status_code, response["Location"]) == (302, "/ui/model-performance")


def test_login_with_the_password_leads_to_the_page(ada: User) -> None:
    response = Client().post("/login", {"username": "ada", "password": PASSWORD})

    assert (response.status_code, response["Location"]) == (302, "/ui/model-performance")


@pytest.mark.parametrize("next_page", ["https://evil.example/", "//evil.example", "javascript:x"])
def test_login_leads_to_no_other_host(ada: User, next_page: str) -> None:
    response = Client().post("/login", {"username": "ada", "password": PASSWORD, "next": next_page})

    assert response["Location"] == "/ui/model-performance"


def test_login_with_a_wrong_password_says_so_and_keeps_the_name(ada: User) -> None:
    response = Client().post("/login", {"username": "ada", "password": "wrong"})

    assert response.status_code == 200
    assert b"Please enter a correct username and password" in response.content
    assert b'value="ada"' in response.content


def test_login_without_values_says_what_is_needed() -> None:
    response = Client().post("/login", {"username": "", "password": ""})

    assert b"Both a user name and a password are needed" in response.content


def test_login_locks_after_five_failures_also_for_the_right_password(ada: User) -> None:
    client = Client()
    statuses = [
        client.post("/login", {"username": "ada", "password": "wrong"}).status_code
        for _ in range(5)
    ]

    response = client.post("/login", {"username": "ada", "password": PASSWORD})

    assert statuses == [200, 200, 200, 200, 429]
    assert response.status_code == 429
    assert b"Too many failed logins" in response.content
    assert b"for 15 min after the last try" in response.content


def test_logout_needs_a_post(logged_in: Client) -> None:
    assert logged_in.get("/logout").status_code == 405
    assert logged_in.post("/logout")["Location"] == "/login"
    assert logged_in.get("/ui/model-performance").status_code == 302


def test_form_of_an_old_page_is_refused_within_the_frame(user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    response = client.post("/ui/theme", {"theme": "dark"})

    assert response.status_code == 403
    assert b"Sent from an old page" in response.content


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_theme_is_kept_in_a_cookie_that_scripts_cannot_read(logged_in: Client, theme: str) -> None:
    response = logged_in.post("/ui/theme", {"theme": theme, "next": "/ui/model-performance?days=7"})

    assert response["Location"] == "/ui/model-performance?days=7"
    assert response.cookies["theme"].value == theme
    assert response.cookies["theme"]["httponly"]
    assert f'data-theme="{theme}"' in logged_in.get("/ui/model-performance").content.decode()


def test_theme_as_the_system_has_it_forgets_the_cookie(logged_in: Client) -> None:
    logged_in.post("/ui/theme", {"theme": "dark"})

    response = logged_in.post("/ui/theme", {"theme": "auto"})

    assert response.cookies["theme"].value == ""
    assert b"data-theme" not in logged_in.get("/ui/model-performance").content


def test_theme_nobody_knows_is_refused(logged_in: Client) -> None:
    response = logged_in.post("/ui/theme", {"theme": '"><script>'})

    assert response.status_code == 400
    assert "theme" not in response.cookies


def test_theme_cookie_with_markup_is_ignored(logged_in: Client) -> None:
    logged_in.cookies["theme"] = "x onload=alert(1)"

    assert b"onload" not in logged_in.get("/ui/model-performance").content


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example", ""])
def test_theme_leads_to_no_other_host(logged_in: Client, address: str) -> None:
    response = logged_in.post("/ui/theme", {"theme": "dark", "next": address})

    assert response["Location"] == "/ui/model-performance"


def test_theme_needs_a_login_and_a_post(logged_in: Client) -> None:
    assert Client().post("/ui/theme", {"theme": "dark"})["Location"].startswith("/login")
    assert logged_in.get("/ui/theme").status_code == 405


def test_unknown_page_keeps_the_frame(logged_in: Client) -> None:
    response = logged_in.get("/nowhere")

    assert response.status_code == 404
    assert b"Page not found" in response.content
    assert b"Log out" in response.content


@pytest.mark.parametrize("name", ["403.html", "403_csrf.html", "404.html", "500.html"])
def test_page_of_a_fault_renders_without_any_context(name: str) -> None:
    html = loader.get_template(name).render()

    assert "<h1>" in html
    assert 'class="brand"' in html


def broken(request: object) -> None:
    raise RuntimeError("on purpose")


def refusing(request: object) -> None:
    from django.core.exceptions import PermissionDenied

    raise PermissionDenied


from config.urls import urlpatterns as _real  # noqa: E402

urlpatterns = [path("broken", broken), path("refusing", refusing), *_real]
handler500 = "modelperf.api.problems.server_error"


def test_fault_names_its_request_and_not_its_cause(settings: Settings, user: User) -> None:
    settings.ROOT_URLCONF = __name__
    client = Client(raise_request_exception=False)
    client.force_login(user)

    response = client.get("/broken")

    assert response.status_code == 500
    assert b"under request <code>" in response.content
    assert b"on purpose" not in response.content


def test_refusal_keeps_the_frame(settings: Settings, logged_in: Client) -> None:
    settings.ROOT_URLCONF = __name__

    response = logged_in.get("/refusing")

    assert response.status_code == 403
    assert b"Not allowed" in response.content
    assert b"Log out" in response.content
