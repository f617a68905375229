"""A mail server on this machine, with real sockets, that keeps what it is given."""

from __future__ import annotations

import base64
import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage


@dataclass
class Letter:
    """A letter as it came."""

    sender: str
    to: list[str] = field(default_factory=list)
    content: bytes = b""

    @property
    def message(self) -> EmailMessage:
        found = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found

    def part(self, kind: str) -> str:
        """Return the text of one form of it."""
        body = self.message.get_body((kind,))
        assert body is not None
        return str(body.get_content()).replace("\r\n", "\n")


class MailServer(socketserver.ThreadingTCPServer):
    """Takes letters; refuses those whom a test says, and answers a letter as it says."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.over = threading.Event()
        self.letters: list[Letter] = []
        self.logins: list[str] = []
        self.refused: dict[str, str] = {}  # an address, and what is answered to it
        self.answer = "250 taken"
        self.greeting = "220 ready"
        self.password = ""
        self.seconds = 0.0  # between the parts of each answer

    @property
    def settings(self) -> dict[str, object]:
        return {
            "host": "127.0.0.1",
            "port": self.server_address[1],
            "username": "",
            "password": "",
            "use_tls": False,
            "use_ssl": False,
        }

    @contextmanager
    def served(self) -> Iterator[MailServer]:
        """Serve until the test is over."""
        with self:
            thread = threading.Thread(target=self.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield self
            finally:
                self.over.set()
                self.shutdown()
                thread.join()


class _Session(socketserver.StreamRequestHandler):
    """One connection."""

    server: MailServer

    def handle(self) -> None:
        self._say(self.server.greeting)
        letter = Letter("")
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            verb = line[:4].upper()
            if verb == "EHLO":
                self._say("250-here", "250 AUTH PLAIN")
            elif verb == "AUTH":
                self._login(line)
            elif verb == "MAIL":
                letter = Letter(_address(line))
                self._say("250 go on")
            elif verb == "RCPT":
                self._take(letter, _address(line))
            elif verb == "DATA":
                self._say("354 write")
                letter.content = self._content()
                if self.server.answer.startswith("2"):
                    self.server.letters.append(letter)
                self._say(self.server.answer)
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 fine")

    def _login(self, line: str) -> None:
        said = base64.b64decode(line.split()[2]).decode()
        self.server.logins.append(said)
        is_right = said.endswith(f"\0{self.server.password}")
        self._say("235 welcome" if is_right else "535 5.7.8 no such user or password")

    def _take(self, letter: Letter, address: str) -> None:
        if address in self.server.refused:
            self._say(self.server.refused[address])
            return
        letter.to.append(address)
        self._say("250 known")

    def _content(self) -> bytes:
        lines = []
        for raw in self.rfile:
            if raw == b".\r\n":
                break
            lines.append(raw[1:] if raw.startswith(b"..") else raw)
        return b"".join(lines)

    def _say(self, *lines: str) -> None:
        said = "".join(f"{line}\r\n" for line in lines).encode()
        if not self.server.seconds:
            self.wfile.write(said)
            return
        for at in range(0, len(said), 4):
            self.wfile.write(said[at : at + 4])
            self.server.over.wait(self.server.seconds)


def _address(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]
