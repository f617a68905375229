"""The hot statements' way to PostgreSQL, with a real server that ends real connections."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.utils import DataError, OperationalError
from django.test.utils import CaptureQueriesContext

from modelperf.models import Machine
from modelperf.services.database import execute, repeated


def end_own_connection() -> None:
    execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.django_db
def test_execute_binds_on_the_server_and_is_seen_in_the_query_log() -> None:
    wanted = uuid.uuid4()
    with CaptureQueriesContext(connection) as captured:
        found = execute("SELECT %s::uuid, %b::int8[]", [wanted, [1, 2]]).fetchone()
    assert found == (wanted, [1, 2])
    assert [query["sql"] for query in captured] == ["SELECT %s::uuid, %b::int8[]"]


@pytest.mark.django_db
def test_execute_answers_binary_values_where_asked() -> None:
    packed = execute("SELECT float8send(1.5)", binary=True).fetchone()
    assert packed == (bytes.fromhex("3ff8000000000000"),)


@pytest.mark.django_db
def test_execute_raises_djangos_errors() -> None:
    with pytest.raises(DataError), transaction.atomic():
        execute("SELECT 1 / %s", [0])


@pytest.mark.django_db(transaction=True)
def test_repeated_runs_the_transaction_again_after_a_lost_connection() -> None:
    tries: list[int] = []

    def work() -> str:
        with transaction.atomic():
            tries.append(len(tries))
            Machine.objects.create(name=f"try {len(tries)}")
            if len(tries) < 3:
                end_own_connection()
        return "done"

    assert repeated(work) == "done"
    assert list(Machine.objects.values_list("name", flat=True)) == ["try 3"]


@pytest.mark.django_db(transaction=True)
def test_repeated_gives_up_after_its_time(settings: Any) -> None:
    settings.RECORD_RETRY_SECONDS = 0
    with pytest.raises(OperationalError):
        repeated(end_own_connection)
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_repeated_never_repeats_what_was_too_slow() -> None:
    tries: list[int] = []

    def work() -> None:
        tries.append(1)
        with transaction.atomic():
            execute("SET LOCAL statement_timeout = 20")
            execute("SELECT pg_sleep(30)")

    with pytest.raises(OperationalError, match="statement timeout"):
        repeated(work)
    assert len(tries) == 1


@pytest.mark.django_db(transaction=True)
def test_repeated_leaves_an_outer_transaction_to_its_owner() -> None:
    with pytest.raises(OperationalError), transaction.atomic():
        repeated(end_own_connection)
    connection.close()
