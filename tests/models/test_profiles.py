"""The tables of profiles: keys that hold the machine, and rows that agree with themselves."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from modelperf.models import WindowProfile
from tests import factories
from tests.factories import FeatureReferenceFactory, WindowProfileFactory

pytestmark = pytest.mark.django_db
LARGE = b"x" * (20 * 1024 + 1)


def test_machine_is_in_every_key_of_window_profiles() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'model_profiles'")
        unique = [row[0] for row in cursor.fetchall() if "UNIQUE" in row[0]]
    assert len(unique) == 2
    assert all("machine_id" in definition for definition in unique)


def test_window_of_a_feature_is_stored_once() -> None:
    row = WindowProfileFactory.create(day=0)
    with pytest.raises(IntegrityError, match="natural_key"):
        WindowProfileFactory.create(reference=row.reference, day=0)


def test_feature_has_one_current_reference() -> None:
    row = FeatureReferenceFactory.create()
    FeatureReferenceFactory.create(model=row.model, replaced_at=timezone.now(), replaced_by="a")
    with pytest.raises(IntegrityError, match="one_current"):
        FeatureReferenceFactory.create(model=row.model)


def test_window_of_another_series_is_refused_by_the_database() -> None:
    row = WindowProfileFactory.create()
    with pytest.raises(IntegrityError, match="model_profiles_model"):
        WindowProfile.objects.filter(pk=row.pk).update(machine=factories.MachineFactory())


BROKEN: list[tuple[Any, dict[str, Any]]] = [
    (FeatureReferenceFactory, {"name": ""}),
    (FeatureReferenceFactory, {"role": "king"}),
    (FeatureReferenceFactory, {"n": -1}),
    (FeatureReferenceFactory, {"profile": LARGE}),
    (FeatureReferenceFactory, {"replaced_at": timezone.now()}),
    (FeatureReferenceFactory, {"replaced_by": "a"}),
    (FeatureReferenceFactory, {"window_end": timezone.now()}),
    (FeatureReferenceFactory, {"window_start": factories.START, "window_end": factories.START}),
    (WindowProfileFactory, {"window_end": factories.START, "window_start": factories.START}),
    (WindowProfileFactory, {"n": -1}),
    (WindowProfileFactory, {"missing": -1}),
    (WindowProfileFactory, {"profile": LARGE}),
]


@pytest.mark.parametrize(
    ("factory", "values"), BROKEN, ids=[f"{f.__name__}-{'-'.join(v)}" for f, v in BROKEN]
)
def test_a_row_that_contradicts_itself_is_refused(factory: Any, values: dict[str, Any]) -> None:
    factory.create()
    with pytest.raises(IntegrityError, match="check constraint"), transaction.atomic():
        factory.create(**values)
