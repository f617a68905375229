"""Readings from a web address: CSV or JSON, from hosts that a setting allows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult, quote

from django.conf import settings

from modelperf.outgoing import (
    Answer,
    Limits,
    OversizedError,
    RefusedError,
    UnreachableError,
    parts_of,
    send,
)
from modelperf.trainers.base import TrainingError, UnavailableError
from modelperf.trainers.passing import is_passing
from modelperf.trainers.sources import Asked, filled, refuse_unknown_placeholders, register
from modelperf.trainers.sources_files import decoded, parsed
from modelperf.trainers.sources_table import Columns, TableSource, columns


@register("url")
class UrlSource(TableSource, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An address with `{machine_id}`, `{start}` and the like, which answers CSV or JSON.

    JSON is an array of objects. Redirects are not followed, and addresses that are not public
    are refused unless a setting names their network.
    """

    url: str

    def check(self) -> None:
        """Refuse what is no address of an allowed host."""
        TableSource.check(self)
        refuse_unknown_placeholders(self.url)
        _allowed(self.url)

    def table(self, asked: Asked) -> Columns:
        """Return what the address answers."""
        texts = {name: quote(_text(value), safe="") for name, value in asked.values.items()}
        place = _allowed(filled(self.url, texts))
        content, kind = _fetched(place)
        text = decoded(content, place.netloc)
        if "json" in kind:
            return _objects(text, place.netloc)
        names, rows = parsed(text, place.netloc)
        return columns(rows, names)


def _text(value: Any) -> str:
    return f"{value.astimezone(UTC):%FT%TZ}" if isinstance(value, datetime) else str(value)


def _allowed(url: str) -> SplitResult:
    """Return the parts of an address; refuse one that may not be asked."""
    try:
        place = parts_of(url, "The training source's url")
    except RefusedError as error:
        raise TrainingError(str(error)) from None
    if place.hostname not in settings.SOURCE_HOSTS:
        raise TrainingError(
            f"The host {place.hostname} is not one of those that MODELPERF_SOURCE_HOSTS allows"
            f" ({', '.join(settings.SOURCE_HOSTS) or 'none'})."
        )
    return place


def _fetched(place: SplitResult) -> tuple[bytes, str]:
    """Return the answer's content and its type, within the limits of size and time.

    Raises
    ------
    UnavailableError
        There was no answer, not all of it, or one that passes: it may be another one later.
    """
    limits = Limits(
        networks=settings.SOURCE_NETWORKS,
        seconds=settings.SOURCE_TIMEOUT_SECONDS,
        max_bytes=settings.SOURCE_MAX_BYTES,
        setting="MODELPERF_SOURCE",
    )
    headers = {"Accept": "text/csv, application/json"}
    cut: TrainingError | None = None
    try:
        answer = send("GET", place.geturl(), limits=limits, headers=headers)
    except RefusedError as error:
        raise TrainingError(str(error)) from None
    except UnreachableError as error:
        cut = _cut(error, place, limits)
        if error.answer is None:
            raise cut from error
        answer = error.answer
    if answer.status != 200:
        raise _failure(answer, place)
    if cut is not None:
        raise cut
    return answer.content, answer.headers.get("content-type", "").lower()


def _cut(error: UnreachableError, place: SplitResult, limits: Limits) -> TrainingError:
    """Return why there is no content; one that is too large is so the next time, too."""
    if isinstance(error, OversizedError):
        most = f"MODELPERF_SOURCE_MAX_BYTES ({limits.max_bytes:,})"
        return TrainingError(f"{place.netloc} sends more than {most}.")
    return UnavailableError(str(error))


def _failure(answer: Answer, place: SplitResult) -> TrainingError:
    said = f"{place.netloc} answered {answer.status} {answer.reason}."
    return UnavailableError(said) if is_passing(answer.status) else TrainingError(said)


def _objects(text: str, name: str) -> Columns:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        raise TrainingError(f"{name} answers no JSON.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TrainingError(f"{name} answers no array of objects.")
    names = list(rows[0]) if rows else []
    return {column: [row.get(column) for row in rows] for column in names}
