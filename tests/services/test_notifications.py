"""The notifier looks at all there is to tell, and has each channel sent to by a job of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from structlog.testing import capture_logs

from modelperf import tasks
from modelperf.models import Alert, Channel, Message, Notice
from modelperf.services import notifications, notifications_unsilencing
from modelperf.services.errors import ConflictError, NotFoundError
from tests.factories import AlertFactory
from tests.services.notifying import (  # noqa: F401 -- a fixture
    DOWN,
    GROUPED,
    NOW,
    arrived,
    channel,
    decision,
    route,
    site,
    tell,
    told,
)
from tests.sites import Site

pytestmark = pytest.mark.django_db


def test_a_look_wakes_routes_and_names_what_is_due(site: Site) -> None:  # noqa: F811
    over = route(site)
    alert = AlertFactory.create()
    past = timezone.now() - timedelta(minutes=1)
    Alert.objects.update(state="snoozed", snoozed_until=past)
    assert notifications.look() == []
    alert.refresh_from_db()
    notice = Notice.objects.get()
    assert (alert.state, notice.kind, decision(notice)) == ("open", "snooze_over", "told")
    assert notifications.look(now=timezone.now() + GROUPED) == [over.channel_id]


def test_a_step_that_breaks_keeps_the_others_from_nothing(
    site: Site,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route(site)

    def unsilence(*, now: object) -> int:
        raise RuntimeError

    monkeypatch.setattr(notifications_unsilencing, "unsilence", unsilence)
    notice = tell(AlertFactory.create())
    with capture_logs() as logs:
        notifications.look()
    assert decision(notice) == "told"
    broke = [entry["step"] for entry in logs if entry["event"] == "notifier_step_broke"]
    assert broke == ["unsilence"]


def test_each_channel_has_a_job_of_its_own_that_waits_but_once(site: Site) -> None:  # noqa: F811
    for over in (channel(site), channel(site)):
        route(over, group_seconds=0)
    told(AlertFactory.create())
    tasks.notify(timestamp=0)
    tasks.notify(timestamp=0)
    jobs = ProcrastinateJob.objects.filter(task_name="deliver")
    assert {job.queueing_lock for job in jobs} == {
        f"deliver:{pk}" for pk in Channel.objects.values_list("pk", flat=True)
    }
    assert {(job.queue_name, job.lock) for job in jobs} == {("notifications", None)}
    for job in jobs:
        tasks.deliver(**job.args)
    assert len(arrived(site)) == 2
    assert notifications.look() == []


def test_one_pass_decides_and_sends(site: Site) -> None:  # noqa: F811
    route(site, group_seconds=0)
    tell(AlertFactory.create(), now=timezone.now())
    [outcome] = notifications.one_pass()
    assert outcome.is_sent
    assert notifications.one_pass() == []


def test_a_step_of_many_alerts_takes_a_bounded_number_of_statements(
    site: Site,  # noqa: F811
) -> None:
    route(site, group_seconds=0)

    def statements(n: int) -> int:
        for alert in AlertFactory.create_batch(n):
            tell(alert)
        with CaptureQueriesContext(
            connection,
        ) as made:
            notifications.one_pass(now=NOW)
        return len(made)

    assert statements(2) == statements(20)


def test_a_test_goes_the_way_that_alerts_go(site: Site) -> None:  # noqa: F811
    over = channel(site, name="hook")
    route(over, name="ops")
    assert "answered 202" in notifications.send_test(name="hook")
    notifications.send_test(name="ops")
    first, second = arrived(site)
    assert (first["is_test"], first["events"], first["route"]) == (True, [], "hook")
    assert (second["subject"], second["route"]) == ("Test of ops: nothing happened", "ops")
    assert "x-modelperf-signature" in site.received[0].headers
    assert not Message.objects.exists()


def test_a_test_that_is_not_taken_says_why(site: Site) -> None:  # noqa: F811
    over = channel(site, name="hook")
    site.answer = DOWN
    with pytest.raises(ConflictError, match="answered 503"):
        notifications.send_test(name="hook")
    with pytest.raises(NotFoundError, match="no channel or route named pigeon"):
        notifications.send_test(name="pigeon")
    Channel.objects.filter(pk=over.pk).update(settings={})
    with pytest.raises(ConflictError, match="url"):
        notifications.send_test(name="hook")


def test_a_test_that_breaks_is_told_without_what_may_be_a_secret(settings: Any) -> None:
    settings.EMAIL_FROM = "models@example.org"
    settings.EMAIL_SERVER = {"use_tls": True, "use_ssl": True}  # which Django breaks at
    letters = {"kind": "email", "settings": {"to": ["ops@example.org"]}}
    Channel.objects.create(name="mail", **letters)
    with pytest.raises(ConflictError, match=r"^Sending broke: \w+ in \w+:\d+\.$"):
        notifications.send_test(name="mail")


def test_what_has_been_over_for_long_is_forgotten_by_a_job(settings: Any) -> None:
    told(AlertFactory.create(resolved=True), "resolved")
    tasks.forget(timestamp=0)
    assert Notice.objects.exists()
    Alert.objects.update(resolved_at=NOW - timedelta(days=999))
    Notice.objects.update(occurred_at=NOW - timedelta(days=999))
    tasks.forget(timestamp=0)
    assert not Notice.objects.exists()
