"""Policies of an installation that knew neither inheritance nor history."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from modelperf.models import Machine, Policy, PolicyEvent
from modelperf.services.policies import policy_of


def execute(sql: str, params: tuple[Any, ...] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def views() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public'")
        return {name for (name,) in cursor.fetchall()}


@pytest.fixture
def before(transactional_db: None) -> Iterator[None]:
    """Return to the tables before the change, and afterwards to those of today."""
    call_command("migrate", "modelperf", "0005", verbosity=0)
    yield
    call_command("migrate", "modelperf", verbosity=0)


def test_old_policies_and_sources_become_settings(before: None) -> None:
    there = views()
    machine_id = uuid.uuid4()
    metadata = {"training": {"other": {"source": "demo:uk-gas"}, "bare": {}, "text": "x"}}
    execute(
        "INSERT INTO machines (id, name, type, location, is_active, metadata, created_at)"
        " VALUES (%s, 'a', '', '', true, %s, now()), (%s, 'b', '', '', true, '[]', now())",
        (machine_id, json.dumps(metadata), uuid.uuid4()),
    )
    execute(
        "INSERT INTO model_policies (id, model_type, primary_metric, directions, min_effect,"
        " limit_value, expected_cadence_seconds, created_at)"
        " VALUES (%s, 'baseline', '', '{}', 0.1, 20, 0, now())",
        (uuid.uuid4(),),
    )

    call_command("migrate", "modelperf", verbosity=0)

    row = Policy.objects.get(machine=None)
    assert (row.primary_metric, row.directions, row.expected_cadence_seconds) == (None, None, None)
    assert (row.min_effect, row.limit_value) == (0.1, 20)
    source = {"kind": "demo", "meter": "uk-gas"}
    assert policy_of(machine_id=machine_id, model_type="other").training_source == source
    assert Policy.objects.filter(machine__isnull=False).count() == 1
    history = {one.model_type: one for one in PolicyEvent.objects.all()}
    assert history.keys() == {"baseline", "other"}
    assert {one.pgh_context["actor"] for one in history.values()} == {"migration"}
    assert history["baseline"].limit_value == 20
    assert views() == there
    assert len(there) == 3

    call_command("migrate", "modelperf", "0005", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT model_type, primary_metric, directions::text FROM model_policies")
        assert cursor.fetchall() == [("baseline", "", "{}")]
    assert Machine.objects.count() == 2
