"""A connection to a mail server whose every step gets what is left of one time."""

from __future__ import annotations

import io
import smtplib
import socket
from typing import Any

from django.conf import settings
from django.core.mail.backends.smtp import EmailBackend

from modelperf.outgoing.link import Deadline


def whole_seconds() -> float:
    """Return how long a letter may take as a whole: less than the lease of the one who sends it.

    A system check sees to it that the lease is longer than a request.
    """
    step, lease = settings.OUTGOING_TIMEOUT_SECONDS, settings.NOTIFICATION_LEASE_SECONDS
    return float(max(step, lease - step))


class MailServer(EmailBackend):
    """The mail server of the settings, with one time for all that is said."""

    def __init__(self) -> None:
        super().__init__(**settings.EMAIL_SERVER, timeout=settings.OUTGOING_TIMEOUT_SECONDS)
        self._deadline = Deadline(whole_seconds())

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        """Return how it is spoken to: encrypted from the first byte or not, and in time."""
        spoken = smtplib.SMTP_SSL if self.use_ssl else smtplib.SMTP
        return type("Timed", (_Timed, spoken), {"deadline": self._deadline})


class _Timed(smtplib.SMTP):
    """A talk in which neither many steps nor many small parts of one take longer than allowed."""

    deadline: Deadline

    def send(self, s: Any) -> None:
        """Send all of it."""
        if self.sock is not None:
            self.sock.settimeout(min(self.timeout, self.deadline.left()))
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        """Read an answer to its end."""
        if self.file is None and self.sock is not None:
            reading = _Reading(self.sock, self.deadline, self.timeout)
            self.file = io.BufferedReader(reading)
        return super().getreply()


class _Reading(io.RawIOBase):
    """What a server says, as it comes."""

    def __init__(self, line: socket.socket, deadline: Deadline, step: float) -> None:
        super().__init__()
        self._line, self._deadline, self._step = line, deadline, step

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come."""
        self._line.settimeout(min(self._step, self._deadline.left()))
        return self._line.recv_into(buffer)
