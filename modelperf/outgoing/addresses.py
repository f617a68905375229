"""Which addresses may be asked: public ones, and those of networks that are allowed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final
from unicodedata import normalize
from urllib.parse import SplitResult, urlsplit

from modelperf.outgoing.errors import RefusedError

Network = IPv4Network | IPv6Network
Place = tuple[socket.AddressFamily, Any]  # of an address, and what a socket connects to
LookUp = Callable[[bytes, int], Iterable[tuple[Any, ...]]]

_ASSIGNED: Final = IPv6Network("2000::/3")  # the only part of IPv6 that is given out to the public
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")  # IPv4 behind NAT64, RFC 6052
_COMPATIBLE: Final = IPv6Network("::/96")  # IPv4 in IPv6, deprecated by RFC 4291
# Not for the public either, whatever `is_global` says in the Python at hand.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments
        "192.88.99.0/24",  # relays of 6to4, withdrawn
        "168.63.129.16/32",  # a cloud's own agent, asked from within its machines only
        "3fff::/20",  # documentation, RFC 9637
    )
)


def parts_of(url: str, name: str = "The address") -> SplitResult:
    """Return the parts of a web address; refuse what is none, or holds a login.

    The texts of the errors begin with `name`, and tell nothing of a login.
    """
    if not url.isprintable() or " " in url or "\\" in url:
        raise RefusedError(f"{name} begins with https:// or http:// and a host, without blanks.")
    try:
        place = urlsplit(url)
        host, port = place.hostname, place.port
    except ValueError as error:
        raise RefusedError(f"{name}: {_without_login(str(error), url)}.") from None
    if place.scheme not in {"http", "https"} or not host:
        raise RefusedError(f"{name} begins with https:// or http:// and a host.")
    if "@" in place.netloc:
        raise RefusedError(f"{name} holds no login: it is no secret.")
    if port == 0:
        raise RefusedError(f"{name}: Port 0 is none.")
    try:
        host_of(place)
    except UnicodeError:
        raise RefusedError(f"{name}: {host[:80]} is no name of a host.") from None
    return place


def _without_login(text: str, url: str) -> str:
    """Return what is wrong, unless it could quote a login; signs that look like @ count as one."""
    return "it cannot be read" if "@" in normalize("NFKC", url) else text


def host_of(place: SplitResult) -> bytes:
    """Return the host as it is looked up and sent, in ASCII."""
    host = place.hostname or ""
    return host.encode("ascii" if ":" in host else "idna")


def is_allowed(address: str, networks: Iterable[Network] = ()) -> bool:
    """Whether an address is public or in a network that is allowed.

    An IPv6 address that stands for an IPv4 address is as good as that one.
    """
    forms = tuple(_forms(ipaddress.ip_address(address.partition("%")[0])))
    if any(form in network for form in forms for network in networks):
        return True
    return all(_is_public(form) for form in forms)


def _forms(place: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """Yield the IPv4 address that an IPv6 address stands for; in 6to4 both, else the address."""
    if isinstance(place, IPv4Address):
        yield place
    elif place.ipv4_mapped is not None:
        yield place.ipv4_mapped
    elif place in _TRANSLATED or (place in _COMPATIBLE and int(place) > 1):
        yield IPv4Address(int(place) & 0xFFFFFFFF)
    else:
        yield place
        if place.sixtofour is not None:
            yield place.sixtofour


def _is_public(place: IPv4Address | IPv6Address) -> bool:
    if isinstance(place, IPv6Address) and place not in _ASSIGNED:
        return False
    if any(place in network for network in _SPECIAL):
        return False
    return place.is_global and not place.is_multicast


def checked(
    found: Iterable[tuple[Any, ...]], host: str, networks: Sequence[Network], setting: str
) -> list[Place]:
    """Return where the addresses of a host are connected to; refuse if any may not be asked."""
    places: list[Place] = []
    for family, _, _, _, place in found:
        if not is_allowed(str(place[0]), networks):
            raise RefusedError(
                f"{host} is at {place[0]}, which is not public. Name its network in {setting}"
                " to allow it."
            )
        places.append((family, place))
    return places


def look_up(host: bytes, port: int) -> Iterable[tuple[Any, ...]]:
    """Ask the system for the addresses of a host."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def within(seconds: float, ask: LookUp, host: bytes, port: int) -> Iterable[tuple[Any, ...]]:
    """Return what a look-up finds in time.

    The system's own cannot be interrupted: one that takes too long is left to itself.
    """
    answers: SimpleQueue[Iterable[tuple[Any, ...]] | Exception] = SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask(host, port))
        except Exception as error:
            answers.put(error)

    Thread(target=run, name="look-up", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found
