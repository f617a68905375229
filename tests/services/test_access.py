"""API keys: made, shown once, revoked."""

import uuid
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from modelperf.models import ApiKey
from modelperf.services import access
from modelperf.services.errors import ConflictError, InvalidError, NotFoundError
from tests import factories

pytestmark = pytest.mark.django_db


def test_create_api_key_returns_a_plain_key_that_opens_and_is_stored_nowhere() -> None:
    key, plain = access.create_api_key(name="nightly", scopes=["write", "read"])

    assert ApiKey.objects.get_from_key(plain) == key
    assert key.scopes == ["read", "write"]
    stored = ApiKey.objects.filter(pk=key.pk).values().get()
    assert plain.split(".")[1] not in repr(stored)


def test_create_api_key_limited_to_machines_keeps_them() -> None:
    machine, other = factories.MachineFactory.create_batch(2)

    key, _ = access.create_api_key(name="line 1", scopes=["read"], machines=[machine, other.pk])

    assert set(key.machines.all()) == {machine, other}
    assert ApiKey.objects.get(pk=key.pk).is_limited


def test_create_api_key_limited_to_machines_stays_limited_without_them() -> None:
    machine = factories.MachineFactory()
    key, _ = access.create_api_key(name="line 1", scopes=["read"], machines=[machine])

    machine.delete()

    key.refresh_from_db()
    assert (key.is_limited, key.machines.count()) == (True, 0)


def test_create_api_key_without_machines_is_not_limited() -> None:
    key, _ = access.create_api_key(name="nightly", scopes=["read"], machines=[])

    assert not ApiKey.objects.get(pk=key.pk).is_limited


def test_create_api_key_for_unknown_machine_is_refused_and_stores_nothing() -> None:
    unknown = uuid.uuid4()

    with pytest.raises(NotFoundError, match=str(unknown)):
        access.create_api_key(name="line 1", scopes=["read"], machines=[unknown])

    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"name": "  "}, "name", "Give the key a name"),
        ({"name": "x" * 51}, "name", "at most 50"),
        ({"name": "a\nb"}, "name", "printable"),
        ({"scopes": []}, "scopes", "needs a scope"),
        ({"scopes": ["read", "root"]}, "scopes", "Unknown scope root"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expires_at", "past"),
        ({"expires_at": datetime(2100, 1, 1)}, "expires_at", "time zone"),  # noqa: DTZ001
    ],
)
def test_create_api_key_with_wrong_values_names_the_field(
    values: dict[str, object], field: str, says: str
) -> None:
    with pytest.raises(InvalidError, match=says) as caught:
        access.create_api_key(**{"name": "nightly", "scopes": ["read"]} | values)  # type: ignore[arg-type]

    assert caught.value.errors[0].loc == ("body", field)
    assert not ApiKey.objects.exists()


def test_revoke_api_key_makes_it_useless_for_good() -> None:
    key, plain = access.create_api_key(name="nightly", scopes=["read"])

    revoked = access.revoke_api_key(key=key, by="user:ada")

    assert revoked.revoked
    assert not ApiKey.objects.is_valid(plain)


def test_revoke_api_key_twice_is_a_conflict() -> None:
    key, _ = access.create_api_key(name="nightly", scopes=["read"])
    access.revoke_api_key(key=key, by="user:ada")

    with pytest.raises(ConflictError, match="revoked already"):
        access.revoke_api_key(key=key, by="user:ada")


def test_revoke_api_key_that_is_gone_is_not_found() -> None:
    key, _ = access.create_api_key(name="nightly", scopes=["read"])
    ApiKey.objects.filter(pk=key.pk).delete()

    with pytest.raises(NotFoundError):
        access.revoke_api_key(key=key, by="user:ada")
