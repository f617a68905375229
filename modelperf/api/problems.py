"""Every error as a problem document (RFC 9457), whoever raised it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.views import defaults
from rest_framework import exceptions

from modelperf.services.errors import (
    ConflictError,
    DomainError,
    FieldError,
    InvalidError,
    NotFoundError,
)

log = structlog.get_logger(__name__)

API_ROOT: Final = "/api/"
MOST_ERRORS: Final = 100


def problem(
    status: int, detail: str, *, headers: dict[str, str] | None = None, **members: Any
) -> HttpResponse:
    """Return a problem document."""
    title = HTTPStatus(status).phrase
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return HttpResponse(
        msgspec.json.encode(document | members, enc_hook=str),
        status=status,
        content_type="application/problem+json",
        headers=headers,
    )


def problem_response(error: Exception, context: Any) -> HttpResponse | None:
    """Answer an error raised in a view; None leaves it to Django, which logs it as a 500."""
    if isinstance(error, exceptions.APIException):
        return _framework_problem(error, (context or {}).get("view"))
    return next((answer(error) for kind, answer in _ANSWERS if isinstance(error, kind)), None)


def _database_problem(error: Exception) -> HttpResponse:
    log.error("database_did_not_answer", exc_info=error)
    detail = "The database did not answer in time. Try again."
    return problem(503, detail, headers={"Retry-After": "1"})


def _domain_problem(error: DomainError) -> HttpResponse:
    if isinstance(error, NotFoundError):
        return problem(404, error.detail)
    if isinstance(error, ConflictError):
        return problem(409, error.detail, **({"state": error.state} if error.state else {}))
    errors = error.errors if isinstance(error, InvalidError) else []
    return problem(422, error.detail, errors=[_described(each) for each in errors[:MOST_ERRORS]])


def _described(error: FieldError) -> dict[str, Any]:
    return {"loc": list(error.loc), "msg": error.msg, "type": error.type}


def _told(error: exceptions.APIException, view: Any) -> str:
    """Return what is wrong with a request, with what would have been right."""
    detail = str(error.detail)
    if isinstance(error, exceptions.NotAuthenticated):
        return "A key is needed: send the header Authorization: Api-Key <key>."
    if isinstance(error, exceptions.MethodNotAllowed) and view is not None:
        return f"{detail} Send {', '.join(view.allowed_methods)}."
    if isinstance(error, exceptions.UnsupportedMediaType) and detail.startswith("Unsupported"):
        return f"{detail} Send {', '.join(_media_types(view))}."
    return detail


def _media_types(view: Any) -> list[str]:
    """Return the media types of bodies that a call takes."""
    call = getattr(getattr(view, getattr(view, "action", None) or "", None), "call", None)
    lines = ["application/x-ndjson"] if getattr(call, "lines", False) else []
    return ["application/json", *lines, *getattr(call, "forms", ())]


def _framework_problem(error: exceptions.APIException, view: Any) -> HttpResponse:
    headers: dict[str, str] = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return problem(error.status_code, _told(error, view), headers=headers)


def _unreadable(_error: Exception) -> HttpResponse:
    return problem(400, "The request could not be read.")


def _too_large(_error: Exception) -> HttpResponse:
    return problem(413, "The body is too large. Send fewer rows at once.")


def _nothing_there(_error: Exception) -> HttpResponse:
    return problem(404, "There is nothing at this address.")


def _forbidden(error: Exception) -> HttpResponse:
    return problem(403, str(error) or "You may not do that.")


# The first kind that fits: a body that is too large is a suspicious operation to Django.
_ANSWERS: Final[tuple[tuple[Any, Callable[[Any], HttpResponse]], ...]] = (
    (DomainError, _domain_problem),
    (RequestDataTooBig, _too_large),
    (SuspiciousOperation, _unreadable),
    (UnreadablePostError, _unreadable),
    (Http404, _nothing_there),
    (PermissionDenied, _forbidden),
    (OperationalError, _database_problem),
    (InterfaceError, _database_problem),
)


# --- what never reaches a view --------------------------------------------------------------
# Django calls these by name (handler404 ..). Pages keep Django's own answers.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 400, for instance for a host that is not ours."""
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return problem_response(exception, None) or _unreadable(exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 403."""
    if not _is_api(request):
        return defaults.permission_denied(request, exception)
    return problem(403, "You may not do that.")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
    """Answer 404; also the view of every API path that nothing else takes."""
    if not _is_api(request):
        return defaults.page_not_found(request, exception or Http404())
    return _nothing_there(Http404())


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer 500 without a word of what went wrong inside: that stands in the log."""
    if not _is_api(request):
        return defaults.server_error(request)
    return problem(500, "Something went wrong on our side. It has been logged.")


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith((API_ROOT, "/livez", "/readyz"))
