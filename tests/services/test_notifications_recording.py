"""Recording only notes what there is to tell: it asks nobody, whoever is to be told."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from modelperf.models import Alert, Message, Notice
from modelperf.services import metrics
from tests.factories import ModelVersionFactory
from tests.services.builders import noisy, series
from tests.services.notifying import channel, route

pytestmark = pytest.mark.django_db
VALUES = noisy(1, 60, fall_at=45) + noisy(2, 10, level=1.5)


def statements() -> int:
    """Return how many statements it takes to record evaluations that open an alert."""
    model = ModelVersionFactory.create(is_active=True)
    with CaptureQueriesContext(connection) as made:
        for evaluation in series(model, VALUES):
            metrics.record(evaluation=evaluation, by="tests")
    assert Alert.objects.filter(machine=model.machine, is_resolved=False).count() == 1
    return len(made)


def test_recording_asks_no_address_and_takes_no_more_statements_for_routes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("recording asks an address")

    without = statements()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for _ in range(5):
        route(channel())
    assert statements() == without
    assert Notice.objects.filter(kind="opened").count() == 2
    assert not Message.objects.exists()
