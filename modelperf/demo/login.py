"""The demo's login and key: made once, shown once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from django.contrib.auth import get_user_model

from modelperf.models import ApiKey
from modelperf.services import access

USERNAME = "demo"


@dataclass(frozen=True, slots=True)
class Login:
    """A user for the pages and the admin, and a key for the API; both may do everything."""

    username: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)


def create() -> Login | None:
    """Make the demo's user and key; None where there is such a user, who is left alone."""
    users = get_user_model().objects
    if users.filter(username=USERNAME).exists():
        return None
    password = secrets.token_urlsafe(12)
    users.create_superuser(username=USERNAME, password=password)
    _, api_key = access.create_api_key(name=USERNAME, scopes=list(ApiKey.Scope.values))
    return Login(username=USERNAME, password=password, api_key=api_key)
