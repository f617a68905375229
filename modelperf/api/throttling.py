"""Failed keys are counted per address and minute; good keys are never counted.

The counters live in each process's memory, so the limit holds per worker process: enough against
noise, and guessing a key of 190 random bits is hopeless at any rate. The way of a good key costs
nothing.
"""

from __future__ import annotations

import hashlib

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from rest_framework.exceptions import Throttled

MINUTE = 60


def count_failed_key(request: HttpRequest) -> None:
    """Count one failure; raise Throttled where its address has had too many this minute."""
    counter = "failed-key:" + hashlib.sha256(client_address(request).encode()).hexdigest()
    cache.add(counter, 0, timeout=MINUTE)
    try:
        failures = cache.incr(counter)
    except ValueError:  # it expired between the two
        return
    if failures > settings.FAILED_KEYS_PER_MINUTE:
        raise Throttled(wait=MINUTE, detail="Too many failed keys. Wait a minute.")


def client_address(request: HttpRequest) -> str:
    """Return the address of the client, seen through the proxies that we trust."""
    hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    trusted: int = settings.TRUSTED_PROXIES
    if trusted and len(hops) >= trusted:
        return str(hops[-trusted])
    return str(request.META.get("REMOTE_ADDR", ""))
