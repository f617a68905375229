"""What a service answers when it cannot do what was asked. The API turns these into problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class DomainError(Exception):
    """Something the caller can put right; its text is a sentence for them."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFoundError(DomainError):
    """What was named does not exist, or the caller may not see it."""


class ConflictError(DomainError):
    """The present state does not allow it; `state` says what that is."""

    def __init__(self, detail: str, **state: Any) -> None:
        super().__init__(detail)
        self.state = state


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with the input: where (e.g. `("body", 3, "mae")`), what, and a type."""

    loc: tuple[str | int, ...]
    msg: str
    type: str = "value_error"


class InvalidError(DomainError):
    """The input is wrong; `errors` names each field."""

    def __init__(self, detail: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []

    @classmethod
    def field(cls, name: str, msg: str, *, type: str = "value_error") -> InvalidError:
        """Return the error of a single field of the body."""
        return cls(msg, [FieldError(("body", name), msg, type)])
