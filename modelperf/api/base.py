"""What all endpoints share: a call declares what it takes and answers, and the rest follows.

From one declaration come the scope that is asked for, how parameters are read, the form of the
answer, and the call's part of the OpenAPI document.
"""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from django.db.models import QuerySet
from django.http import HttpResponse
from msgspec import Struct
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet

from modelperf.api import parameters
from modelperf.api.authentication import READ, Access, access_of
from modelperf.api.cursors import Order, Paged, page, renamed
from modelperf.api.parsers import JSON, NDJSON, short
from modelperf.models import Machine, ModelVersion
from modelperf.services.errors import FieldError, InvalidError, NotFoundError

Style = Literal["query", "body", "either"]
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True)
class Call:
    """What a method of an endpoint declares."""

    takes: type[Struct] | None
    answers: Any
    scope: str
    style: Style
    reshape: Callable[[Any], Any] | None
    sends: Any
    problems: tuple[int, ...]
    lines: bool
    forms: tuple[str, ...]
    if_match: bool


@dataclass
class Answer:
    """An answer with another status or with headers of its own."""

    value: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def call(
    *,
    takes: type[Struct] | None = None,
    answers: Any,
    scope: str = READ,
    style: Style = "query",
    reshape: Callable[[Any], Any] | None = None,
    sends: Any = None,
    problems: tuple[int, ...] = (),
    lines: bool = False,
    forms: tuple[str, ...] = (),
    if_match: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., HttpResponse]]:
    """Make a method an endpoint: `method(self, given, **ids)` returns the answer's value.

    With `lines` an array that it sends or answers may be one value a line instead; `forms` are the
    media types of bodies that the method reads itself. With `if_match` the method heeds the header
    If-Match by `self.revision`.
    """
    declared = Call(takes, answers, scope, style, reshape, sends, problems, lines, forms, if_match)

    def decorate(method: Callable[..., Any]) -> Callable[..., HttpResponse]:
        @functools.wraps(method)
        def endpoint(self: Endpoint, request: Request, **path: str) -> HttpResponse:
            ids = {name: parameters.in_path(name, text) for name, text in path.items()}
            given = self.given(declared)
            self.is_read = True
            value = method(self, *((given,) if takes else ()), **ids)
            return answered(value, answers, lines=lines and self.asks_for_lines)

        endpoint.call = declared  # type: ignore[attr-defined]
        return endpoint

    return decorate


def answered(value: Any, kind: Any, *, lines: bool = False) -> HttpResponse:
    """Return the value as JSON, with the fields of the declared kind and no others."""
    if isinstance(value, HttpResponse):
        return value
    answer = value if isinstance(value, Answer) else Answer(value)
    if lines:
        content = _ENCODER.encode_lines(shaped(answer.value, kind))
        return HttpResponse(content, NDJSON, answer.status, headers=answer.headers)
    content = msgspec.json.encode(shaped(answer.value, kind))
    return HttpResponse(content, JSON, answer.status, headers=answer.headers)


def shaped(value: Any, kind: Any) -> Any:
    """Return an object's declared attributes. Rows of queries have the declared fields already."""
    if isinstance(value, Rows):
        return value.shaped
    return msgspec.convert(value, kind, from_attributes=True)


@dataclass
class Rows:
    """Rows that a query has given the fields of the answer."""

    shaped: Any


def rows(found: QuerySet[Any], kind: type[Struct]) -> Rows:
    """Return a query's rows with the fields of an answer, in one statement."""
    return Rows(renamed(list(found.values(*kind.__struct_fields__)), kind))


class Nothing(Struct):
    """The parameters of a call that has none."""


class LengthRequired(APIException):
    """A body in chunks, which Django would take for none at all."""

    status_code = 411
    default_detail = "Send the body with a Content-Length, not in chunks."


