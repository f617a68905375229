"""The OpenAPI document: what calls declare, in the words of OpenAPI 3.1."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec
from django.db.models import Choices
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from msgspec import Struct

from modelperf.api.authentication import ApiKeyAuthentication, RunTokenAuthentication
from modelperf.api.base import Call
from modelperf.api.parameters import parameters
from modelperf.api.parsers import JSON, NDJSON
from modelperf.services.metrics import Evaluation

REFERENCE: Final = "#/components/schemas/{name}"
# A metric may stand beside the parameters, under a name that none of them has.
OPEN_TO_NUMBERS: Final = (Evaluation,)
TIMES: Final = ("evaluation_start", "evaluation_end", "evaluation_date")
ALWAYS: Final = (400, 401, 403, 422, 429, 503)
WITH_BODY: Final = (411, 413, 415)
_BYTES: Final = {"type": "string", "description": "The columns; parameters stand in the query."}
_LINES: Final = "What the JSON array has, one a line."
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the state that is to be changed, else 409; `*` is any.",
    "schema": {"type": "string"},
}


class FieldProblem(Struct):
    """One thing wrong with a request, and where: query or body, row of a batch, name."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(Struct):
    """An error (RFC 9457). `detail` is a sentence; 422 names every field."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []
    state: dict[str, Any] = {}


class CallSchema(AutoSchema):
    """Describes an endpoint by its call."""

    schemas: ClassVar[dict[str, Any]] = {}

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Return the operation."""
        if self.is_excluded():
            return None
        self.path, _, _, method, self.registry = args
        self.method = method.upper()
        self.action: str = self.view.action  # type: ignore[attr-defined]
        method_of_view = getattr(self.view, self.action)
        self.call: Call = method_of_view.call
        summary, _, description = (method_of_view.__doc__ or "").strip().partition("\n")
        operation = {
            "operationId": self._operation_id(),
            "summary": summary.rstrip("."),
            "description": _text(description, self._scope()),
            "parameters": [
                *self._path_parameters(),
                *self._query_parameters(),
                *([_IF_MATCH] if self.call.if_match else []),
            ],
            "tags": [type(self.view).__name__],
            "requestBody": self._body(),
            "security": self.get_auth(),
            "responses": self._responses(),
        }
        return {name: value for name, value in operation.items() if value}

    def _operation_id(self) -> str:
        return f"{type(self.view).__name__}_{self.action}".lower()

    def _scope(self) -> str:
        return f"Needs the scope `{self.call.scope}`."

    def _path_parameters(self) -> list[dict[str, Any]]:
        names = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        forms = {"model_type": {"type": "string"}}
        an_id = {"type": "string", "format": "uuid"}
        return [
            {"name": name, "in": "path", "required": True, "schema": forms.get(name, an_id)}
            for name in names
        ]

    def _query_parameters(self) -> list[dict[str, Any]]:
        call = self.call
        if call.takes is None or call.style == "body":
            return []
        properties = _schemas(call.takes)[1][call.takes.__name__]["properties"]
        return [
            {
                "name": name,
                "in": "query",
                "required": parameters(call.takes)[name].is_required and call.style == "query",
                "schema": _in_query(form),
            }
            for name, form in properties.items()
            if not _is_structured(form)
        ]

    def _body(self) -> dict[str, Any] | None:
        call = self.call
        if call.sends:
            return {"required": True, "content": self._content(call.sends)}
        if call.takes is None or call.style == "query" or self.method == "GET":
            return None
        if call.style == "body":
            return {"required": self._needs_body(), "content": self._content(call.takes)}
        form = dict(_schemas(call.takes)[1][call.takes.__name__])
        needed = ", ".join(form.pop("required", []))
        text = f"Needed here or in the query string: {needed}. Where both give one they agree."
        others = {media: {"schema": _BYTES} for media in call.forms}
        content = {JSON: {"schema": form}, **others}
        return {"required": False, "description": text, "content": content}

    def _needs_body(self) -> bool:
        """Whether nothing at all is too little: what is put or changed is said, even if empty."""
        takes = self.call.takes
        is_given = any(one.is_required for one in parameters(takes).values()) if takes else False
        return self.method != "POST" or is_given

    def _responses(self) -> dict[str, Any]:
        call = self.call
        answer: dict[str, Any] = {
            "description": "The answer.",
            "content": self._content(call.answers),
        }
        if "format" in (parameters(call.takes) if call.takes else ()):
            answer["content"]["text/csv"] = {"schema": {"type": "string"}}
        created = {"201": answer} if self.action == "create" else {}
        has_body = WITH_BODY if self.method != "GET" or call.style == "either" else ()
        statuses = sorted({*ALWAYS, *has_body, *call.problems})
        problem = {"application/problem+json": {"schema": self._form(Problem)}}
        problems = {str(s): {"description": _MEANING[s], "content": problem} for s in statuses}
        return {"200": answer, **created, **problems}

    def _content(self, kind: Any) -> dict[str, Any]:
        """Return an array's schema as JSON, and where the call has it so, as one value a line."""
        content: dict[str, Any] = {JSON: {"schema": self._form(kind)}}
        if self.call.lines:
            content[NDJSON] = {"schema": {"type": "string", "description": _LINES}}
        return content

    def _form(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a kind; the structs in it become components."""
        form, components = _schemas(kind)
        for name, schema in components.items():
            kind_of = ResolvedComponent.SCHEMA
            known = self.schemas.setdefault(name, schema)
            if known != schema:
                raise AssertionError(f"Two structs of the API are called {name}.")
            component = ResolvedComponent(name, kind_of, schema, object=name)  # type: ignore[no-untyped-call]
            self.registry.register_on_missing(component)
        return form


_MEANING: Final = {
    400: "The request cannot be read.",
    401: "No key or session, or not a valid one.",
    403: "The key or the user may not do that.",
    404: "What is named does not exist, or the key may not see it.",
    409: "The present state does not allow it.",
    411: "The body has no Content-Length.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A parameter is wrong; `errors` names each.",
    429: "Too many failed keys from this address.",
    503: "The database did not answer in time.",
}


def _schemas(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (form,), components = msgspec.json.schema_components(
        [kind], schema_hook=_of_choices, ref_template=REFERENCE
    )
    for component in components.values():
        component["description"] = _text(component["description"])
    for struct in OPEN_TO_NUMBERS:
        if struct.__name__ in components:
            components[struct.__name__] = _open(components[struct.__name__])
    return form, components


def _of_choices(kind: type[Any]) -> dict[str, Any]:
    """Return the schema of Django's choices, whose values are all that there is."""
    if not issubclass(kind, Choices):
        raise TypeError(f"OpenAPI has no words for {kind.__name__}.")
    return {"enum": list(kind.values)}


def _open(form: dict[str, Any]) -> dict[str, Any]:
    """Let bare metrics stand beside the parameters, and say that its times have an offset."""
    times = {name: _as_time(value) for name, value in form["properties"].items() if name in TIMES}
    form = form | {"properties": form["properties"] | times}
    required = [name for name in form.get("required", ()) if name != "metrics"]
    form = form | {"required": required, "additionalProperties": {"type": "number"}}
    return {name: value for name, value in form.items() if value != []}


def _as_time(form: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in form:
        return form | {"anyOf": [_as_time(choice) for choice in form["anyOf"]]}
    return form | {"format": "date-time"} if form.get("type") == "string" else form


def _in_query(form: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter, which cannot be null: it is left out instead."""
    choices = [
        choice
        for choice in form.get("anyOf", ())
        if choice.get("type") != "null" and not _is_structured(choice)
    ]
    default = {"default": form["default"]} if form.get("default") is not None else {}
    kept = choices[0] if len(choices) == 1 else {n: v for n, v in form.items() if n != "default"}
    return kept | default


def _is_structured(form: dict[str, Any]) -> bool:
    return form.get("type") in {"object", "array"}


def _text(*parts: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in parts if part.strip())


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The key in the OpenAPI document."""

    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        text = "The word Api-Key, a blank and the key."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": text}


class RunTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The token of a training run in the OpenAPI document."""

    target_class = RunTokenAuthentication
    name = "runToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        text = "The token that came with the request to train: it serves for this run alone."
        return {"type": "http", "scheme": "bearer", "description": text}
