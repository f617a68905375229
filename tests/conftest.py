"""Fixtures shared by all tests: keys, clients, and the end of the throw-away data folder."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from rest_framework.test import APIClient

from tests import factories


def pytest_unconfigure() -> None:
    """Stop the embedded server of this run and remove its folder."""
    if os.environ.get("MODELPERF_TEST_OWNER") != str(os.getpid()):
        return
    folder = Path(os.environ["MODELPERF_TEST_DATA_DIR"])
    if "DATABASE_URL" not in os.environ and any(folder.iterdir()):
        from config import postgres

        postgres.release(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    """Forget failed keys and logins of the test before."""
    cache.clear()


@pytest.fixture
def make_key(db: None) -> Callable[..., str]:
    """Return a maker of API keys: `make_key("read", "write", machines=[machine])`."""
    return factories.api_key


@pytest.fixture
def client_with(make_key: Callable[..., str]) -> Callable[..., APIClient]:
    """Return a maker of clients whose key has the scopes named."""

    def with_scopes(*scopes: str, **options: object) -> APIClient:
        client = APIClient()
        client.default_format = "json"
        client.credentials(HTTP_AUTHORIZATION=f"Api-Key {make_key(*scopes, **options)}")
        return client

    return with_scopes


@pytest.fixture
def api(client_with: Callable[..., APIClient]) -> APIClient:
    """Return a client that may do everything; its actor is `key:tests`."""
    return client_with("read", "write", "train", "triage", "admin", name="tests")


@pytest.fixture
def anonymous() -> APIClient:
    """Return a client without key or session."""
    return APIClient()


@pytest.fixture
def user(db: None) -> User:
    """Return an ordinary user."""
    return factories.UserFactory.create()


@pytest.fixture
def superuser(db: None) -> User:
    """Return a user who may do everything."""
    return factories.UserFactory.create(is_staff=True, is_superuser=True)


@pytest.fixture
def logged_in(user: User) -> Client:
    """Return a browser in which the ordinary user is logged in."""
    client = Client()
    client.force_login(user)
    return client
