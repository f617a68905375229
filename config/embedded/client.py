"""`manage.py dbshell` on the embedded server."""

from collections.abc import Iterable
from typing import Any

from django.db.backends.postgresql import client

from config import postgres


class DatabaseClient(client.DatabaseClient):
    """The bundled psql: one on the path would look for a system's server."""

    executable_name = str(postgres.bundled_binaries() / "psql")

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        """Name the place of the server, which is started where it does not run."""
        server = postgres.ensure(settings_dict["DATA_DIR"])
        place = {"HOST": server.host, "PORT": str(server.port), "USER": server.user}
        return super().settings_to_cmd_args_env({**settings_dict, **place}, list(parameters))
