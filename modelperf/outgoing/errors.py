"""What an address answered, and what may stand in the way."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Answer(Struct, frozen=True, kw_only=True):
    """What was answered; names of headers are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes


class RefusedError(Exception):
    """The address may not be asked, and will not be later; the text is a sentence that says why."""


class UnreachableError(Exception):
    """The address could not be asked now: no connection, no answer in time, or a broken one.

    The text is a sentence. `answer` is there where the status and the headers had come and only
    the content is missing or cut.
    """

    def __init__(self, detail: str, *, answer: Answer | None = None) -> None:
        super().__init__(detail)
        self.answer = answer


class OversizedError(UnreachableError):
    """The answer's content is larger than what is read of it."""
