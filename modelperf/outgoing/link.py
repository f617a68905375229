"""A connection whose every step gets what is left of one time, to an address that was checked."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import httpcore

from modelperf.outgoing.addresses import LookUp, Network, Place, checked, within


class Deadline:
    """One time for everything that a request takes."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left; raise a TimeoutError where none are."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class Line(httpcore.NetworkStream):
    """What is sent and read. The timeouts that httpcore names hold for one step and are ignored."""

    def __init__(self, line: socket.socket, deadline: Deadline) -> None:
        self._line = line
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has come."""
        self._line.settimeout(self._deadline.left())
        return self._line.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        rest = memoryview(buffer)
        while rest:
            self._line.settimeout(self._deadline.left())
            try:
                rest = rest[self._line.send(rest) :]
            except TimeoutError:
                raise
            except OSError as error:  # httpcore then reads what was answered before it hung up
                raise httpcore.WriteError(str(error)) from error

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Encrypt from here on; the certificate must be of the host's name."""
        try:
            self._line.settimeout(self._deadline.left())
            line = ssl_context.wrap_socket(self._line, server_hostname=server_hostname)
        except BaseException:
            self.close()
            raise
        return Line(line, self._deadline)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._line.close()


class Pinned(httpcore.NetworkBackend):
    """Looks a name up once, checks every address, and connects to one of those it checked.

    A second look-up might lead elsewhere.
    """

    def __init__(
        self, networks: Sequence[Network], setting: str, deadline: Deadline, look_up: LookUp
    ) -> None:
        self._networks = networks
        self._setting = setting
        self._deadline = deadline
        self._look_up = look_up

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the addresses that answers, each in its share of the time."""
        found = within(self._deadline.left(), self._look_up, host.encode("ascii"), port)
        places = checked(found, host, self._networks, self._setting)
        failure = OSError("it has no address")
        for number, place in enumerate(places):
            try:
                return self._connected(place, self._deadline.left() / (len(places) - number))
            except OSError as error:
                failure = error
        raise failure

    def _connected(self, place: Place, seconds: float) -> Line:
        family, address = place
        line = socket.socket(family, socket.SOCK_STREAM)
        try:
            line.settimeout(seconds)
            line.connect(address)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            line.close()
            raise
        return Line(line, self._deadline)
