"""Members of the groups that the migrations make, also after a test that has emptied all tables."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import connection

from tests import factories

NAMES = ("viewer", "operator", "administrator")


def make_groups() -> None:
    """Make the groups as the migration does."""
    migration = import_module("modelperf.migrations.0012_groups")
    migration.make_groups(apps, SimpleNamespace(connection=connection))


def member(group: str, username: str = "") -> User:
    """Return a member of staff, no superuser, who is in one of the groups."""
    if not Group.objects.filter(name=group).exists():
        make_groups()
    user = factories.UserFactory.create(username=username or f"a {group}", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    return user
