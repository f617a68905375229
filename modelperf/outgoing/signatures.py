"""How others know that a request is ours: by its signature, and by a token for their origin.

`X-Modelperf-Signature: t=<unix seconds>,v1=<hex>` holds the HMAC-SHA256 of `<t>.<body>`, the body
byte by byte as it is sent, under the UTF-8 bytes of MODELPERF_WEBHOOK_SECRET. Where that is empty
the secret is derived from MODELPERF_SECRET_KEY, and `manage.py shell --no-imports -c "from
modelperf.outgoing import signatures; print(signatures.secret())"` (in one line) prints it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from urllib.parse import SplitResult

from django.conf import settings

HEADER: Final = "X-Modelperf-Signature"
_LABEL: Final = b"modelperf.webhook"
_PORTS: Final = {"http": 80, "https": 443}


def secret() -> str:
    """Return what requests are signed with: MODELPERF_WEBHOOK_SECRET, else one derived."""
    if settings.WEBHOOK_SECRET:
        return str(settings.WEBHOOK_SECRET)
    return hmac.new(settings.SECRET_KEY.encode(), _LABEL, hashlib.sha256).hexdigest()


def signature(body: bytes, *, at: int) -> str:
    """Return the header that says a body is ours, and when it was signed."""
    signed = hmac.new(secret().encode(), b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"


def authorization(place: SplitResult) -> str:
    """Return what an origin is told besides; a token goes nowhere but to its own origin."""
    return next(
        (settings.WEBHOOK_TOKENS[one] for one in origins(place) if one in settings.WEBHOOK_TOKENS),
        "",
    )


def origins(place: SplitResult) -> list[str]:
    """Return the names of an origin: with its port, and without where it is the scheme's own."""
    host = place.hostname or ""
    name = f"{place.scheme}://[{host}]" if ":" in host else f"{place.scheme}://{host}"
    own = _PORTS[place.scheme]
    port = place.port or own
    return [f"{name}:{port}", name] if port == own else [f"{name}:{port}"]
