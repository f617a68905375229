"""Strict JSON: what a lenient reader would quietly change is refused, saying where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, Final

import msgspec
from django.http import HttpRequest
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from modelperf.services.errors import FieldError, InvalidError
from modelperf.services.metrics import LARGEST_BATCH

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
LINES: Final = frozenset((NDJSON, "application/jsonl"))
DEEPEST: Final = 64
_MEMBER: Final = re.compile(rb'"[ \t\r\n]*:')
_CONTAINERS: Final = frozenset((dict, list))
_LINE: Final = re.compile(rb"[^ \t\r\n][^\n]*")


class StrictJSONParser(BaseParser):
    """Reads a JSON body for REST framework."""

    media_type = JSON

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> Any:
        """Return the decoded body. Django bounds its size only where `.body` is read."""
        request: HttpRequest = parser_context["request"]
        return decode(request.body)


class LinesParser(BaseParser):
    """Reads a body of one JSON value a line."""

    media_type = NDJSON

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> Any:
        """Return the decoded lines. Django bounds their size only where `.body` is read."""
        request: HttpRequest = parser_context["request"]
        return decode_lines(request.body)


class Lines(list[Any]):
    """The values of lines; `numbers` counts the lines from 1, blank ones included."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def named(self, error: FieldError) -> FieldError:
        """Tell the line of an error beside the row that has it."""
        row = error.loc[1] if len(error.loc) > 1 else None
        if not isinstance(row, int) or row >= len(self.numbers):
            return error
        return FieldError(error.loc, f"Line {self.numbers[row]}: {error.msg}", error.type)


class AnyIsJSON(BaseContentNegotiation):
    """Answers are JSON whatever is asked for; a CSV page is asked for by a parameter."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """Return the parser of a JSON body, None (415) for another."""
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        view = request.parser_context["view"]
        if kind in LINES and getattr(view, "takes_lines", False):
            return LinesParser()
        is_json = kind == JSON or (kind.startswith("application/") and kind.endswith("+json"))
        return parsers[0] if is_json else None

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        """Return the only renderer."""
        return renderers[0], renderers[0].media_type


def decode(body: bytes) -> Any:
    """Decode JSON; refuse duplicate names, NUL characters, excess of depth and non-finite numbers.

    A duplicate name has no length of its own in the result. So the names of the result are
    counted, and whatever looks like a name in the text: where they are equal none is missing.
    """
    value = _decoded(body)
    if _count_names(value, DEEPEST) != _upper_bound_of_names(body):
        _refuse_duplicates(body, value)
    if b"\\u0000" in body:
        _refuse_nul(value)
    return value


def decode_lines(body: bytes) -> Lines:
    """Decode one JSON value a line, each as strictly as a body; blank lines are skipped.

    Lines are decoded one by one, and none after the first that is too many.
    """
    lines = Lines()
    for number, line in islice(_numbered(body), LARGEST_BATCH + 1):
        lines.numbers.append(number)
        try:
            lines.append(decode(line))
        except InvalidError as error:
            loc = ("body", len(lines), *error.errors[0].loc[1:])
            told = lines.named(FieldError(loc, error.errors[0].msg, error.errors[0].type))
            raise InvalidError(told.msg, [told]) from None
        except ParseError as error:
            raise ParseError(f"Line {number}: {error.detail}") from None
    return lines


def _numbered(body: bytes) -> Iterator[tuple[int, bytes]]:
    number, seen = 1, 0
    for line in _LINE.finditer(body):
        number += body.count(b"\n", seen, line.start())
        seen = line.start()
        yield number, line.group()


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError:  # a well-formed number without a finite value
        raise _not_finite(body) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if re.search(rb"\b(NaN|Infinity)\b", body):
            raise _not_finite(body) from None
        raise ParseError(f"The body is not JSON: {error}.") from None


def _count_names(value: Any, depth: int) -> int:
    if type(value) not in _CONTAINERS:
        return 0
    if not depth:
        raise _too_deep()
    names, children = (len(value), value.values()) if type(value) is dict else (0, value)
    for child in children:
        if type(child) in _CONTAINERS:
            names += _count_names(child, depth - 1)
    return names


def _upper_bound_of_names(body: bytes) -> int:
    """Count quotes before colons: all names, and strings that begin with or contain the pair.

    Only where a quote is followed by white space can a colon come after that.
    """
    white_space = [character for character in (b" ", b"\n", b"\t", b"\r") if character in body]
    if any(b'"' + character in body for character in white_space):
        return len(_MEMBER.findall(body))
    return body.count(b'":')


def _refuse_duplicates(body: bytes, value: Any) -> None:
    if isinstance(value, list):
        for number, row in enumerate(msgspec.json.decode(body, type=list[msgspec.Raw])):
            json.loads(bytes(row), object_pairs_hook=_UniqueNames(number))
    else:
        json.loads(body, object_pairs_hook=_UniqueNames())


class _UniqueNames:
    """Takes an object's members, and refuses a name that is there twice."""

    def __init__(self, *row: int) -> None:
        self.row = row

    def __call__(self, members: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in members:
            if name in seen:
                raise _invalid("The name is given twice.", (*self.row, name), "duplicate")
            seen.add(name)


def _refuse_nul(value: Any) -> None:
    for path, text in _texts(value, ()):
        if "\0" in text:
            raise _invalid("The text contains a NUL character.", path, "nul_character")


def _texts(value: Any, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, str):
        yield path, value
    members = value.items() if isinstance(value, dict) else ()
    for name, member in members:
        yield path, name
        yield from _texts(member, (*path, name))
    for number, member in enumerate(value if isinstance(value, list) else ()):
        yield from _texts(member, (*path, number))


def _not_finite(body: bytes) -> Exception:
    """Return the error of NaN, Infinity or 1e999, with its place where the rest is JSON."""
    try:
        value = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return ParseError(f"The body is not JSON: {error}.")
    except RecursionError:
        return _too_deep()
    except ValueError:  # thousands of digits
        return _invalid("A number is too large.", (), "too_large")
    for path, number in _numbers(value, ()):
        if not abs(number) < float("inf"):
            return _invalid("The number is not finite.", path, "not_finite")
    return _invalid("A number is too large.", (), "too_large")


def _numbers(value: Any, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, float):
        yield path, value
    pairs = value.items() if isinstance(value, dict) else ()
    for place, member in pairs or enumerate(value if isinstance(value, list) else ()):
        yield from _numbers(member, (*path, place))


def _too_deep() -> InvalidError:
    return _invalid(f"The body is nested deeper than {DEEPEST} levels.", (), "too_deep")


def _invalid(msg: str, path: tuple[str | int, ...], type: str) -> InvalidError:
    return InvalidError(msg, [FieldError(("body", *short(path)), msg, type)])


def short(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the row and the name of a place: metrics are named without their container."""
    row, names = (path[:1], path[1:]) if path and isinstance(path[0], int) else ((), path)
    if names[:1] == ("metrics",) and len(names) > 1:
        names = names[1:]
    return (*row, *names[:1])
