"""A request to an address outside, within limits."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote

import httpcore
from django.conf import settings
from msgspec.structs import replace

from modelperf.outgoing import addresses
from modelperf.outgoing.addresses import LookUp, Network
from modelperf.outgoing.errors import Answer, OversizedError, RefusedError, UnreachableError
from modelperf.outgoing.link import Deadline, Pinned

_PORTS: Final = {"http": 80, "https": 443}
_KEPT: Final = "%/?:@!$&'()*+,;=-._~[]"  # what stands in an address as it is
_MOST_OF_A_REASON: Final = 200
_FAILURES: Final = (OSError, httpcore.NetworkError, httpcore.ProtocolError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a request may go.

    Parameters
    ----------
    networks : sequence of networks
        Which are allowed though they are not public.
    seconds : float
        For everything together: the look-up, the connection, the request, the answer to its end.
    max_bytes : int
        Most that is read of the answer's content.
    setting : str
        How the names of the settings begin that the errors tell of: `MODELPERF_SOURCE` for
        `MODELPERF_SOURCE_NETWORKS` and `MODELPERF_SOURCE_TIMEOUT_SECONDS`.
    """

    networks: Sequence[Network]
    seconds: float
    max_bytes: int
    setting: str

    @classmethod
    def of_settings(cls, *, max_bytes: int) -> Limits:
        """Return those of the settings `MODELPERF_OUTGOING_..`."""
        return cls(
            networks=settings.OUTGOING_NETWORKS,
            seconds=settings.OUTGOING_TIMEOUT_SECONDS,
            max_bytes=max_bytes,
            setting="MODELPERF_OUTGOING",
        )


def send(
    method: str,
    url: str,
    *,
    limits: Limits,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    look_up: LookUp = addresses.look_up,
) -> Answer:
    """Ask an address, and return whatever it answers, redirects too: none is followed.

    The host's name is looked up once. All its addresses must be public or of an allowed network,
    and one of them is connected to, while certificate and `Host` are of the name. Proxies that
    the environment names are not used. The content is as it was sent: nothing is unpacked.

    Raises
    ------
    RefusedError
        The address may not be asked, or the request cannot be sent as it is.
    UnreachableError
        There is no whole answer. Where status and headers came, the error has them.
    """
    place = addresses.parts_of(url)
    deadline = Deadline(limits.seconds)
    backend = Pinned(limits.networks, f"{limits.setting}_NETWORKS", deadline, look_up)
    try:
        with _asked(method, place, headers or {}, content, backend) as response:
            return _answer(response, place.netloc, limits)
    except httpcore.LocalProtocolError:  # its text would show the header, and that may be a secret
        raise RefusedError(f"The headers for {place.netloc} hold what no header may.") from None
    except _FAILURES as error:
        said = _cleaned(str(error))
        if isinstance(error, httpcore.ProtocolError):
            said = f"it answered no HTTP ({said})"
        raise UnreachableError(_detail(place.netloc, limits, error, said)) from None


@contextmanager
def _asked(
    method: str,
    place: SplitResult,
    headers: Mapping[str, str],
    content: bytes | None,
    backend: Pinned,
) -> Iterator[httpcore.Response]:
    """Send the request, return once the head of the answer is there, and hang up in the end."""
    host, port = addresses.host_of(place), place.port or _PORTS[place.scheme]
    target = quote(place.path or "/", safe=_KEPT)
    if place.query:
        target += "?" + quote(place.query, safe=_KEPT)
    to = httpcore.URL(scheme=place.scheme, host=host, port=port, target=target)
    own = {"Host": _netloc(host, place.port), "Accept-Encoding": "identity", "Connection": "close"}
    context = ssl.create_default_context() if place.scheme == "https" else None
    link = httpcore.HTTPConnection(to.origin, ssl_context=context, network_backend=backend)
    sent = _encoded(own | dict(headers))
    with link, link.stream(method, to, headers=sent, content=content) as response:
        yield response


def _answer(response: httpcore.Response, name: str, limits: Limits) -> Answer:
    """Return the whole answer."""
    head = _head(response)
    content = bytearray()  # parts may be of a byte each, and a list of them many times as large
    try:
        for part in response.iter_stream():
            content += part
            if len(content) > limits.max_bytes:
                kept = replace(head, content=bytes(content[: limits.max_bytes]))
                detail = f"{name} sends more than {limits.max_bytes:,} bytes."
                raise OversizedError(detail, answer=kept)
    except _FAILURES as error:
        said = _cleaned(str(error))
        if isinstance(error, httpcore.ProtocolError):
            said = "the answer ends too early"
        raise UnreachableError(_detail(name, limits, error, said), answer=head) from None
    return replace(head, content=bytes(content))


def _netloc(host: bytes, port: int | None) -> str:
    name = host.decode("ascii")
    name = f"[{name}]" if ":" in name else name
    return name if port is None else f"{name}:{port}"


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    try:
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    except UnicodeError:
        raise httpcore.LocalProtocolError from None


def _head(response: httpcore.Response) -> Answer:
    reason = response.extensions.get("reason_phrase", b"").decode("latin-1")
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }
    return Answer(status=response.status, reason=_cleaned(reason), headers=headers, content=b"")


def _detail(name: str, limits: Limits, error: Exception, said: str) -> str:
    if isinstance(error, TimeoutError):
        said = f"it took longer than {limits.setting}_TIMEOUT_SECONDS"
    return f"{name} cannot be asked: {said or type(error).__name__}."


def _cleaned(text: str) -> str:
    """Return what an outsider may have put into a text, short and printable."""
    return "".join(sign for sign in text if sign.isprintable())[:_MOST_OF_A_REASON].rstrip(". ")
