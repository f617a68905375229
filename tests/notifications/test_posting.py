"""Channels that are told by a request: what is sent, how it is signed, what answers do."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from modelperf.notifications import DeliveryError, Envelope, SettingsError, find, kinds, masked
from tests import sites
from tests.notifications.news import AT, PUBLIC, envelope, fleet, item, over
from tests.sites import LOOPBACK, Site, answering

SECRET = "a secret of the receiver and of modelperf"
PATH = "/services/T0HIDDEN/B0HIDDEN?key=4242hidden"
POSTED = ("alertmanager", "slack", "webhook")


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    settings.OUTGOING_NETWORKS = LOOPBACK
    settings.OUTGOING_TIMEOUT_SECONDS = 30
    settings.WEBHOOK_SECRET = SECRET
    with Site().served() as there:
        yield there


def send(kind: str, site: Site, told: Envelope, at: datetime = AT, path: str = "/hook") -> str:
    return find(kind, {"url": f"{site.url}{path}"}).send(told, at)


def failure(kind: str, site: Site, path: str = "/hook", at: datetime = AT) -> DeliveryError:
    with pytest.raises(DeliveryError) as raised:
        send(kind, site, envelope(item()), at, path)
    return raised.value


# --- the signed webhook ---------------------------------------------------------------------


def test_webhook_tells_all_there_is_under_the_messages_id(site: Site) -> None:
    said = send("webhook", site, envelope(item(1), over(2), fleet(300)))

    assert said == f"127.0.0.1:{site.server_port} answered 200"
    received = site.received[0]
    assert (received.method, site.asked) == ("POST", ["/hook"])
    assert received.headers["content-type"] == "application/json"
    assert received.headers["idempotency-key"] == "00000000-0000-0000-0000-00000000004d"
    body = json.loads(received.content)
    assert set(body) == {"version", "message_id", "route", "is_test", "subject", "events"}
    assert (body["version"], body["route"], body["is_test"]) == (1, "operators", False)
    assert body["message_id"] == received.headers["idempotency-key"]
    first = body["events"][0]
    assert first == {
        "event_id": "00000000-0000-0000-0000-0000000003e9",
        "alert_id": "00000000-0000-0000-0000-000000000001",
        "kind": "opened",
        "occurred_at": "2017-01-07T09:30:00Z",
        "link": f"{PUBLIC}/admin/modelperf/alert/1/",
        "alert": item(1).says,
        "members": [],
    }
    assert [event["kind"] for event in body["events"]] == ["opened", "resolved", "opened"]
    assert len(body["events"][2]["members"]) == 300


def test_the_receiver_of_the_handbook_takes_a_message_once(site: Site) -> None:
    """It runs as it stands there: a forged, an old and a repeated request change nothing."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "notifications.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    room: dict[str, Any] = {}
    exec(code[1], room)
    receive, seen = room["receive"], room["seen"]
    room["SECRET"] = SECRET
    now = datetime.now(UTC)
    for attempt in (1, 2):
        send("webhook", site, envelope(item(), attempt=attempt), now)
    send("webhook", site, envelope(item(), message_id=item(9).event_id), now - timedelta(hours=1))
    first, again, old = site.received

    assert first.content == again.content
    assert receive(first.headers, first.content) == 200
    assert receive(again.headers, again.content) == 200
    assert len(seen) == 1
    assert receive(first.headers, first.content + b" ") == 401
    assert receive(old.headers, old.content) == 401
    assert len(seen) == 1


def test_webhook_is_signed_at_the_time_of_the_attempt(site: Site) -> None:
    send("webhook", site, envelope(item()))
    received = site.received[0]
    expected = hmac.new(
        SECRET.encode(), b"%d." % AT.timestamp() + received.content, hashlib.sha256
    ).hexdigest()
    assert received.headers["x-modelperf-signature"] == f"t={int(AT.timestamp())},v1={expected}"


# --- what is answered -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", POSTED)
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_taken(site: Site, kind: str, status: int) -> None:
    site.answer = answering(b"", status=status)
    assert send(kind, site, envelope(item())).endswith(f"answered {status}")


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(410, True), (400, False), (404, False), (408, False), (429, False), (500, False)],
)
def test_only_what_is_gone_is_given_up(site: Site, status: int, is_final: bool) -> None:
    site.answer = answering(b"no_service", status=status)
    error = failure("slack", site)
    assert str(error) == f"127.0.0.1:{site.server_port} answered {status}: no_service."
    assert (error.is_final, error.retry_after) == (is_final, None)


def test_a_redirect_is_not_followed(site: Site) -> None:
    site.answer = answering(b"", status=302, Location=f"{site.url}/elsewhere")
    error = failure("webhook", site)
    assert "redirects are not followed" in str(error)
    assert not error.is_final
    assert site.asked == ["/hook"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("Sat, 07 Jan 2017 09:32:00 GMT", 120),
        ("Sat, 07 Jan 2017 09:00:00 -0000", 0),
        ("99999999", 86_400),
        ("soon", None),
        ("-1", None),
    ],
)
def test_a_receiver_says_how_long_it_wants_to_be_left_alone(
    site: Site, value: str, seconds: float | None
) -> None:
    site.answer = answering(b"", status=429, **{"Retry-After": value})
    assert failure("webhook", site).retry_after == seconds


