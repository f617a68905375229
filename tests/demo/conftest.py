"""One fresh demo for all tests of a file, in a transaction that is rolled back at the end.

Tests that use it are marked `django_db`: each runs at a savepoint in that transaction, so that what
it changes is undone.
"""

from collections.abc import Iterator
from datetime import datetime

import pytest
from django.db import transaction
from django.utils import timezone

from modelperf.demo.load import Loaded, load


@pytest.fixture(scope="module")
def steps() -> list[str]:
    """Return what the load reported."""
    return []


@pytest.fixture(scope="module")
def loaded_at() -> datetime:
    """Return when the demo is loaded: now, since its tests run for weeks from then on."""
    return timezone.now()


@pytest.fixture(scope="module")
def demo(django_db_setup, django_db_blocker, steps, loaded_at) -> Iterator[Loaded]:
    """Load the demo once a file."""
    with django_db_blocker.unblock(), transaction.atomic():
        loaded = load(step=steps.append, now=loaded_at)
        assert loaded is not None
        yield loaded
        transaction.set_rollback(True)
