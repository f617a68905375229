"""Alerts of an installation that wrote down in their metadata who had taken note of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from modelperf.models import Alert, AlertEvent, Notice

OPENED = datetime(2026, 3, 1, 8, tzinfo=UTC)
TAKEN = {"acknowledged_by": "user:anna", "acknowledged_at": "2026-03-01T09:00:00+00:00"}
AGAIN = {"reopened_by": "key:ops", "reopened_at": "2026-03-02T09:30:00.125+00:00"}
_INSERT = (
    "INSERT INTO model_alerts (id, alert_type, condition_key, state, occurrences, severity,"
    " model_type, alert_timestamp, alert_message, alert_details, is_resolved, resolution_action,"
    " resolution_notes, auto_action_taken, auto_action_type, metadata, created_at)"
    " VALUES (%s, 'drift_detected', %s, %s, 3, 'warning', 'baseline', %s, 'Worse.', '{}', false,"
    " '', '', false, '', %s, now())"
)


def execute(sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture
def before(transactional_db: None) -> Iterator[None]:
    """Return to the tables before the change, and afterwards to those of today."""
    call_command("migrate", "modelperf", "0010", verbosity=0)
    yield
    call_command("migrate", "modelperf", verbosity=0)


def test_who_took_note_of_an_alert_moves_out_of_its_metadata_and_back(before: None) -> None:
    kept = {"ticket": "PUMP-7"}
    rows = {
        "taken": ("acknowledged", kept | TAKEN),
        "again": ("open", TAKEN | AGAIN),
        "plain": ("open", kept),
    }
    for key, (state, metadata) in rows.items():
        execute(_INSERT, (uuid.uuid4(), key, state, OPENED, json.dumps(metadata)))

    call_command("migrate", "modelperf", verbosity=0)

    found = {alert.condition_key: alert for alert in Alert.objects.all()}
    assert {key: alert.metadata for key, alert in found.items()} == {
        "taken": kept,
        "again": {},
        "plain": kept,
    }
    nine = datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert (found["taken"].acknowledged_by, found["taken"].acknowledged_at) == ("user:anna", nine)
    assert (found["taken"].reopened_by, found["taken"].reopened_at) == ("", None)
    assert (found["again"].reopened_by, found["again"].acknowledged_by) == ("key:ops", "user:anna")
    assert found["again"].reopened_at == datetime(2026, 3, 2, 9, 30, 0, 125_000, tzinfo=UTC)
    assert (found["plain"].acknowledged_by, found["plain"].acknowledged_at) == ("", None)
    assert {(one.last_seen_at, one.revision) for one in found.values()} == {(OPENED, 1)}
    # What was there before is no step that anybody takes now, and nobody is told of it.
    assert not AlertEvent.objects.exists()
    assert not Notice.objects.exists()

    call_command("migrate", "modelperf", "0010", verbosity=0)

    back = dict(execute("SELECT condition_key, metadata::text FROM model_alerts"))
    moments = [TAKEN | kept, TAKEN | AGAIN, kept]
    for metadata, wanted in zip(
        (back["taken"], back["again"], back["plain"]), moments, strict=True
    ):
        said = json.loads(metadata)
        assert {name: moment(name, text) for name, text in said.items()} == {
            name: moment(name, text) for name, text in wanted.items()
        }


def moment(name: str, text: str) -> Any:
    """Return a time as such: it may be written in another way."""
    return datetime.fromisoformat(text) if name.endswith("_at") else text
