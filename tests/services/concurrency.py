"""The same call from many threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from django.db import connection

Result = TypeVar("Result")


def at_once(n: int, call: Callable[[int], Result]) -> list[Result | Exception]:
    """Call `call(0) .. call(n - 1)`, each on a connection of its own, starting together."""
    ready = Barrier(n)

    def one(number: int) -> Result | Exception:
        try:
            connection.ensure_connection()
            ready.wait(timeout=60)
            return call(number)
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=n) as pool:
        return list(pool.map(one, range(n)))
