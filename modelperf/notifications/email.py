"""The `email` channel: one letter a message, as plain text and as simple HTML.

The Message-ID is made of the message's id, at every attempt the same, and what is told of an alert
later refers to the letter that told of it first: a mail program shows them as one conversation.
"""

from __future__ import annotations

import smtplib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parseaddr
from typing import Annotated, Any, ClassVar, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.template.loader import render_to_string
from msgspec import Meta

from modelperf.notifications.base import (
    NEVER_THERE,
    DeliveryError,
    Envelope,
    Kind,
    SettingsError,
    register,
)
from modelperf.notifications.mailing import MailServer, whole_seconds
from modelperf.notifications.rendering import foot, line, parts, subject, text

_MOST_REFERENCES: Final = 20  # a header of a grouped message stays short
_MOST_TOLD: Final = 200

Addresses = Annotated[tuple[str, ...], Meta(min_length=1, max_length=50)]


@register("email")
class Email(Kind, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """People by their addresses: `{"to": [".."]}`. They see each other's."""

    to: Addresses
    example: ClassVar[Mapping[str, Any]] = {"to": ["operators@example.org"]}

    def check(self) -> None:
        """Refuse what is no address, and one that is there twice."""
        for address in self.to:
            try:
                validate_email(address)
                validate_email(_ascii(address))  # which other letters may have become a / in
            except (ValidationError, UnicodeError):
                raise SettingsError(
                    f"The channel's to holds {line(address)[:80]!r}, which is no e-mail address."
                    " Write such as operators@example.org."
                ) from None
        if len({_ascii(address).lower() for address in self.to}) < len(self.to):
            raise SettingsError("The channel's to holds an address twice.")

    def send(self, envelope: Envelope, at: datetime) -> str:
        """Send it; a server that takes it for some of several addresses has taken it."""
        server, sender = _server(), _sender()
        to = [_ascii(address) for address in self.to]
        lines = _letter(envelope, sender, to).message().as_bytes().splitlines()
        try:
            refused = _handed_over(server, parseaddr(sender)[1], to, b"\r\n".join([*lines, b""]))
        except smtplib.SMTPRecipientsRefused as error:
            raise DeliveryError(f"{server.host} refused {_refusals(error.recipients)}.") from None
        except (smtplib.SMTPException, OSError) as error:
            said = f"{server.host} did not take it: {_said(error)}."
            raise DeliveryError(said, may_have_come=_may_have_come(error)) from None
        if refused:
            return f"{server.host} took it, but refused {_refusals(refused)}"
        return f"{server.host} took it for {len(to)} address{'' if len(to) == 1 else 'es'}"


def _server() -> MailServer:
    if not settings.EMAIL_SERVER:
        raise DeliveryError(
            "No mail server is set. Set MODELPERF_EMAIL_URL to such as"
            " smtp+tls://user:password@mail.example.org:587."
        )
    return MailServer()


def _sender() -> str:
    sender = str(settings.EMAIL_FROM)
    if not sender:
        raise DeliveryError(
            "Nobody is set whom mail comes from. Set MODELPERF_EMAIL_FROM to such as"
            " modelperf@example.org."
        )
    return sender


def _handed_over(
    server: MailServer, sender: str, to: list[str], content: bytes
) -> Mapping[str, tuple[int, bytes]]:
    """Hand a letter over, and return whom it was not taken for. Django's own send keeps that."""
    try:
        server.open()
        if server.connection is None:
            raise smtplib.SMTPServerDisconnected("it gave no connection")
        return server.connection.sendmail(sender, to, content)
    finally:
        with suppress(OSError):  # what was taken stays taken, however the server says goodbye
            server.close()


def _letter(envelope: Envelope, sender: str, to: list[str]) -> EmailMultiAlternatives:
    domain = parseaddr(sender)[1].rpartition("@")[2]
    own = envelope.message_id
    earlier = list(
        dict.fromkeys(
            f"<{item.first_message_id}@{domain}>"
            for item in envelope.items
            if item.first_message_id not in {None, own}
        )
    )[-_MOST_REFERENCES:]
    headers = {
        "Message-ID": f"<{own}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
    }
    if earlier:
        headers |= {"References": " ".join(earlier), "In-Reply-To": earlier[-1]}
    letter = EmailMultiAlternatives(
        subject=subject(envelope), body=text(envelope), from_email=sender, to=to, headers=headers
    )
    letter.attach_alternative(_html(envelope), "text/html")
    return letter


def _html(envelope: Envelope) -> str:
    context = {
        "subject": subject(envelope),
        "parts": parts(envelope),
        "foot": foot(envelope),
        "public_url": envelope.public_url,
    }
    return render_to_string("notifications/email.html", context)


def _ascii(address: str) -> str:
    """Return an address as mail servers take it: a domain's other letters in their ASCII form.

    What stands before the domain has none: not every server takes others there.
    """
    name, _, domain = address.rpartition("@")
    if not (name.isascii() and name.isprintable()):
        raise UnicodeError("The name has other letters than ASCII.")
    return f"{name}@{domain.encode('idna').decode('ascii')}"


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{address} ({_answered(*why)})" for address, why in refused.items())


def _answered(code: int, said: bytes | str) -> str:
    words = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return f"{code} {line(words)[:_MOST_TOLD]}".strip().rstrip(".")


def _said(error: Exception) -> str:
    """Return why, in the server's own words where it had any. They hold no password."""
    if isinstance(error, smtplib.SMTPResponseException):
        return _answered(error.smtp_code, error.smtp_error)
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        step = f"{settings.OUTGOING_TIMEOUT_SECONDS} s for a step"
        return f"it took longer than {step} or {whole_seconds():g} s as a whole"
    return line(str(error))[:_MOST_TOLD].rstrip(".") or type(error).__name__


def _may_have_come(error: Exception) -> bool:
    """Whether a letter may have been taken though no answer says so."""
    return not isinstance(error, smtplib.SMTPResponseException | NEVER_THERE)
