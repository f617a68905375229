"""`manage.py send_notifications` and `send_test_notification`: what they do and how they end."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from modelperf.models import Message
from tests.factories import AlertFactory
from tests.services.notifying import (  # noqa: F401 -- a fixture
    DOWN,
    OK,
    arrived,
    channel,
    route,
    site,
    tell,
)
from tests.sites import Site

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_what_is_due_is_sent_and_said(site: Site) -> None:  # noqa: F811
    route(channel(site, name="hook"), group_seconds=0)
    tell(AlertFactory.create())
    said = run("send_notifications")
    message = Message.objects.get()
    host = site.url.removeprefix("http://")
    assert said == f"hook: 1 event in message {message.pk} sent. {host} answered 202\n"
    assert run("send_notifications") == "No message is due.\n"


def test_what_is_not_taken_is_said_and_fails(site: Site) -> None:  # noqa: F811
    over = route(channel(site, name="hook"), group_seconds=0, name="ops")
    notice = tell(AlertFactory.create())
    site.answer = DOWN
    with pytest.raises(CommandError, match="1 of 1 messages were not taken"):
        run("send_notifications")
    Message.objects.update(due_at=notice.occurred_at)
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("send_notifications", "--json", stdout=out)
    assert ended.value.code == 1
    [told] = json.loads(out.getvalue())["messages"]
    assert told["said"].endswith("answered 503: no.")
    expected = {
        "message_id": str(Message.objects.get().pk),
        "channel": "hook",
        "route": over.name,
        "attempt": 2,
        "events": [str(notice.pk)],
        "is_sent": False,
    }
    assert expected.items() <= told.items()
    site.answer = OK
    Message.objects.update(due_at=notice.occurred_at)
    assert json.loads(run("send_notifications", "--json"))["messages"][0]["is_sent"]


def test_a_test_is_sent_by_name(site: Site) -> None:  # noqa: F811
    channel(site, name="hook")
    assert run("send_test_notification", "hook").startswith("The test was sent. 127.0.0.1:")
    assert arrived(site)[0]["is_test"]


@pytest.mark.parametrize("name", ["hook", "pigeon"])
def test_a_test_that_fails_says_why(site: Site, name: str) -> None:  # noqa: F811
    channel(site, name="hook")
    site.answer = DOWN
    with pytest.raises(CommandError, match=r"answered 503|no channel or route named pigeon"):
        run("send_test_notification", name)
