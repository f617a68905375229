"""The hot statements' way to PostgreSQL: bound and prepared on the server, repeated when lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import psycopg
from django.conf import settings
from django.db import connection
from django.db.utils import Error as DjangoDatabaseError

# Admin shutdown, crash shutdown, cannot connect now, deadlock, serialisation failure. Never a
# statement timeout (57014): what was too slow once would only be too slow again.
_PASSING_STATES: Final = {"57P01", "57P02", "57P03", "40P01", "40001"}
_PAUSE_SECONDS: Final = 0.05

Result = TypeVar("Result")


def execute(sql: str, params: Sequence[Any] = (), *, binary: bool = False) -> psycopg.Cursor[Any]:
    """Run one statement with server-side binding, which Django's cursor does not do.

    The statement joins the transaction of Django's connection and its query log.
    """
    connection.ensure_connection()
    started = time.monotonic()
    cursor: psycopg.Cursor[Any] = psycopg.Cursor(connection.connection)
    with connection.wrap_database_errors:
        cursor.execute(sql, params, binary=binary)
    connection.health_check_done = True  # type: ignore[attr-defined]  # a statement that succeeded is the check
    if connection.queries_logged:
        duration = time.monotonic() - started
        connection.queries_log.append({"sql": sql, "time": f"{duration:.3f}"})
    return cursor


def stream(sql: str, params: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Run one statement and yield its rows as they come, in binary; they are never all here."""
    connection.ensure_connection()
    started = time.monotonic()
    cursor: psycopg.Cursor[Any] = psycopg.Cursor(connection.connection)
    with connection.wrap_database_errors:
        yield from cursor.stream(sql, params, binary=True)
    if connection.queries_logged:
        duration = time.monotonic() - started
        connection.queries_log.append({"sql": sql, "time": f"{duration:.3f}"})


def repeated(work: Callable[[], Result]) -> Result:
    """Run a whole transaction, again where the server went away or chose it as a deadlock's victim.

    Safe for work whose second run finds what the first one may have stored. Inside an outer
    transaction nothing is repeated: only its owner can.
    """
    if connection.in_atomic_block:
        return work()
    deadline = time.monotonic() + settings.RECORD_RETRY_SECONDS
    while True:
        try:
            return work()
        except DjangoDatabaseError as error:
            if not _is_passing(error) or time.monotonic() > deadline:
                raise
        connection.close()
        time.sleep(_PAUSE_SECONDS)


def _is_passing(error: DjangoDatabaseError) -> bool:
    cause = error.__cause__
    if isinstance(cause, psycopg.InterfaceError):
        return True
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate == "23505":  # an alert of the condition was opened meanwhile: it is there now
        return cause.diag.constraint_name == "model_alerts_one_unresolved"
    lost = isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None
    return lost or cause.sqlstate in _PASSING_STATES or (cause.sqlstate or "").startswith("08")
