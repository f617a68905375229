"""The database backend of installations without DATABASE_URL.

Every new connection first makes sure that the server of `DATA_DIR` runs, so web workers, commands
and tests find it, start it, or find it again after a crash.
"""

import time
from typing import Any

from django.db.backends.postgresql import base
from django.db.utils import OperationalError as DjangoOperationalError
from psycopg import Connection, OperationalError

from config import postgres
from config.embedded.client import DatabaseClient

RETRY_SECONDS = 60.0
# What a server that is starting, stopping or gone answers, by libpq's and its own C-locale words.
PASSING = ("the database system is", "Connection refused", "No such file", "server closed")


class DatabaseWrapper(base.DatabaseWrapper):
    """PostgreSQL, started when needed."""

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Place of the server, which is started where it does not run."""
        server = postgres.ensure(self.settings_dict["DATA_DIR"])
        place = {"host": server.host, "port": server.port, "user": server.user}
        return {**super().get_connection_params(), **place}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection[Any]:
        """Connect, waiting for a server that is only just coming or going."""
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                connection: Connection[Any] = super().get_new_connection(conn_params)
            except (OperationalError, DjangoOperationalError) as error:
                if time.monotonic() > deadline or not any(word in str(error) for word in PASSING):
                    raise
            else:
                return connection
            time.sleep(0.02)
            postgres.ensure(self.settings_dict["DATA_DIR"])
