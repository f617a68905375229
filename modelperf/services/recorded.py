"""In whose name a transaction's steps stand in the history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pghistory
from django.db import connection, transaction

from modelperf.services.database import execute


@contextmanager
def recorded(*, by: str, **said: str) -> Iterator[None]:
    """Run a transaction whose steps are somebody's: the history names the actor and what is said.

    Within another transaction what follows is not in that name.
    """
    is_nested = connection.in_atomic_block
    with transaction.atomic():
        with pghistory.context(actor=by, **said):
            yield
        if is_nested:
            execute(_FORGET)


_FORGET: Final = """
    SELECT set_config('pghistory.context_id', '', true),
        set_config('pghistory.context_metadata', '', true)
"""
