"""Trainings handed over by webhook: what is asked, how it is signed, and what each answer does."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import Settings

from modelperf.models import Machine, ModelVersion
from modelperf.trainers import (
    Callback,
    HandedOver,
    NoLongerWantedError,
    TrainingError,
    TrainingRequest,
    UnavailableError,
    find,
    webhook,
)
from tests import sites
from tests.sites import LOOPBACK, Received, Site, answering

SECRET = "a secret of the receiver and of modelperf"
TOKEN = "run_4242"


class Told:
    """Keeps what the trainer tells."""

    def __init__(self, *, is_wanted: bool = True) -> None:
        self.messages: list[str] = []
        self._is_wanted = is_wanted

    def progress(self, percent: float | None, message: str) -> None:
        assert percent is None  # nobody here knows
        self.messages.append(message)

    def is_wanted(self) -> bool:
        return self._is_wanted


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    settings.OUTGOING_NETWORKS = LOOPBACK
    settings.OUTGOING_TIMEOUT_SECONDS = 30
    settings.WEBHOOK_SECRET = SECRET
    with Site().served() as there:
        there.answer = answering(b"{}", "application/json", 202)
        yield there


def request(**changes: Any) -> TrainingRequest:
    known: dict[str, Any] = {
        "run_id": uuid.UUID(int=7),
        "machine": Machine(id=uuid.UUID(int=8), name="pump 7", metadata={"site": "north"}),
        "model_type": "baseline",
        "source": {"kind": "demo"},
        "data_start": datetime(2021, 1, 1, tzinfo=UTC),
        "data_end": datetime(2022, 1, 1, tzinfo=UTC),
        "hyperparameters": {"depth": 3},
        "callback": Callback(url="https://models.example.org/training/7", token=TOKEN),
    }
    return TrainingRequest(**known | changes)


def train(site: Site, asked: TrainingRequest | None = None, **settings: Any) -> HandedOver:
    trainer = find({"kind": "webhook", "url": f"{site.url}/jobs", **settings})
    handed = trainer.train(asked or request(), Told())
    assert isinstance(handed, HandedOver)
    return handed


def is_signed(received: Received, secret: str, *, now: int | None = None) -> bool:
    """Whether a request is modelperf's, as the docstring of the trainer tells a receiver."""
    parts = dict(part.split("=") for part in received.headers["x-modelperf-signature"].split(","))
    signed = parts["t"].encode() + b"." + received.content
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    is_fresh = now is None or abs(now - int(parts["t"])) <= 300
    return is_fresh and hmac.compare_digest(parts["v1"], expected)


# --- what is asked --------------------------------------------------------------------------


def test_a_training_is_handed_over_with_all_that_it_needs(site: Site) -> None:
    previous = ModelVersion(id=uuid.UUID(int=9), model_version=4, artefact={"slope": 1.5})

    handed = train(site, request(attempt=2, previous=previous), timeout_seconds=7200)

    assert handed == HandedOver(timeout_seconds=7200)
    assert site.asked == ["/jobs"]
    assert site.received[0].method == "POST"
    assert json.loads(site.received[0].content) == {
        "run_id": "00000000-0000-0000-0000-000000000007",
        "attempt": 2,
        "machine": {
            "id": "00000000-0000-0000-0000-000000000008",
            "name": "pump 7",
            "metadata": {"site": "north"},
        },
        "model_type": "baseline",
        "data_start": "2021-01-01T00:00:00Z",
        "data_end": "2022-01-01T00:00:00Z",
        "hyperparameters": {"depth": 3},
        "previous": {
            "id": "00000000-0000-0000-0000-000000000009",
            "model_version": 4,
            "artefact": {"slope": 1.5},
        },
        "source": {"kind": "demo"},
        "callback": {"url": "https://models.example.org/training/7", "token": TOKEN},
    }
    headers = site.received[0].headers
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "modelperf"
    assert "authorization" not in headers


def test_a_first_version_without_a_source_says_so(site: Site) -> None:
    train(site, request(source=None))
    body = json.loads(site.received[0].content)
    assert (body["previous"], body["source"]) == (None, None)


def test_the_payload_is_put_where_the_orchestrator_looks_for_it(site: Site) -> None:
    train(site, payload_key="client_payload", extra={"event_type": "retrain"})
    body = json.loads(site.received[0].content)
    assert set(body) == {"event_type", "client_payload"}
    assert body["event_type"] == "retrain"
    assert body["client_payload"]["run_id"] == str(uuid.UUID(int=7))
    assert len(body["client_payload"]) <= 10  # GitHub takes no more

    train(site, extra={"dag": "retrain"})
    body = json.loads(site.received[1].content)
    assert (body["dag"], body["run_id"]) == ("retrain", str(uuid.UUID(int=7)))


def test_the_idempotency_key_is_the_runs_at_every_attempt(site: Site) -> None:
    site.answer = answering(b"", status=503)
    for attempt in (1, 2):
        with pytest.raises(UnavailableError):
            train(site, request(attempt=attempt))
    site.answer = answering(b"", status=200)
    train(site, request(attempt=3))
    train(site, request(run_id=uuid.UUID(int=70)))

    keys = [received.headers["idempotency-key"] for received in site.received]
    assert keys == [str(uuid.UUID(int=7))] * 3 + [str(uuid.UUID(int=70))]


