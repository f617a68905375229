"""Readings from a web address: CSV or JSON, from hosts that a setting allows."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from threading import Event, Timer
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

from django.conf import settings

from modelperf.trainers.base import TrainingError
from modelperf.trainers.sources import Asked, filled, refuse_unknown_placeholders, register
from modelperf.trainers.sources_files import decoded, parsed
from modelperf.trainers.sources_table import Columns, TableSource, columns

_CHUNK: Final = 64 * 1024


@register("url")
class UrlSource(TableSource, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An address with `{machine_id}`, `{start}` and the like, which answers CSV or JSON.

    JSON is an array of objects. Redirects are not followed, and addresses that are not public
    are refused unless a setting names their network.
    """

    url: str

    def check(self) -> None:
        """Refuse what is no address of an allowed host."""
        TableSource.check(self)
        refuse_unknown_placeholders(self.url)
        _allowed(self.url)

    def table(self, asked: Asked) -> Columns:
        """Return what the address answers."""
        texts = {name: quote(_text(value), safe="") for name, value in asked.values.items()}
        place = _allowed(filled(self.url, texts))
        content, kind = _fetched(place)
        text = decoded(content, place.netloc)
        if "json" in kind:
            return _objects(text, place.netloc)
        names, rows = parsed(text, place.netloc)
        return columns(rows, names)


def _text(value: Any) -> str:
    return f"{value.astimezone(UTC):%FT%TZ}" if isinstance(value, datetime) else str(value)


def _allowed(url: str) -> SplitResult:
    """Return the parts of an address; refuse one that may not be asked."""
    try:
        place = urlsplit(url)
        host, _ = place.hostname, place.port
    except ValueError as error:
        raise TrainingError(f"The training source's url: {error}.") from None
    if place.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        raise TrainingError("The training source's url begins with https:// or http:// and a host.")
    if place.username is not None:
        raise TrainingError("The training source's url holds no login: a policy is no secret.")
    if host not in settings.SOURCE_HOSTS:
        raise TrainingError(
            f"The host {host} is not one of those that MODELPERF_SOURCE_HOSTS allows"
            f" ({', '.join(settings.SOURCE_HOSTS) or 'none'})."
        )
    return place


def _fetched(place: SplitResult) -> tuple[bytes, str]:
    """Return the answer's content and its type, within the limits of size and time."""
    try:
        with _answer(place) as answer:
            if answer.status != 200:
                raise TrainingError(f"{place.netloc} answered {answer.status} {answer.reason}.")
            return _content(answer, place), (answer.getheader("Content-Type") or "").lower()
    except (OSError, HTTPException) as error:
        said = str(error) or type(error).__name__
        raise TrainingError(f"{place.netloc} cannot be asked: {said}.") from error


@contextmanager
def _answer(place: SplitResult) -> Iterator[HTTPResponse]:
    """Ask, and hang up when the time is over, however slowly the answer trickles."""
    link = _Pinned(place)
    is_over = Event()

    def hang_up() -> None:
        is_over.set()
        with suppress(OSError):
            if link.line is not None:
                link.line.shutdown(socket.SHUT_RDWR)

    timer = Timer(settings.SOURCE_TIMEOUT_SECONDS, hang_up)
    timer.daemon = True
    timer.start()
    try:
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        link.request("GET", path, headers={"Accept": "text/csv, application/json"})
        yield link.getresponse()
        if is_over.is_set():  # what was read ends where the line was cut
            raise TimeoutError
    except (OSError, HTTPException):
        if is_over.is_set():
            raise TimeoutError("it took longer than MODELPERF_SOURCE_TIMEOUT_SECONDS") from None
        raise
    finally:
        timer.cancel()
        link.close()


class _Pinned(HTTPConnection):
    """A connection to the very address that was checked; a name may lead elsewhere next time."""

    def __init__(self, place: SplitResult) -> None:
        self.is_secure = place.scheme == "https"
        port = place.port or (443 if self.is_secure else 80)
        self.line: socket.socket | None = None  # `sock` is let go of with the answer's headers
        super().__init__(place.hostname or "", port, timeout=settings.SOURCE_TIMEOUT_SECONDS)

    def connect(self) -> None:
        """Connect to an address that may be asked."""
        address = _address(self.host, self.port)
        self.line = socket.create_connection((address, self.port), self.timeout)
        if self.is_secure:
            context = ssl.create_default_context()
            self.line = context.wrap_socket(self.line, server_hostname=self.host)
        self.sock = self.line


def _address(host: str, port: int) -> str:
    """Return an address of a host; refuse a host of which one is neither public nor allowed."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(place[0]) for *_, place in found]
    for address in addresses:
        if not may_be_asked(address):
            raise TrainingError(
                f"{host} is at {address}, which is not public. Name its network in"
                " MODELPERF_SOURCE_NETWORKS to allow it."
            )
    return addresses[0]


def may_be_asked(address: str) -> bool:
    """Whether an address is public or in a network that is allowed."""
    place = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(place, "ipv4_mapped", None) or place
    if any(inner in network for network in settings.SOURCE_NETWORKS):
        return True
    return inner.is_global and not inner.is_multicast


def _content(answer: HTTPResponse, place: SplitResult) -> bytes:
    most, parts, size = settings.SOURCE_MAX_BYTES, [], 0
    while part := answer.read(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > most:
            msg = f"{place.netloc} sends more than MODELPERF_SOURCE_MAX_BYTES ({most:,})."
            raise TrainingError(msg)
    if answer.length:
        raise HTTPException("the answer ends too early")
    return b"".join(parts)


def _objects(text: str, name: str) -> Columns:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        raise TrainingError(f"{name} answers no JSON.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TrainingError(f"{name} answers no array of objects.")
    names = list(rows[0]) if rows else []
    return {column: [row.get(column) for row in rows] for column in names}
