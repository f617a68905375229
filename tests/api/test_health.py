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