def test_an_address_that_is_not_public_is_refused_until_it_is_allowed(
    site: Site, settings: Settings
) -> None:
    settings.OUTGOING_NETWORKS = []
    for kind in POSTED:
        error = failure(kind, site)
        assert "127.0.0.1, which is not public" in str(error)
        assert not error.is_final
    assert site.asked == []


def test_a_receiver_that_is_down_is_asked_again(settings: Settings) -> None:
    settings.OUTGOING_NETWORKS = LOOPBACK
    channel = find("webhook", {"url": f"http://127.0.0.1:{sites.closed_port()}/x"})
    with pytest.raises(DeliveryError, match="cannot be asked") as raised:
        channel.send(envelope(item()), AT)
    assert (raised.value.is_final, raised.value.may_have_come) == (False, False)


def test_what_is_not_answered_in_time_may_have_come(site: Site, settings: Settings) -> None:
    settings.OUTGOING_TIMEOUT_SECONDS = 1
    site.answer = sites.silent
    assert failure("webhook", site).may_have_come


def test_an_answer_that_is_cut_off_is_known_by_its_status(site: Site) -> None:
    site.answer = sites.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    assert send("webhook", site, envelope(item())).endswith("answered 200")


@pytest.mark.parametrize(
    "answer",
    [
        answering(f"no hook at {PATH}".encode(), status=404),
        answering(b"T0HIDDEN and B0HIDDEN with 4242hidden", status=500),
        answering(b"", status=302, Location=PATH),
        sites.raw(f"what is {PATH}\r\n\r\n".encode()),
    ],
)
def test_no_error_holds_more_of_an_address_than_its_host(
    site: Site, answer: sites.Answering
) -> None:
    site.answer = answer
    told = str(failure("slack", site, PATH))
    assert f"127.0.0.1:{site.server_port}" in told
    assert "hidden" not in told.lower()


def test_a_token_goes_to_its_origin_and_its_lack_is_told(site: Site, settings: Settings) -> None:
    site.answer = answering(b"", status=401)
    assert f"WEBHOOK_TOKENS holds nothing for {site.url}." in str(failure("alertmanager", site))

    settings.WEBHOOK_TOKENS = {site.url: "Basic abc", "http://other": "Bearer x"}
    assert "TOKENS" not in str(failure("alertmanager", site))
    assert [one.headers.get("authorization") for one in site.received] == [None, "Basic abc"]


@pytest.mark.parametrize(
    ("token", "echo"),
    [
        ("Bearer s3cr3t", b"token Bearer s3cr3t is unknown"),
        ("Bearer s3cr3t", b"unknown: bearer s3cr3t"),
        ("Basic c3Nr/M3Q=", rb'{"given": "Basic c3Nr\/M3Q="}'),
        ("Key-without-a-scheme-s3cr3t", b"no key Key-without-a-scheme-s3cr3t"),
        ("Bearer s3cr3t" + "s3cr3t" * 40, b"." * 190 + b"s3cr3t" * 41),
    ],
)
def test_no_error_holds_the_token_that_an_answer_repeats(
    site: Site, settings: Settings, token: str, echo: bytes
) -> None:
    settings.WEBHOOK_TOKENS = {site.url: token}
    for answer in (answering(echo, status=401), sites.raw(echo + b"\r\n\r\n")):
        site.answer = answer
        told = str(failure("slack", site))
        assert [part for part in ("s3cr3t", "c3Nr", "M3Q") if part in told] == []


# --- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", kinds())
def test_the_example_of_every_kind_works_and_shows_no_secret(kind: str) -> None:
    found = kinds()[kind]
    find(kind, found.example)
    hidden = masked(kind, found.example)
    assert {name for name, value in hidden.items() if value == "***"} == set(found.secret)


@pytest.mark.parametrize(
    ("kind", "wrong", "says"),
    [
        ("pigeon", {}, 'is one of "alertmanager", "email", "slack", "webhook".'),
        ("webhook", {}, "settings: Object missing required field `url`."),
        ("webhook", {"url": "ftp://x"}, "The channel's url begins with https:// or http://"),
        ("slack", {"url": "https://u:p@example.org"}, "holds no login"),
        ("slack", {"url": "https://example.org", "to": 1}, "unknown field `to`"),
        ("alertmanager", {"url": "https://x", "lasts_days": 0}, "`int` >= 1"),
        ("alertmanager", {"url": ""}, "The channel's url begins"),
        ("email", {"to": []}, "length >= 1"),
        ("email", {"to": ["anna"]}, "'anna', which is no e-mail address"),
        ("email", {"to": ["a@b.org\nBcc: c@d.org"]}, "which is no e-mail address"),
        ("email", {"to": ["Anna <a@b.org>"]}, "which is no e-mail address"),
        ("email", {"to": ["a@b.org", "A@b.org"]}, "an address twice"),
        ("email", {"to": ["a@bücher.org", "a@xn--bcher-kva.org"]}, "an address twice"),
        ("email", {"to": ["a@℀.example"]}, "which is no e-mail address"),
        ("email", {"to": ["\u017fa@example.org"]}, "which is no e-mail address"),
        ("email", {"to": ['"\x01"@example.org']}, "which is no e-mail address"),
    ],
)
def test_settings_that_can_never_work_are_refused_with_a_sentence(
    kind: str, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        find(kind, wrong)
    assert says in str(raised.value)


def test_nothing_of_a_kind_that_is_unknown_is_shown() -> None:
    assert masked("pigeon", {"loft": "the north one"}) == {"loft": "***"}
