"""Channels, routes, silences and messages in the admin: checked, shown, tried, and kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from modelperf.models import Alert, Channel, Delivery, Message, Notice, Route, RouteEvent, Silence
from modelperf.templatetags.presentation import moment
from tests import factories
from tests.sites import LOOPBACK, Site, answering

pytestmark = pytest.mark.django_db
ROOT = "/admin/modelperf/"
CHANNELS, ROUTES = f"{ROOT}channel/", f"{ROOT}route/"
SILENCES, MESSAGES = f"{ROOT}silence/", f"{ROOT}message/"
HOOK = "https://hooks.example.org/services/T0HIDDEN"


@pytest.fixture
def desk(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def of_group(name: str) -> Client:
    user = factories.UserFactory.create(is_staff=True)
    user.groups.add(Group.objects.get(name=name))
    client = Client()
    client.force_login(user)
    return client


def channel(name: str = "operators", **changes: Any) -> Channel:
    known: dict[str, Any] = {"kind": "webhook", "settings": {"url": HOOK}}
    return Channel.objects.create(name=name, **known | changes)


def channel_form(**values: object) -> dict[str, object]:
    settings = json.dumps({"url": HOOK})
    return {"name": "operators", "kind": "slack", "settings": settings, "is_enabled": "on"} | values


def route_form(**values: object) -> dict[str, object]:
    known = {
        "name": "night",
        "matchers": '{"severity": ["critical"]}',
        "is_enabled": "on",
        "group_seconds": "30",
        "most_per_hour": "60",
        "quiet_timezone": "Europe/Berlin",
        "quiet_severity": "warning",
    }
    return known | values


def silence_form(**values: object) -> dict[str, object]:
    ends = timezone.now() + timedelta(hours=2)
    known = {
        "matchers": '{"machine": ["pump*"]}',
        "reason": "the filters are changed",
        "owner": "anna",
        "starts_at": "",
        "ends_at": f"{ends:%Y-%m-%dT%H:%M:%S}",
    }
    return known | values


def alert(name: str, **changes: Any) -> Alert:
    model = factories.ModelVersionFactory.create(machine__name=name)
    found: Alert = factories.AlertFactory.create(
        model=model, alert_message=f"{name} is worse.", **changes
    )
    return found


def page(client: Client, address: str, **asked: str) -> str:
    answer = client.get(address, asked)
    assert answer.status_code == 200
    return answer.content.decode()


# --- channels -------------------------------------------------------------------------------


def test_a_channel_is_made_and_changed(desk: Client) -> None:
    html = page(desk, f"{CHANNELS}add/")
    assert '<option value="" selected>Choose…</option>' in html
    for kind in ("alertmanager", "email", "slack", "webhook"):
        assert f"<br>{kind}: <code>" in html  # with an example of its settings

    desk.post(f"{CHANNELS}add/", channel_form())
    made = Channel.objects.get()
    assert (made.kind, made.settings, made.is_enabled) == ("slack", {"url": HOOK}, True)

    desk.post(f"{CHANNELS}{made.pk}/change/", channel_form(kind="email", is_enabled=""))
    made.refresh_from_db()
    assert (made.kind, made.is_enabled) == ("slack", False)  # another kind is another channel


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("slack", '{"url": "mail"}', "The channel&#x27;s url begins with https:// or http://"),
        ("email", '{"to": ["anna"]}', "which is no e-mail address"),
        ("email", "[]", "Write an object"),
        ("webhook", "{", "Enter a valid JSON"),
        ("webhook", "", "missing required field `url`"),
        ("pigeon", "{}", "pigeon is not one of the available choices"),
        ("", "{}", "This field is required."),
        (
            "alertmanager",
            '{"url": "https://a.example.org/api/v2/alerts"}',
            "leave /api/v2/alerts off",
        ),
    ],
)
def test_settings_that_can_never_work_are_refused_with_a_sentence(
    desk: Client, kind: str, settings: str, says: str
) -> None:
    answer = desk.post(f"{CHANNELS}add/", channel_form(kind=kind, settings=settings))
    assert says in answer.content.decode()
    assert not Channel.objects.exists()

    made = channel(settings={"url": HOOK})
    if kind == "webhook":
        answer = desk.post(f"{CHANNELS}{made.pk}/change/", channel_form(settings=settings))
        assert says in answer.content.decode()


def test_what_is_secret_is_shown_to_those_only_who_may_change_it(desk: Client, user: User) -> None:
    made = channel()
    address = f"{CHANNELS}{made.pk}/change/"
    assert "T0HIDDEN" in page(desk, address)
    assert "hooks.example.org" in page(desk, CHANNELS)
    assert "T0HIDDEN" not in page(desk, CHANNELS)

    watcher = of_group("viewer")
    assert watcher.get(address).status_code == 403
    from django.contrib.auth.models import Permission

    may_view = Permission.objects.get(codename="view_channel")
    User.objects.get(pk=watcher.session["_auth_user_id"]).user_permissions.add(may_view)
    html = page(watcher, address)
    assert "T0HIDDEN" not in html
    assert "&quot;url&quot;: &quot;***&quot;" in html


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    settings.OUTGOING_NETWORKS = LOOPBACK
    settings.OUTGOING_TIMEOUT_SECONDS = 30
    with Site().served() as there:
        yield there


def send_test(client: Client, *chosen: Channel) -> str:
    ids = [str(one.pk) for one in chosen]
    asked = {"action": "send_test", "_selected_action": ids}
    return client.post(CHANNELS, asked, follow=True).content.decode()


def test_a_test_is_sent_at_once_and_what_was_answered_is_told(desk: Client, site: Site) -> None:
    made = channel(settings={"url": f"{site.url}/T0HIDDEN"})
    html = send_test(desk, made)
    assert f"Test of operators: 127.0.0.1:{site.server_port} answered 200." in html
    assert f"127.0.0.1:{site.server_port}</td>" in page(desk, CHANNELS)
    assert json.loads(site.received[0].content)["is_test"] is True

    site.answer = answering(b"no_service at /T0HIDDEN", status=404)
    html = send_test(desk, made)
    assert "answered 404: no_service at /***." in html
    assert "T0HIDDEN" not in html


def test_a_test_is_sent_by_those_only_who_may_change_channels(site: Site) -> None:
    made = channel(settings={"url": site.url})
    for name in ("viewer", "operator"):
        assert of_group(name).post(CHANNELS, {"action": "send_test"}).status_code == 403
    assert site.asked == []
    assert "answered 200" in send_test(of_group("administrator"), made)


# --- routes ---------------------------------------------------------------------------------


def test_a_route_shows_what_it_matches_and_who_changed_it(desk: Client, superuser: User) -> None:
    alert("pump 1", severity="critical")
    alert("pump 2", severity="warning")
    told = channel()

    html = desk.post(f"{ROUTES}add/", route_form(channel=told.pk), follow=True).content.decode()
    assert "It matches 1 unresolved alert now. It tells only of what happens from now on." in html
    route = Route.objects.get()
    address = f"{ROUTES}{route.pk}/change/"
    html = page(desk, address)
    assert "pump 1 is worse." in html
    assert "pump 2 is worse." not in html

    desk.post(
        address, route_form(channel=told.pk, matchers="", quiet_from="22:00", quiet_until="6:00")
    )
    events = list(RouteEvent.objects.order_by("pgh_id"))
    assert [one.pgh_context["actor"] for one in events] == [f"user:{superuser.username}"] * 2
    html = page(desk, address)
    assert "pump 2 is worse." in html
    assert "matchers {&quot;severity&quot;: [&quot;critical&quot;]} → every alert" in html
    assert "severity: critical" not in page(desk, ROUTES)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"matchers": '{"color": ["red"]}'}, "unknown field `color`"),
        ({"matchers": '{"severity": ["bad"]}'}, "severity is one of normal, warning, critical"),
        ({"matchers": "[]"}, "Write an object"),
        ({"quiet_timezone": "Berlin"}, "This is no time zone."),
        ({"quiet_timezone": "../etc"}, "This is no time zone."),
        ({"quiet_timezone": "Europe"}, "This is no time zone."),
        ({"quiet_from": "22:00"}, "Quiet hours need both"),
        ({"quiet_from": "6:00", "quiet_until": "6:00"}, "at another time than they begin"),
        ({"group_seconds": "90000"}, "At most 86400, a day."),
        ({"most_per_hour": "0"}, "At least 1."),
        ({"channel": ""}, "This field is required."),
    ],
)
def test_a_route_that_cannot_work_is_refused_with_a_sentence(
    desk: Client, wrong: dict[str, str], says: str
) -> None:
    answer = desk.post(f"{ROUTES}add/", route_form(**{"channel": channel().pk} | wrong))
    assert says in answer.content.decode()
    assert not Route.objects.exists()


def test_a_viewer_sees_a_route_and_no_way_to_its_channel() -> None:
    route = Route.objects.create(name="night", channel=channel())
    html = page(of_group("viewer"), f"{ROUTES}{route.pk}/change/")
    assert "operators" in html
    assert "/channel/" not in html
    assert "every alert" in html
    assert "Changes" in html


# --- silences -------------------------------------------------------------------------------


def test_a_silence_is_looked_at_before_it_is_set(desk: Client, superuser: User) -> None:
    alert("pump 1")
    alert("fan 1")
    assert f'value="{superuser.username}"' in page(desk, f"{SILENCES}add/")

    html = desk.post(f"{SILENCES}add/", silence_form()).content.decode()
    assert not Silence.objects.exists()
    assert "1 unresolved alert." in html
    assert "pump 1 is worse." in html
    assert "fan 1 is worse." not in html

    hidden = dict(re.findall(r'type="hidden" name="(\w+)"(?: value="([^"]*)")?', html))
    assert hidden["reason"] == "the filters are changed"
    hidden["matchers"] = hidden["matchers"].replace("&quot;", '"')
    again = desk.post(f"{SILENCES}add/", hidden | {"_edit": "Change it"}).content.decode()
    assert "Not saved yet." in again
    assert "the filters are changed" in again
    assert not Silence.objects.exists()

    desk.post(f"{SILENCES}add/", hidden | {"confirm": "Save the silence"})
    silence = Silence.objects.get()
    assert (silence.matchers, silence.owner) == ({"machine": ["pump*"]}, "anna")
    assert silence.created_by == f"user:{superuser.username}"
    assert "pump 1 is worse." in page(desk, f"{SILENCES}{silence.pk}/change/")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"reason": ""}, "This field is required."),
        ({"ends_at": ""}, "This field is required."),
        ({"ends_at": "2020-01-01T00:00"}, "A silence ends later than now."),
        ({"starts_at": "2199-01-01T00:00"}, "A silence ends after it starts."),
        ({"matchers": '{"machine": []}'}, "Name what it is for."),
        ({"matchers": '{"machine": "pump"}'}, "They hold lists of texts"),
    ],
)
@pytest.mark.parametrize("step", [{}, {"confirm": "Save the silence"}])
def test_a_silence_that_cannot_hold_is_refused_with_a_sentence(
    desk: Client, wrong: dict[str, str], says: str, step: dict[str, str]
) -> None:
    answer = desk.post(f"{SILENCES}add/", silence_form(**wrong) | step)
    assert says in answer.content.decode()
    assert not Silence.objects.exists()


def test_a_silence_is_changed_and_ended_and_then_only_shown(desk: Client, superuser: User) -> None:
    desk.post(f"{SILENCES}add/", silence_form(confirm="1"))
    silence = Silence.objects.get()
    address = f"{SILENCES}{silence.pk}/change/"
    desk.post(address, silence_form(confirm="1", reason="it takes longer"))
    silence.refresh_from_db()
    assert silence.reason == "it takes longer"

    ended = {"action": "end_now", "_selected_action": [str(silence.pk)]}
    assert "1 ended." in desk.post(SILENCES, ended, follow=True).content.decode()
    silence.refresh_from_db()
    assert silence.ends_at <= timezone.now()
    assert "The silence is over since" in desk.post(SILENCES, ended, follow=True).content.decode()

    html = page(desk, address)
    assert 'name="reason"' not in html
    ended_at = moment(silence.ends_at)
    assert ended_at in html
    assert f'<td class="field-ends">{ended_at}</td>' in page(desk, SILENCES)
    assert "reason the filters are changed → it takes longer" in html
    assert desk.post(address, silence_form(reason="again")).status_code == 403
    assert desk.post(address, silence_form(reason="again", confirm="1")).status_code == 403
    shown = [
        bool(page(desk, SILENCES, state=state).count("it takes longer"))
        for state in ("in_force", "to_come", "over")
    ]
    assert shown == [False, False, True]


@pytest.mark.parametrize("stored", [{"colour": ["red"]}, {"machine": 5}, ["pump 1"], "pump 1"])
def test_stored_matchers_that_cannot_be_read_are_told_so(desk: Client, stored: Any) -> None:
    alert("pump 1")
    known = {"reason": "stored by hand", "ends_at": timezone.now() + timedelta(hours=2)}
    silence = Silence.objects.create(
        matchers=stored, starts_at=timezone.now(), owner="anna", created_by="user:anna", **known
    )
    route = Route.objects.create(name="night", channel=channel(), matchers=stored)

    for address, pk in ((SILENCES, silence.pk), (ROUTES, route.pk)):
        assert "unreadable: " in page(desk, address)
        for client in (desk, of_group("viewer")):
            html = page(client, f"{address}{pk}/change/")
            assert "Unreadable. Matchers: " in html
            assert "pump 1 is worse." not in html


def test_operators_silence_and_viewers_watch() -> None:
    viewer, operator = of_group("viewer"), of_group("operator")
    for step in ({}, {"confirm": "1"}):
        assert viewer.post(f"{SILENCES}add/", silence_form(**step)).status_code == 403
    assert not Silence.objects.exists()
    operator.post(f"{SILENCES}add/", silence_form(confirm="1"))
    silence = Silence.objects.get()
    page(viewer, f"{SILENCES}{silence.pk}/change/")
    assert viewer.post(f"{SILENCES}{silence.pk}/change/", silence_form()).status_code == 403


# --- messages -------------------------------------------------------------------------------


def message(name: str = "pump 1") -> Message:
    at = datetime(2017, 1, 7, 9, 30, tzinfo=UTC)
    route = Route.objects.create(name=f"route of {name}", channel=channel(f"channel of {name}"))
    sent = Message.objects.create(
        route=route,
        channel=route.channel,
        status="sent",
        due_at=at,
        sealed_at=at,
        ended_at=at,
        attempts=2,
        attempts_log=[
            {"at": at.isoformat(), "said": "hooks answered 503.", "is_sent": False},
            {"at": at.isoformat(), "said": "hooks answered 200", "is_sent": True},
        ],
    )
    notice = Notice.objects.create(
        alert=alert(name), kind="opened", says={"message": f"{name} is worse."}, occurred_at=at
    )
    Delivery.objects.create(
        notice=notice,
        route=route,
        route_name=route.name,
        decision="told",
        message=sent,
        decided_at=at,
    )
    return sent


def test_a_message_shows_each_attempt_and_what_it_tells() -> None:
    sent = message()
    viewer = of_group("viewer")
    html = page(viewer, f"{MESSAGES}{sent.pk}/change/")
    assert "7 Jan 2017 09:30 UTC: hooks answered 503." in html
    assert "7 Jan 2017 09:30 UTC: hooks answered 200" in html
    told = Alert.objects.get()
    assert f'Opened: <a href="{ROOT}alert/{told.pk}/change/">pump 1 is worse.</a>' in html
    assert 'type="submit"' not in html.partition('id="message_form"')[2]
    assert viewer.post(f"{MESSAGES}{sent.pk}/change/", {"status": "failed"}).status_code == 403
    assert viewer.get(f"{MESSAGES}add/").status_code == 403


def test_what_was_given_up_is_sent_again_by_those_only_who_may_change_messages(
    desk: Client,
) -> None:
    sent, lost = message("pump 1"), message("pump 2")
    Message.objects.filter(pk=lost.pk).update(status="failed")
    asked = {"action": "send_again", "_selected_action": [str(sent.pk), str(lost.pk)]}
    of_group("operator").post(MESSAGES, asked)
    lost.refresh_from_db()
    assert lost.status == "failed"

    html = desk.post(MESSAGES, asked, follow=True).content.decode()
    assert "1 to be sent again." in html
    assert "Only a message that was given up is sent again." in html
    lost.refresh_from_db()
    assert (lost.status, lost.ended_at) == ("waiting", None)
    assert lost.attempts_log[-1]["said"].startswith("To be sent again, says ")
    assert LogEntry.objects.get().object_id == str(lost.pk)


def test_lists_need_the_same_queries_for_few_and_for_many(desk: Client) -> None:
    def statements() -> list[int]:
        counts = []
        for address in (CHANNELS, ROUTES, SILENCES, MESSAGES):
            with CaptureQueriesContext(connection) as queries:
                page(desk, address)
            counts.append(len(queries))
        return counts

    message("pump 1")
    few = statements()
    for number in range(2, 6):
        message(f"pump {number}")
    assert statements() == few
