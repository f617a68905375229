"""What a channel is given to send, how it may fail, and the kinds of channels that exist."""

from __future__ import annotations

import socket
import ssl
import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from msgspec import Struct

# Where one of these stood in the way nothing was sent.
NEVER_THERE: Final = ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError


class SettingsError(Exception):
    """A channel's settings can never work; the text is a sentence that says what to set."""


class DeliveryError(Exception):
    """A message was not taken; the text is a sentence that says why, and holds no secret.

    `is_final` where trying again can never help, `may_have_come` where nobody knows whether it was
    taken after all. `retry_after` are the seconds that the receiver
    asked to be left alone for, None where it did not say.
    """

    def __init__(
        self,
        detail: str,
        *,
        is_final: bool = False,
        may_have_come: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.is_final = is_final
        self.may_have_come = may_have_come
        self.retry_after = retry_after


class Says(Struct, frozen=True, kw_only=True):
    """What an alert was like when there was something to tell of it, as a notice keeps it.

    Fields that are not named here are told to those who take JSON, and to nobody else. `state` is
    the alert's, `opened_at` when it opened (again), `changed_at` since when the condition holds,
    `seen_through` the end of the newest evaluation that shows it. `threshold_of` is what
    `threshold` is one of: metric, z, ks, seconds or trainings. `n_members` is None where the alert
    is no fleet's.
    """

    alert_type: str
    severity: str
    message: str
    state: str = ""
    model_type: str = ""
    machine_id: str | None = None
    machine_name: str | None = None
    model_version: int | None = None
    metric: str | None = None
    current: float | None = None
    baseline: float | None = None
    threshold: float | None = None
    threshold_of: str | None = None
    peak: float | None = None
    count: int = 1
    opened_at: datetime | None = None
    changed_at: datetime | None = None
    seen_through: datetime | None = None
    n_members: int | None = None
    resolved_by: str | None = None
    resolution_action: str | None = None


class Item(Struct, frozen=True, kw_only=True):
    """One thing that is told: a notice.

    `event_id` is the notice's id, the same at every attempt and on every route. `kind` is one of
    opened, reopened, severity_rose, snooze_over, silence_over, resolved. `link` leads to the alert,
    empty where it is not known where this is reached. `members` are the names of the machines that
    a fleet alert is about, all of them. `first_message_id` is the message in which the same route
    told of this alert first, None where it is this one.
    """

    event_id: uuid.UUID
    alert_id: uuid.UUID
    kind: str
    occurred_at: datetime
    says: dict[str, Any]
    link: str
    members: tuple[str, ...]
    first_message_id: uuid.UUID | None

    def read(self) -> Says:
        """Return what the alert was like, field by field.

        Where something of it cannot be read, that is left out with all that is no text: one thing
        that is told never keeps back a whole message.
        """
        try:
            return msgspec.convert(self.says, Says)
        except msgspec.ValidationError:
            return Says(
                alert_type=str(self.says.get("alert_type") or ""),
                severity=str(self.says.get("severity") or ""),
                message=str(self.says.get("message") or f"alert {self.alert_id}"),
                model_type=str(self.says.get("model_type") or ""),
            )


class Envelope(Struct, frozen=True, kw_only=True):
    """What one message tells, in the order in which it came to be.

    `public_url` is where this is reached, empty where that is not known. `attempt` counts from 1.
    A message that `is_test` tells of nothing that happened.
    """

    message_id: uuid.UUID
    route: str
    public_url: str
    items: tuple[Item, ...]
    attempt: int = 1
    is_test: bool = False


class Kind(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One kind of channel with its settings, as a channel holds them.

    `secret` names the settings that only those see who may change the channel, `example` is one
    that works.
    """

    kind: ClassVar[str]
    secret: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[Mapping[str, Any]]

    @abstractmethod
    def check(self) -> None:
        """Refuse settings that can never work, with a SettingsError that says what to set."""

    @abstractmethod
    def send(self, envelope: Envelope, at: datetime) -> str:
        """Send a message, and return in a few words what was answered.

        Raises
        ------
        DeliveryError
            It was not taken, or nobody knows whether it was.
        """


Of = TypeVar("Of", bound=type[Kind])
_kinds: Final[dict[str, type[Kind]]] = {}


def register(name: str) -> Callable[[Of], Of]:
    """Make a kind of channel known under a name."""

    def add(kind: Of) -> Of:
        kind.kind = name
        _kinds[name] = kind
        return kind

    return add


def kinds() -> dict[str, type[Kind]]:
    """Return the kinds there are, by name."""
    return dict(sorted(_kinds.items()))


def find(kind: str, settings: Mapping[str, Any]) -> Kind:
    """Return what a channel's kind and settings describe, checked.

    Raises
    ------
    SettingsError
        They describe none; the text says what to write.
    """
    known = _kinds.get(kind)
    if known is None:
        names = ", ".join(f'"{name}"' for name in kinds())
        raise SettingsError(f"The kind of a channel is one of {names}.")
    try:
        found = msgspec.convert(settings, known)
    except msgspec.ValidationError as error:
        raise SettingsError(f"The channel's settings: {error}.") from None
    found.check()
    return found


def masked(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a channel's settings as those may see them who may not change it."""
    known = _kinds.get(kind)
    if known is None:  # nobody knows what of it is secret
        return dict.fromkeys(settings, "***")
    return {name: "***" if name in known.secret else value for name, value in settings.items()}
