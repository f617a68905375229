"""`manage.py create_api_key`."""

import uuid
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from modelperf.models import ApiKey
from tests import factories

pytestmark = pytest.mark.django_db


def create(*arguments: str) -> str:
    out = StringIO()
    call_command("create_api_key", *arguments, stdout=out)
    return out.getvalue()


def test_create_api_key_prints_the_key_and_nothing_else() -> None:
    printed = create("nightly", "--scopes", "read, write")

    assert printed.count("\n") == 1
    key = ApiKey.objects.get_from_key(printed.strip())
    assert (key.name, key.scopes, key.expiry_date) == ("nightly", ["read", "write"], None)


def test_create_api_key_expires_at_the_end_of_a_day() -> None:
    tomorrow = timezone.now().astimezone(UTC).date() + timedelta(days=1)

    key = ApiKey.objects.get_from_key(
        create("nightly", "--scopes", "read", "--expires", str(tomorrow)).strip()
    )

    assert key.expiry_date is not None
    assert key.expiry_date.date() == tomorrow
    assert key.expiry_date.hour == 23


def test_create_api_key_expires_at_a_time_with_an_offset() -> None:
    key = ApiKey.objects.get_from_key(
        create("nightly", "--scopes", "read", "--expires", "2100-01-01T01:00:00+01:00").strip()
    )

    assert key.expiry_date == datetime(2100, 1, 1, tzinfo=UTC)


def test_create_api_key_for_machines_limits_it() -> None:
    first, second = factories.MachineFactory.create_batch(2)

    key = ApiKey.objects.get_from_key(
        create(
            "nightly", "--scopes=read", "--machine", str(first.pk), "--machine", str(second.pk)
        ).strip()
    )

    assert set(key.machines.all()) == {first, second}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nightly", "--scopes", "root"], "Unknown scope root"),
        (["nightly", "--scopes", ","], "needs a scope"),
        (["nightly"], "--scopes"),
        (["nightly", "--scopes", "read", "--expires", "2020-01-01"], "past"),
        (["nightly", "--scopes", "read", "--expires", "soon"], "not a date"),
        (["nightly", "--scopes", "read", "--expires", "2026-02-30"], "not a date"),
        (["nightly", "--scopes", "read", "--expires", "2100-01-01T01:00:00"], "no offset"),
        (["nightly", "--scopes", "read", "--machine", "pump-1"], "pump-1"),
        (["nightly", "--scopes", "read", "--machine", str(uuid.uuid4())], "Machine not found"),
    ],
)
def test_create_api_key_with_wrong_arguments_says_what_is_wrong(
    arguments: list[str], says: str
) -> None:
    with pytest.raises(CommandError, match=says):
        create(*arguments)

    assert not ApiKey.objects.exists()
