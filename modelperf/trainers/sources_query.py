"""Readings from a database: one read-only SQL statement."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import Error, connection, transaction

from modelperf.trainers.base import TrainingError, UnavailableError
from modelperf.trainers.sources import PLACEHOLDERS, Asked, register
from modelperf.trainers.sources_table import Columns, TableSource, columns

MOST_ROWS: Final = 2_000_000  # an hour's readings of two centuries, or a minute's of four years
# Nobody there, no room, locked by others, shut down: the same query may be answered later. That
# it took too long (57014) or is wrong does not pass.
_PASSING: Final = ("08", "40", "53", "55P03", "57P", "HV00N")


@register("query")
class QuerySource(TableSource, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A SELECT in which `{machine_id}`, `{start}` and the like are parameters.

    It runs as a subquery, so that it can only be a query, in a transaction that may only read,
    on the database of MODELPERF_SOURCE_DATABASE_URL or, where that is not set, on modelperf's.
    """

    sql: str

    def check(self) -> None:
        """Refuse what is empty."""
        TableSource.check(self)
        if not self.sql.strip() or "\0" in self.sql:
            raise TrainingError("The training source: sql is a SELECT.")

    def table(self, asked: Asked) -> Columns:
        """Return what the query finds."""
        try:
            names, rows = self._found(asked)
        except (psycopg.Error, Error) as error:
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            kind = UnavailableError if _is_passing(error) else TrainingError
            raise kind(f"The training source's query failed: {said}.") from error
        if len(rows) > MOST_ROWS:
            raise TrainingError(f"The training source's query finds more than {MOST_ROWS:,} rows.")
        return columns(rows, names)

    def _found(self, asked: Asked) -> tuple[list[str], list[tuple[Any, ...]]]:
        if not settings.SOURCE_DATABASE_URL:
            return self._found_here(asked)
        timeout = settings.SOURCE_TIMEOUT_SECONDS
        with psycopg.connect(settings.SOURCE_DATABASE_URL, connect_timeout=timeout) as elsewhere:
            return self._rows(elsewhere, asked)

    def _found_here(self, asked: Asked) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Ask modelperf's own database; what was set for that is undone with the savepoint."""
        with transaction.atomic():
            connection.ensure_connection()
            try:
                return self._rows(connection.connection, asked)
            finally:
                transaction.set_rollback(True)

    def _rows(
        self, database: psycopg.Connection[Any], asked: Asked
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        cursor = psycopg.Cursor(database)
        cursor.execute("SET LOCAL transaction_read_only = on")
        cursor.execute(f"SET LOCAL statement_timeout = '{settings.SOURCE_TIMEOUT_SECONDS}s'")
        cursor.execute(self._statement(), {**asked.values, "most": MOST_ROWS + 1})
        return [column.name for column in cursor.description or ()], cursor.fetchall()

    def _statement(self) -> Any:
        """Return the statement, never without a parameter.

        With one it goes by the extended protocol, which takes one statement only: none can end
        the transaction that may only read.
        """
        sql = self.sql.strip().rstrip(";").replace("%", "%%")
        for name in PLACEHOLDERS:
            sql = sql.replace(f"{{{name}}}", f"%({name})s")
        # The line break ends a comment in the last line.
        return f"SELECT * FROM (\n{sql}\n) AS readings LIMIT %(most)s"


def _is_passing(error: Exception) -> bool:
    """Whether a database was not there, or could not answer just now.

    Django raises errors of its own for what psycopg tells it. An error without a state is not the
    server's: it was not reached, or went away.
    """
    cause = error.__cause__ if isinstance(error, Error) else error
    if not isinstance(cause, psycopg.OperationalError):
        return False
    return cause.sqlstate is None or cause.sqlstate.startswith(_PASSING)
