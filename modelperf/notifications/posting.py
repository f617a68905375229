"""What all channels have in common that are told by a request: how it fails, and what that says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import SplitResult, unquote

from modelperf.notifications.base import NEVER_THERE, DeliveryError, SettingsError
from modelperf.notifications.rendering import line
from modelperf.outgoing import Answer, Limits, RefusedError, UnreachableError, parts_of, send
from modelperf.outgoing.signatures import authorization, origins

_MOST_OF_AN_ANSWER: Final = 16 * 1024
_MOST_TOLD: Final = 200
_LONGEST_WAIT: Final = 86_400.0
_GONE: Final = 410
_SHORTEST_SECRET: Final = 5
_ESCAPE: Final = r"\\*"  # JSON may hold one before any sign


def check_url(url: str) -> SplitResult:
    """Refuse what is no web address."""
    try:
        return parts_of(url, "The channel's url")
    except RefusedError as error:
        raise SettingsError(str(error)) from None


def post(url: str, content: bytes, *, at: datetime, headers: Mapping[str, str]) -> str:
    """Post JSON, and return what was answered in a few words.

    What is answered but 2xx is an error. Only an address that is gone for good is final: a
    setting, a wrong token or a receiver's mistake may be put right in time. No text holds more of
    the address than its host.
    """
    token = ""
    try:
        place = parts_of(url, "The channel's url")
        token = authorization(place)
        answer = _answer(url, content, _headers(token, headers))
    except RefusedError as error:
        raise DeliveryError(_without(str(error), url, token)) from None
    except UnreachableError as error:
        said = _without(str(error), url, token)
        may_have_come = not isinstance(error.__context__, NEVER_THERE)
        raise DeliveryError(said, may_have_come=may_have_come) from None
    said = f"{place.netloc} answered {answer.status}"
    if not 200 <= answer.status < 300:
        raise _failure(answer, said, place, url, at)
    return said


def _headers(token: str, headers: Mapping[str, str]) -> dict[str, str]:
    known = {"Authorization": token} if token else {}
    return {"Content-Type": "application/json", "User-Agent": "modelperf", **headers, **known}


def _answer(url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
    limits = Limits.of_settings(max_bytes=_MOST_OF_AN_ANSWER)
    try:
        return send("POST", url, limits=limits, headers=headers, content=content)
    except UnreachableError as error:
        if error.answer is not None:  # whether it was taken is known
            return error.answer
        raise


def _failure(
    answer: Answer, said: str, place: SplitResult, url: str, at: datetime
) -> DeliveryError:
    if 300 <= answer.status < 400:
        return DeliveryError(
            f"{said}, and redirects are not followed. Set the url that it leads to."
        )
    token = authorization(place)
    told = _without(line(answer.content.decode("utf-8", "replace")), url, token)
    detail = f"{said}: {told[:_MOST_TOLD].rstrip('. ')}." if told else f"{said}."
    if answer.status in {401, 403} and not token:
        detail += f" MODELPERF_WEBHOOK_TOKENS holds nothing for {origins(place)[-1]}."
    return DeliveryError(
        detail,
        is_final=answer.status == _GONE,
        retry_after=_retry_after(answer.headers.get("retry-after", ""), at),
    )


def _retry_after(value: str, at: datetime) -> float | None:
    """Return the seconds that a receiver wants to be left alone for: a number, or a time."""
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((until - at).total_seconds(), 0.0), _LONGEST_WAIT)


def _without(text: str, url: str, token: str) -> str:
    """Return a text without a token, and without what an address may hide in path and query."""
    rest = url.partition("://")[2].partition("/")[2]
    for sign in "?&=#":
        rest = rest.replace(sign, "/")
    known = {part for part in rest.split("/") if len(part) >= _SHORTEST_SECRET}
    known |= {unquote(part) for part in known}
    known |= {line(token), line(token).partition(" ")[2]} - {""}  # with its scheme, and without
    for part in sorted(known, key=len, reverse=True):
        text = re.sub(_ESCAPE.join(map(re.escape, part)), "***", text)
    return text
