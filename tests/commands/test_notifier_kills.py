"""A notifier that dies: nothing is lost, and nothing comes twice but once for each death."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.commands import notifier_kills
from tests.commands.notifier_kills import ENVIRONMENT, Notifiers
from tests.commands.workers import Worker
from tests.config.clients import wait_until
from tests.factories import AlertFactory
from tests.services.notifying import OK, arrived, route, tell
from tests.sites import Site

pytestmark = pytest.mark.django_db(transaction=True)

KILLS = 20


@pytest.fixture
def sink() -> Iterator[Site]:
    with Site().served() as there:
        there.answer = OK
        yield there


@pytest.fixture
def notifiers(transactional_db: None) -> Iterator[Notifiers]:
    started = Notifiers()
    yield started
    started.end()


def test_killed_twenty_times_it_loses_nothing_and_repeats_at_most_once_a_kill(
    sink: Site, notifiers: Notifiers
) -> None:
    outcome = notifier_kills.killed(sink, notifiers, kills=KILLS, seed=20)
    assert outcome.problems() == []
    assert outcome.duplicates >= KILLS // 3 - 1  # or the kills had hit nothing


def test_a_worker_tells_without_being_asked(sink: Site) -> None:
    route(sink, group_seconds=0)
    notice = tell(AlertFactory.create(), now=timezone.now() - timedelta(seconds=1))
    lease = {"MODELPERF_NOTIFICATION_LEASE_SECONDS": "61"}
    worker = Worker(**ENVIRONMENT | lease, MODELPERF_NOTIFY_SCHEDULE="* * * * * *")
    try:
        wait_until(lambda: bool(sink.received), seconds=60)
        assert worker.stop() == 0
    finally:
        worker.end()
    assert [event["event_id"] for event in arrived(sink)[0]["events"]] == [str(notice.pk)]
