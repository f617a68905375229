"""The one way to ask an address outside: checked, pinned, bounded, and never redirected."""

from modelperf.outgoing.addresses import Network, is_allowed, parts_of
from modelperf.outgoing.errors import Answer, OversizedError, RefusedError, UnreachableError
from modelperf.outgoing.requests import Limits, send

__all__ = [
    "Answer",
    "Limits",
    "Network",
    "OversizedError",
    "RefusedError",
    "UnreachableError",
    "is_allowed",
    "parts_of",
    "send",
]