def test_progress_names_no_more_than_the_host(site: Site) -> None:
    told = Told()
    find({"kind": "webhook", "url": f"{site.url}/hidden?key=k"}).train(request(), told)
    host = f"127.0.0.1:{site.server_port}"
    assert told.messages == [f"Asks {host}.", f"{host} took it over."]


# --- who asks -------------------------------------------------------------------------------


def test_a_receiver_can_tell_that_a_request_is_ours(site: Site) -> None:
    before = int(datetime.now(UTC).timestamp())
    train(site)
    received = site.received[0]
    assert is_signed(received, SECRET, now=before)
    assert not is_signed(received, SECRET, now=before + 100_000)
    assert not is_signed(received, SECRET + "x")
    other = Received(received.method, received.headers, received.content + b" ")
    assert not is_signed(other, SECRET)


def test_without_a_secret_of_its_own_one_is_derived_from_the_secret_key(
    site: Site, settings: Settings
) -> None:
    settings.WEBHOOK_SECRET = ""
    train(site)
    secret = webhook.secret()
    assert is_signed(site.received[0], secret)
    assert settings.SECRET_KEY not in secret

    settings.SECRET_KEY = "another key of at least thirty-two characters"
    assert webhook.secret() != secret


def test_a_token_goes_to_its_own_origin_only(site: Site, settings: Settings) -> None:
    port = site.server_port
    settings.WEBHOOK_TOKENS = {
        "http://127.0.0.1": "Bearer of port 80",
        f"https://127.0.0.1:{port}": "Bearer of https",
        f"http://localhost:{port}": "Bearer of localhost",
    }
    train(site)
    assert "authorization" not in site.received[0].headers

    settings.WEBHOOK_TOKENS[f"http://127.0.0.1:{port}"] = "Bearer mine"
    train(site)
    assert site.received[1].headers["authorization"] == "Bearer mine"


@pytest.mark.parametrize(
    ("url", "origins"),
    [
        ("https://API.example.org/a", ["https://api.example.org:443", "https://api.example.org"]),
        ("https://api.example.org:443", ["https://api.example.org:443", "https://api.example.org"]),
        ("http://api.example.org:8080/", ["http://api.example.org:8080"]),
        ("http://[::1]/", ["http://[::1]:80", "http://[::1]"]),
    ],
)
def test_an_origin_may_leave_out_the_port_of_its_scheme(
    settings: Settings, url: str, origins: list[str]
) -> None:
    from modelperf.outgoing import parts_of, signatures

    assert signatures.origins(parts_of(url)) == origins


# --- what answers do ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_what_is_accepted_is_handed_over(site: Site, status: int) -> None:
    site.answer = answering(b"", status=status)
    assert train(site).timeout_seconds == 86400


@pytest.mark.parametrize(
    "answer",
    [
        answering(b"x" * 200_000, status=202),
        sites.raw(b"HTTP/1.1 202 Accepted\r\nContent-Length: 99\r\n\r\nx"),
    ],
    ids=["oversized", "cut"],
)
def test_what_is_accepted_stays_so_whatever_else_is_said(site: Site, answer: Any) -> None:
    site.answer = answer
    assert train(site) == HandedOver(timeout_seconds=86400)


def test_what_is_accepted_stays_so_if_the_rest_trickles(site: Site, settings: Settings) -> None:
    settings.OUTGOING_TIMEOUT_SECONDS = 2
    site.answer = sites.trickling(b"HTTP/1.1 202 Accepted\r\n\r\n", b"x")
    assert train(site) == HandedOver(timeout_seconds=86400)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_later(site: Site, status: int) -> None:
    site.answer = answering(b"busy", status=status)
    with pytest.raises(UnavailableError, match=f"answered {status}") as error:
        train(site)
    assert error.value.log == "busy"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (sites.silent, "longer than MODELPERF_OUTGOING_TIMEOUT_SECONDS"),
        (sites.trickling(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"), "MODELPERF_OUTGOING_TIMEOUT"),
        (sites.raw(b""), "no HTTP"),
        (sites.raw(b"220 mail.example.org ESMTP\r\n"), "no HTTP"),
    ],
    ids=["silent", "headers trickle", "hangs up", "mail"],
)
def test_what_is_no_answer_is_tried_again_later(
    site: Site, settings: Settings, answer: Any, says: str
) -> None:
    settings.OUTGOING_TIMEOUT_SECONDS = 1
    site.answer = answer
    with pytest.raises(UnavailableError, match=says):
        train(site)


def test_who_is_down_is_asked_again_later(site: Site) -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:\d+ cannot be asked: .*refused"):
        train(site, url=f"http://127.0.0.1:{sites.closed_port()}/")


def failed(site: Site, asked: TrainingRequest | None = None, **settings: Any) -> TrainingError:
    """Return why a training failed for good."""
    with pytest.raises(TrainingError) as error:
        train(site, asked, **settings)
    assert type(error.value) is TrainingError
    return error.value


