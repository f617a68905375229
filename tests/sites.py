"""Sites on this machine, with real sockets, that answer what a test sets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network

LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]

Answering = Callable[["Page"], None]


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    method: str
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    content: bytes = b""


class Site(ThreadingHTTPServer):
    """Answers what a test sets, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), Page)
        self.host = f"[{host}]" if ":" in host else host
        self.asked: list[str] = []
        self.received: list[Received] = []
        self.answer: Answering = answering(b"")
        self.goes_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server_port}"

    @contextmanager
    def served(self) -> Iterator[Site]:
        """Serve until the test is over."""
        with self:
            thread = threading.Thread(target=self.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield self
            finally:
                self.goes_on.set()
                self.shutdown()
                thread.join()


class Page(BaseHTTPRequestHandler):
    """One request."""

    server: Site

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        content = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.asked.append(self.path)
        self.server.received.append(Received(self.command, headers, content))
        self.server.answer(self)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def answering(
    content: bytes, kind: str = "text/csv", status: int = 200, **headers: str
) -> Answering:
    """Return what answers this content."""

    def answer(page: Page) -> None:
        page.send_response(status)
        page.send_header("Content-Type", kind)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            page.send_header(name, value)
        page.end_headers()
        page.wfile.write(content)

    return answer


def raw(content: bytes) -> Answering:
    """Return what answers these bytes, HTTP or not, and hangs up."""

    def answer(page: Page) -> None:
        page.wfile.write(content)

    return answer


def trickling(begin: bytes, part: bytes) -> Answering:
    """Return what begins, and then sends one more part after the other until nobody listens."""

    def answer(page: Page) -> None:
        page.wfile.write(begin)
        while not page.server.goes_on.wait(0.05):
            try:
                page.wfile.write(part)
            except OSError:
                return

    return answer


def silent(page: Page) -> None:
    """Take the request and answer nothing as long as the test lasts."""
    page.server.goes_on.wait()


def closed_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
