"""Keys for programs: made and shown once, revoked by name."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime

import structlog
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone

from modelperf.models import ApiKey, Machine
from modelperf.models.access import PERMISSION_OF_SCOPE
from modelperf.services.errors import ConflictError, InvalidError, NotFoundError

log = structlog.get_logger(__name__)

NAME_LENGTH = 50


@transaction.atomic
def create_api_key(
    *,
    name: str,
    scopes: list[str],
    expires_at: datetime | None = None,
    machines: Collection[Machine | uuid.UUID] = (),
) -> tuple[ApiKey, str]:
    """Make a key and return it with its plain text, which is stored nowhere."""
    limited_to = _existing(machines)
    key = ApiKey(
        name=_checked_name(name),
        scopes=_checked_scopes(scopes),
        expiry_date=_checked_expiry(expires_at),
        is_limited=bool(limited_to),
    )
    plain = ApiKey.objects.assign_key(key)
    key.save(force_insert=True)
    key.machines.set(limited_to)
    log.info("api_key_created", prefix=key.prefix, name=key.name, scopes=key.scopes)
    return key, plain


def grantable_scopes(user: User | AnonymousUser) -> list[str]:
    """Return the scopes that a user may give to keys: those he has himself.

    Admin includes the others, so it takes all of their permissions.
    """
    own = [scope for scope, name in PERMISSION_OF_SCOPE.items() if user.has_perm(name)]
    if len(own) < len(PERMISSION_OF_SCOPE):
        own = [scope for scope in own if scope != ApiKey.Scope.ADMIN]
    return [ApiKey.Scope.READ.value, *own]


@transaction.atomic
def revoke_api_key(*, key: ApiKey, by: str) -> ApiKey:
    """Make a key useless for good."""
    changed = ApiKey.objects.filter(pk=key.pk, revoked=False).update(revoked=True)
    if not changed:
        if not ApiKey.objects.filter(pk=key.pk).exists():
            raise NotFoundError("API key not found")
        raise ConflictError(f"The key {key.name} is revoked already.", revoked=True)
    key.refresh_from_db()
    log.info("api_key_revoked", prefix=key.prefix, name=key.name, by=by)
    return key


def _checked_name(name: str) -> str:
    stripped = name.strip()
    if not stripped:
        raise InvalidError.field("name", "Give the key a name that says who uses it.")
    if len(stripped) > NAME_LENGTH:
        raise InvalidError.field("name", f"A name has at most {NAME_LENGTH} characters.")
    if not stripped.isprintable():
        raise InvalidError.field("name", "A name consists of printable characters.")
    return stripped


def _checked_scopes(scopes: list[str]) -> list[str]:
    unknown = sorted(set(scopes) - set(ApiKey.Scope.values))
    if unknown or not scopes:
        known = ", ".join(ApiKey.Scope.values)
        reason = f"Unknown scope {', '.join(unknown)}." if unknown else "A key needs a scope."
        raise InvalidError.field("scopes", f"{reason} Choose from {known}.")
    return [scope for scope in ApiKey.Scope.values if scope in scopes]


def _checked_expiry(expires_at: datetime | None) -> datetime | None:
    if expires_at is None:
        return None
    if timezone.is_naive(expires_at):
        raise InvalidError.field("expires_at", "The expiry needs a time zone.")
    if expires_at <= timezone.now():
        raise InvalidError.field("expires_at", "The expiry lies in the past.")
    return expires_at


def _existing(machines: Collection[Machine | uuid.UUID]) -> list[Machine]:
    wanted = {machine.pk if isinstance(machine, Machine) else machine for machine in machines}
    found = list(Machine.objects.filter(pk__in=wanted))
    # A key whose machines were left out would see the whole fleet: refuse instead.
    missing = wanted - {machine.pk for machine in found}
    if missing:
        names = ", ".join(sorted(str(pk) for pk in missing))
        raise NotFoundError(f"Machine not found: {names}")
    return found