@pytest.mark.parametrize("to", ["http://169.254.169.254/latest/", "http://127.0.0.1/", "/there"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_fail_the_run_and_are_not_followed(site: Site, status: int, to: str) -> None:
    site.answer = answering(b"", status=status, Location=to)
    assert f"answered {status}, and redirects are not followed" in str(failed(site))
    assert site.asked == ["/jobs"]


def test_what_is_refused_fails_the_run_with_the_answer_in_its_log(site: Site) -> None:
    site.answer = answering('{"detail": "no such DAG"}\n\x1b[31m\x00é'.encode(), status=404)
    error = failed(site)
    assert "answered 404." in str(error)
    assert error.log == '{"detail": "no such DAG"}\n[31mé'

    site.answer = answering(b"\xff" * 5000, status=422)
    assert failed(site).log == "\ufffd" * 2000


def test_a_log_tells_no_secret_that_the_answer_repeats(site: Site, settings: Settings) -> None:
    settings.WEBHOOK_TOKENS = {site.url: "Bearer hunter2"}
    site.answer = answering(f"you sent Bearer hunter2 and {TOKEN}".encode(), status=400)
    assert failed(site).log == "you sent *** and ***"


def test_who_is_not_let_in_is_told_which_token_is_missing(site: Site, settings: Settings) -> None:
    site.answer = answering(b"", status=401)
    assert f"MODELPERF_WEBHOOK_TOKENS holds nothing for {site.url}." in str(failed(site))
    settings.WEBHOOK_TOKENS = {site.url: "Bearer of old"}
    assert str(failed(site)).endswith("answered 401.")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_private_address_is_refused_unless_it_is_allowed(
    site: Site, settings: Settings, host: str
) -> None:
    settings.OUTGOING_NETWORKS = []
    error = failed(site, url=f"http://{host}:{site.server_port}/")
    assert "not public. Name its network in MODELPERF_OUTGOING_NETWORKS" in str(error)
    assert site.asked == []


def test_networks_of_sources_are_none_of_webhooks(site: Site, settings: Settings) -> None:
    settings.OUTGOING_NETWORKS, settings.SOURCE_NETWORKS = [], LOOPBACK
    assert "MODELPERF_OUTGOING_NETWORKS" in str(failed(site))


def test_without_an_address_to_report_to_nobody_is_asked(site: Site) -> None:
    assert "MODELPERF_PUBLIC_URL" in str(failed(site, request(callback=None)))
    assert site.asked == []


@pytest.mark.parametrize("own", ["127.0.0.1:8000", "[::1]:8000", "localhost", "a.localhost."])
@pytest.mark.parametrize("url", ["https://airflow.example.org/", "http://192.0.2.7:8080/"])
def test_nobody_elsewhere_is_told_to_report_to_himself(own: str, url: str) -> None:
    trainer = find({"kind": "webhook", "url": url})
    callback = Callback(url=f"http://{own}/training/7", token=TOKEN)
    with pytest.raises(TrainingError, match="Set MODELPERF_PUBLIC_URL") as caught:
        trainer.train(request(callback=callback), Told())
    assert type(caught.value) is TrainingError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_who_is_on_this_machine_may_report_to_it(site: Site, host: str) -> None:
    callback = Callback(url="http://127.0.0.1:8000/training/7", token=TOKEN)
    train(site, request(callback=callback), url=f"http://{host}:{site.server_port}/")
    assert len(site.asked) == 1


def test_a_run_that_is_no_longer_wanted_is_not_handed_over(site: Site) -> None:
    trainer = find({"kind": "webhook", "url": site.url})
    with pytest.raises(NoLongerWantedError):
        trainer.train(request(), Told(is_wanted=False))
    assert site.asked == []


# --- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "url"),
        ({"url": 5}, "url"),
        ({"url": "ftp://example.org/"}, "The webhook's url begins with https://"),
        ({"url": "https://user:hunter2@example.org/"}, "The webhook's url holds no login"),
        ({"url": "https://example.org/\n"}, "without blanks"),
        ({"url": "https://example.org/", "timeout_seconds": 59}, "between 60 and 30 days"),
        ({"url": "https://example.org/", "timeout_seconds": 2592001}, "between 60 and 30 days"),
        ({"url": "https://example.org/", "extra": {"run_id": 1}}, "may not hold run_id"),
        (
            {"url": "https://example.org/", "payload_key": "conf", "extra": {"conf": 1}},
            "may not hold conf",
        ),
        ({"url": "https://example.org/", "headers": {}}, "headers"),
    ],
)
def test_settings_that_can_never_work_are_refused(document: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainingError, match=says) as error:
        find({"kind": "webhook", **document})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "document",
    [
        {"timeout_seconds": 60},
        {"timeout_seconds": 2592000},
        {"payload_key": "conf", "extra": {"run_id": 1}},
    ],
)
def test_settings_that_may_work_are_taken(document: dict[str, Any]) -> None:
    find({"kind": "webhook", "url": "https://example.org/", **document})