class Endpoint(ViewSet):
    """The base of every endpoint."""

    http_method_names = ("get", "head", "post", "put", "patch", "delete")
    is_read = False

    @property
    def access(self) -> Access:
        """What the caller may do."""
        return access_of(self.request)

    @property
    def actor(self) -> str:
        """Who acts, as services record it."""
        return self.access.actor

    def given(self, declared: Call) -> Struct:
        """Return the call's parameters; one that stands where it may not is unknown."""
        kind = declared.takes or Nothing
        query = parameters.once(self.request.query_params)
        if declared.style == "query":
            if declared.sends is None:
                parameters.read(Nothing, body=self.body())
            return parameters.read(kind, query=query)
        body = self.body()
        if declared.style == "body":
            self._refuse_query(query)
            return parameters.read(kind, body={} if body is None else body)
        return parameters.read(kind, query=query, body=(declared.reshape or _as_is)(body))

    @property
    def takes_lines(self) -> bool:
        """Whether the call reads a body of one JSON value a line."""
        declared: Call = getattr(self, str(self.action)).call
        return declared.lines

    @property
    def asks_for_lines(self) -> bool:
        """Whether the caller would rather have one value a line than an array."""
        return self.request.get_preferred_type([JSON, NDJSON]) == NDJSON

    def body(self) -> Any:
        """Return the decoded body, None where nothing was sent."""
        if "Transfer-Encoding" in self.request.headers:
            raise LengthRequired
        return self.request.data if self.request.META.get("CONTENT_LENGTH") not in _EMPTY else None

    def machine(self, id: uuid.UUID) -> Machine:
        """Return a machine that the caller may see."""
        found = Machine.objects.within(self.access.machine_ids)
        machine: Machine = self.one(found, id, "Machine not found")
        return machine

    def model(self, id: uuid.UUID) -> ModelVersion:
        """Return a model version that the caller may see."""
        found = ModelVersion.objects.within(self.access.machine_ids)
        model: ModelVersion = self.one(found, id, "Model not found")
        return model

    def one(self, found: QuerySet[Any], id: uuid.UUID, missing: str) -> Any:
        """Return the row with the id."""
        row = found.filter(pk=id).first()
        if row is None:
            raise NotFoundError(missing)
        return row

    def current(self, found: QuerySet[Any], named: uuid.UUID | None) -> QuerySet[Any]:
        """Leave out what belongs to retired machines, unless one machine is asked for by name."""
        retired = Machine.objects.retired().values("pk")
        return found if named else found.exclude(machine_id__in=retired)

    def page(
        self, found: QuerySet[Any], kind: type[Struct], *, order: Order, given: Paged
    ) -> Answer:
        """Answer a page of a list, with its `next` in the body and as a Link."""
        results, link = page(self.request, found, kind, order=order, given=given)
        return Answer(Rows({"results": results, "next": link}), headers=next_link(link))

    @property
    def revision(self) -> int | None:
        """Return the revision that a change is meant for, None where any will do.

        It is what the `ETag` of an answer named; a proxy that compresses makes a weak one of it.
        """
        text = self.request.headers.get("If-Match", "*").strip()
        if text == "*":
            return None
        if (found := _REVISION.fullmatch(text)) is None:
            msg = 'If-Match is one ETag as it was answered, for instance "3", or *.'
            raise parameters.invalid([FieldError(("header", "If-Match"), msg, "value_error")])
        return int(found[1])

    def refuse_limited(self, verb: str) -> None:
        """Refuse what concerns no single machine to a key that is limited to some."""
        if self.access.machine_ids is not None:
            raise PermissionDenied(f"A key that is limited to machines may not {verb}.")

    def place(self, name: str) -> str:
        """Return where a parameter of a call of both styles stands: query or body."""
        return "query" if name in self.request.query_params else "body"

    def refused(self, name: str, msg: str) -> InvalidError:
        """Return the error of one parameter, with its place."""
        return InvalidError(msg, [FieldError((self.place(name), name), msg, "value_error")])

    def handle_exception(self, exc: Exception) -> Any:
        """Tell the place that services cannot know: a parameter may stand in the query string."""
        if isinstance(exc, InvalidError) and self.is_read:
            exc.errors = [self._placed(error) for error in exc.errors]
        return super().handle_exception(exc)

    def _placed(self, error: FieldError) -> FieldError:
        if error.loc[:1] != ("body",):
            return error
        place = short(error.loc[1:])
        where = self.place(str(place[0])) if place else "body"
        return FieldError((where, *place), error.msg, error.type)

    def _refuse_query(self, query: dict[str, str]) -> None:
        if query:
            msg = "The parameters of this call stand in the JSON body."
            raise parameters.invalid(
                [FieldError(("query", name), msg, "unknown") for name in query]
            )


def next_link(link: str | None) -> dict[str, str]:
    """Return the header that names the next page."""
    return {"Link": f'<{link}>; rel="next"'} if link else {}


_EMPTY: Final = (None, "", "0")
_REVISION: Final = re.compile(r'(?:W/)?"(\d{1,9})"', re.ASCII)


def _as_is(body: Any) -> Any:
    return body
