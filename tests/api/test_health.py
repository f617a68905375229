"""Probes."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from tests.api.calls import problem


def test_livez_does_not_ask_the_database(client: Client) -> None:
    # pytest-django refuses any query here.
    assert client.get("/livez").json() == {"status": "alive"}


@pytest.mark.parametrize("address", ["/livez", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_probe_is_only_read(address: str, method: str) -> None:
    # A token is asked of nobody: there is no session that it could protect.
    response = Client(enforce_csrf_checks=True).generic(method, address)
    assert method in problem(response, 405)["detail"]
    assert response.headers["Allow"] == "GET, HEAD"


def test_livez_may_be_asked_for_its_head_and_is_never_cached(client: Client) -> None:
    response = client.head("/livez")
    assert (response.status_code, response.content) == (200, b"")
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.django_db
def test_readyz_asks_once(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert client.get("/readyz").json() == {"status": "ready"}


@pytest.mark.django_db
def test_readyz_names_a_missing_migration(client: Client) -> None:
    newest = MigrationRecorder.Migration.objects.filter(app="modelperf").latest("id")
    newest.delete()
    assert f"modelperf.{newest.name}" in problem(client.get("/readyz"), 503)["detail"]


@pytest.mark.django_db
def test_readyz_of_an_empty_database_is_503(client: Client) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_migrations RENAME TO elsewhere")
    problem(client.get("/readyz"), 503)
