"""Letters as a mail server gets them: text and HTML, one conversation an alert, nothing forged."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from config import env
from modelperf.notifications import DeliveryError, Envelope, find
from tests import sites
from tests.notifications.mailbox import Letter, MailServer
from tests.notifications.news import AT, PUBLIC, envelope, fleet, item, over

TO = ("anna@example.org", "ben@example.org")


@pytest.fixture
def server(settings: Settings) -> Iterator[MailServer]:
    settings.OUTGOING_TIMEOUT_SECONDS = 30
    settings.EMAIL_FROM = "Models <modelperf@example.org>"
    with MailServer().served() as there:
        settings.EMAIL_SERVER = there.settings
        yield there


def send(told: Envelope, *to: str) -> str:
    return find("email", {"to": list(to or TO)}).send(told, AT)


def sent(server: MailServer, told: Envelope, *to: str) -> Letter:
    send(told, *to)
    return server.letters[-1]


def test_a_letter_goes_to_everybody_as_text_and_as_html(server: MailServer) -> None:
    assert send(envelope(item(1), over(2))) == "127.0.0.1 took it for 2 addresses"

    (letter,) = server.letters
    assert (letter.sender, letter.to) == ("modelperf@example.org", list(TO))
    message = letter.message
    assert message["Subject"] == "Critical: 1 condition opened, 1 over"
    assert (message["From"], message["To"]) == ("Models <modelperf@example.org>", ", ".join(TO))
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "multipart/alternative"
    text, html = letter.part("plain"), letter.part("html")
    assert "−1.25 → 18.6 · limit 15 · since 6 Jan 2017 00:00 UTC" in text
    assert "−1.25 → 18.6 · limit 15 · since 6 Jan 2017 00:00 UTC" in html
    assert f'<a href="{PUBLIC}/admin/modelperf/alert/1/">Open the alert</a>' in html
    assert text.index("\nOver\n") < text.index("pump 2")
    assert html.index(">Over</h2>") < html.index("pump 2")


def test_every_machine_of_a_fleet_alert_is_in_both_forms(server: MailServer) -> None:
    letter = sent(server, envelope(fleet(300)), "anna@example.org")
    for form in ("plain", "html"):
        assert all(f"machine-{number:03}" in letter.part(form) for number in range(300))


def test_the_message_id_is_the_same_at_every_attempt(server: MailServer) -> None:
    ids = [
        sent(server, envelope(item(), attempt=attempt)).message["Message-ID"] for attempt in (1, 2)
    ]
    assert ids == [f"<{uuid.UUID(int=77)}@example.org>"] * 2


def test_what_is_told_of_an_alert_later_is_of_the_same_conversation(server: MailServer) -> None:
    first = sent(server, envelope(item(), message_id=uuid.UUID(int=1))).message
    assert (first["References"], first["In-Reply-To"]) == (None, None)

    began = {"first_message_id": uuid.UUID(int=1)}
    later = sent(server, envelope(over(1, **began), item(2, **began), item(3))).message
    assert later["References"] == later["In-Reply-To"] == first["Message-ID"]


def test_a_letter_that_ends_very_many_refers_to_a_few(server: MailServer) -> None:
    many = [over(n, first_message_id=uuid.UUID(int=n)) for n in range(1, 300)]
    assert len(sent(server, envelope(*many)).message["References"].split()) == 20


@pytest.mark.parametrize("sign", ["\r\n", "\n", "\r", "\u2028"])
def test_no_name_makes_a_header_or_markup(server: MailServer, sign: str) -> None:
    forged = f"pump{sign}Bcc: eve@example.org{sign}{sign}<script>alert(1)</script>"
    letter = sent(server, envelope(item(message=forged, members=(forged,)), route=forged))
    assert letter.to == list(TO)
    assert letter.message["Bcc"] is None
    assert "Bcc: eve@example.org" in letter.message["Subject"]
    assert "<script>" not in letter.part("html")


def test_a_domain_of_other_letters_is_sent_in_ascii(server: MailServer) -> None:
    assert sent(server, envelope(item()), "anna@bücher.example").to == [
        "anna@xn--bcher-kva.example"
    ]


# --- what goes wrong ------------------------------------------------------------------------


def test_one_refused_of_several_is_told_and_nothing_is_sent_again(server: MailServer) -> None:
    server.refused = {"ben@example.org": "550 5.1.1 no such mailbox."}
    said = send(envelope(item()))
    assert said == "127.0.0.1 took it, but refused ben@example.org (550 5.1.1 no such mailbox)"
    assert [letter.to for letter in server.letters] == [["anna@example.org"]]


def refusal(told: Envelope) -> str:
    with pytest.raises(DeliveryError) as raised:
        send(told)
    assert not raised.value.is_final  # a server's settings may be put right within the day
    return str(raised.value)


def test_a_server_that_refuses_everybody_is_asked_again(server: MailServer) -> None:
    server.refused = dict.fromkeys(TO, "450 come again later")
    assert refusal(envelope(item())) == (
        "127.0.0.1 refused anna@example.org (450 come again later);"
        " ben@example.org (450 come again later)."
    )


def test_a_server_that_takes_no_letter_is_asked_again(server: MailServer) -> None:
    server.answer = "452 the disk is full"
    assert refusal(envelope(item())) == "127.0.0.1 did not take it: 452 the disk is full."
    server.greeting = "554 go away"
    assert refusal(envelope(item())) == "127.0.0.1 did not take it: 554 go away."


def test_a_login_is_used_and_never_told(server: MailServer, settings: Settings) -> None:
    login = {"username": "models", "password": "s3cret-of-models"}
    settings.EMAIL_SERVER = {**server.settings, **login}
    server.password = "another"
    said = refusal(envelope(item()))
    assert said == "127.0.0.1 did not take it: 535 5.7.8 no such user or password."

    server.password = login["password"]
    send(envelope(item()))
    assert server.logins[-1] == "\0models\0s3cret-of-models"


def test_a_server_that_is_not_there_is_asked_again(server: MailServer, settings: Settings) -> None:
    settings.EMAIL_SERVER = {**server.settings, "port": sites.closed_port()}
    assert "did not take it" in refusal(envelope(item()))


@pytest.mark.parametrize(
    ("setting", "nothing"), [("EMAIL_SERVER", {}), ("EMAIL_FROM", "")], ids=["url", "from"]
)
def test_without_a_server_or_a_sender_the_setting_is_named(
    server: MailServer, settings: Settings, setting: str, nothing: object
) -> None:
    setattr(settings, setting, nothing)
    name = {"EMAIL_SERVER": "MODELPERF_EMAIL_URL", "EMAIL_FROM": "MODELPERF_EMAIL_FROM"}[setting]
    assert f"Set {name} to such as" in refusal(envelope(item()))


def test_a_slow_server_is_left_before_the_lease_is_over(
    server: MailServer, settings: Settings
) -> None:
    settings.OUTGOING_TIMEOUT_SECONDS, settings.NOTIFICATION_LEASE_SECONDS = 1, 3
    server.seconds = 0.2
    with pytest.raises(DeliveryError, match=r"longer than .* 2 s as a whole") as raised:
        send(envelope(item()), *(f"p{number}@example.org" for number in range(50)))
    assert raised.value.may_have_come
    assert server.letters == []


# --- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "port", "use_tls", "use_ssl"),
    [
        ("smtp+tls://models:p%40ss@mail.example.org:2587", 2587, True, False),
        ("smtp+tls://models:p%40ss@mail.example.org", 587, True, False),
        ("smtp+ssl://models:p%40ss@mail.example.org", 465, False, True),
        ("smtp://models:p%40ss@mail.example.org", 25, False, False),
    ],
)
def test_a_mail_server_is_read_from_an_address(
    monkeypatch: pytest.MonkeyPatch, url: str, port: int, use_tls: bool, use_ssl: bool
) -> None:
    monkeypatch.setenv("MODELPERF_SOME_URL", url)
    assert env.mail_server("MODELPERF_SOME_URL") == {
        "host": "mail.example.org",
        "port": port,
        "username": "models",
        "password": "p@ss",
        "use_tls": use_tls,
        "use_ssl": use_ssl,
    }


@pytest.mark.parametrize(
    "url", ["mail.example.org", "https://u:hidden@mail.example.org", "smtp://", "smtp://h:port"]
)
def test_a_mail_server_that_is_none_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("MODELPERF_SOME_URL", url)
    with pytest.raises(ImproperlyConfigured, match=r"MODELPERF_SOME_URL must be such") as raised:
        env.mail_server("MODELPERF_SOME_URL")
    assert "hidden" not in str(raised.value)


def test_without_a_setting_there_is_no_mail_server_and_no_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELPERF_SOME_URL", " ")
    assert env.mail_server("MODELPERF_SOME_URL") == {}
    assert env.mailbox("MODELPERF_SOME_URL") == ""


@pytest.mark.parametrize("raw", ["m@example.org", "Models <m@example.org>"])
def test_a_sender_is_an_address(monkeypatch: pytest.MonkeyPatch, raw: str) -> None:
    monkeypatch.setenv("MODELPERF_SOME_FROM", raw)
    assert env.mailbox("MODELPERF_SOME_FROM") == raw


@pytest.mark.parametrize("raw", ["modelperf", "a@", "a@b.org\nBcc: c@d.org", "a b@c d"])
def test_a_sender_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, raw: str) -> None:
    monkeypatch.setenv("MODELPERF_SOME_FROM", raw)
    with pytest.raises(ImproperlyConfigured, match="MODELPERF_SOME_FROM must be such"):
        env.mailbox("MODELPERF_SOME_FROM")
