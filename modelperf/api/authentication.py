"""Who calls and what they may do: API keys with scopes, sessions with permissions."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from modelperf.api.throttling import count_failed_key
from modelperf.models import ApiKey, TrainingRun
from modelperf.models.access import PERMISSION_OF_SCOPE
from modelperf.services.database import execute, repeated
from modelperf.services.training_callbacks import is_token_of

READ, WRITE, TRAIN, TRIAGE, ADMIN = ApiKey.Scope.values
KEYWORD: Final = "Api-Key"
BEARER: Final = "Bearer"
# Anything else cannot be a key and is refused without asking the database.
_KEY_FORM: Final = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}", re.ASCII)
_FIND_KEY: Final = """
    SELECT name, hashed_key, scopes, expiry_date, is_limited,
        ARRAY(SELECT machine_id FROM api_key_machines WHERE apikey_id = api_keys.id)
    FROM api_keys
    WHERE prefix = %s AND NOT revoked
"""


@dataclass(frozen=True)
class Program:
    """The holder of a key, where REST framework expects a user."""

    name: str
    is_authenticated: ClassVar[bool] = True
    is_active: ClassVar[bool] = True
    pk: ClassVar[None] = None


@dataclass(frozen=True)
class Access:
    """What the caller may do; `machine_ids` None means every machine."""

    actor: str
    scopes: frozenset[str] = frozenset()
    machine_ids: frozenset[uuid.UUID] | None = None
    user: Any = None

    def allows(self, scope: str) -> bool:
        """Whether the scope is given. Admin includes the others; every user may read."""
        if self.user is not None:
            return scope == READ or self.user.has_perm(PERMISSION_OF_SCOPE[scope])
        return scope in self.scopes or ADMIN in self.scopes


def access_of(request: Request) -> Access:
    """Return the access of an authenticated request."""
    if isinstance(request.auth, Access):
        return request.auth
    return Access(actor=f"user:{request.user.get_username()}", user=request.user)


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Api-Key <key>`; one statement finds the key and its machines."""

    def authenticate(self, request: Request) -> tuple[Program, Access] | None:
        """Return the program and its access, None where no key is given."""
        keyword, _, text = request.headers.get("Authorization", "").partition(" ")
        if keyword.lower() != KEYWORD.lower():
            return None
        access = _access(text.strip())
        if access is None:
            count_failed_key(request._request)  # noqa: SLF001 -- REST framework's own name
            raise AuthenticationFailed("This key is unknown, revoked or expired.")
        return Program(access.actor), access

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401."""
        return KEYWORD


def _access(text: str) -> Access | None:
    """Return the access of a key in use, None for any other text.

    The statement is prepared: the same through the ORM costs twenty times the processor time,
    on every request. A server that is just being replaced is waited for.
    """
    if not _KEY_FORM.fullmatch(text):
        return None
    found = repeated(lambda: execute(_FIND_KEY, (text[:8],)).fetchone())
    if found is None or not ApiKey.objects.key_generator.verify(text, found[1]):
        return None
    name, _, scopes, expires_at, is_limited, machine_ids = found
    if expires_at is not None and expires_at < timezone.now():
        return None
    # A key stays limited when its machines are deleted: it then sees none.
    named = frozenset(machine_ids) if is_limited or machine_ids else None
    return Access(actor=f"key:{name}", scopes=frozenset(scopes), machine_ids=named)


class RunTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>` at the addresses of the one run that the token is of.

    Only the calls by which others report about a run ask for it. Nothing is looked up: the token
    follows from the run's id, so that of another run is told apart in constant time.
    """

    def authenticate(self, request: Request) -> tuple[Program, Access] | None:
        """Return whoever trains the run, None where no token is given."""
        keyword, _, token = request.headers.get("Authorization", "").partition(" ")
        if keyword.lower() != BEARER.lower():
            return None
        run_id = _uuid(request.parser_context["kwargs"].get("id", ""))
        if run_id is None or not is_token_of(token.strip(), TrainingRun(pk=run_id)):
            count_failed_key(request._request)  # noqa: SLF001 -- REST framework's own name
            raise PermissionDenied("This is not the token of this training run.")
        access = Access(actor=f"run:{run_id}", scopes=frozenset((TRAIN,)))
        return Program(access.actor), access

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401."""
        return BEARER


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


class HasScope(BasePermission):
    """Lets a caller through who has the scope that the called method declares."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether the caller may; a method that does not exist is left to answer 405."""
        if not request.user.is_authenticated:
            return False
        scope = scope_of(view)
        self.message = f"This needs the scope {scope}."
        return access_of(request).allows(scope)


def scope_of(view: Any) -> str:
    """Return the scope that the view's current method declares, else read."""
    method = getattr(view, getattr(view, "action", None) or "", None)
    return str(getattr(getattr(method, "call", None), "scope", READ))
