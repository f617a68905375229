"""Which answers of an address pass by themselves: the same request may be taken later."""

from __future__ import annotations

from typing import Final

_PASSING: Final = frozenset({408, 425, 429})  # and all from 500


def is_passing(status: int) -> bool:
    """Whether an answer says that it is worth asking again, unchanged, later."""
    return status in _PASSING or status >= 500
