"""Requests to others: which addresses may be asked, and that nothing takes longer or more."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from modelperf.outgoing import (
    Limits,
    OversizedError,
    RefusedError,
    UnreachableError,
    is_allowed,
    parts_of,
    send,
)
from tests import sites
from tests.sites import LOOPBACK, Site, answering


def limits(**changes: Any) -> Limits:
    known = {"networks": LOOPBACK, "seconds": 30, "max_bytes": 1000, "setting": "MODELPERF_X"}
    return Limits(**known | changes)


def found(*addresses: str) -> Any:
    """Return a look-up that finds these addresses, and counts how often it was asked."""

    def look_up(host: bytes, port: int) -> list[tuple[Any, ...]]:
        look_up.asked.append(host)
        return [
            one
            for address in addresses
            for one in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        ]

    look_up.asked = []
    return look_up


@pytest.fixture
def site() -> Iterator[Site]:
    with Site().served() as there:
        yield there


# --- what is asked and answered -------------------------------------------------------------


def test_answer_has_status_headers_and_content(site: Site) -> None:
    site.answer = answering(b"taken", status=202, **{"X-Job": "7"})

    answer = send("POST", f"{site.url}/a?b=c%20d", limits=limits(), content=b"x")

    assert (answer.status, answer.reason, answer.content) == (202, "Accepted", b"taken")
    assert answer.headers["x-job"] == "7"
    assert site.asked == ["/a?b=c%20d"]
    assert (site.received[0].method, site.received[0].content) == ("POST", b"x")


def test_letters_of_an_address_outside_ascii_are_sent_encoded(site: Site) -> None:
    send("GET", f"{site.url}/bär?q=ü&p={{a}}#part", limits=limits())
    assert site.asked == ["/b%C3%A4r?q=%C3%BC&p=%7Ba%7D"]


def test_packed_content_is_not_asked_for_and_not_unpacked(site: Site) -> None:
    site.answer = answering(b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert send("GET", site.url, limits=limits()).content == b"\x1f\x8b"
    assert site.received[0].headers["accept-encoding"] == "identity"


def test_redirects_are_answered_and_not_followed(site: Site) -> None:
    site.answer = answering(b"", status=302, Location=f"{site.url}/elsewhere")
    assert send("GET", site.url, limits=limits()).status == 302
    assert site.asked == ["/"]


def test_proxies_of_the_environment_are_not_used(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{sites.closed_port()}")
    assert send("GET", site.url, limits=limits()).status == 200


def test_an_address_of_ipv6_is_asked() -> None:
    try:
        there = Site("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with there.served():
        with pytest.raises(RefusedError, match="::1, which is not public"):
            send("GET", there.url, limits=limits(networks=[ip_network("127.0.0.0/8")]))
        assert send("GET", there.url, limits=limits()).status == 200
    assert there.received[0].headers["host"] == f"[::1]:{there.server_port}"


# --- names ----------------------------------------------------------------------------------


def test_a_name_is_looked_up_once_and_stays_the_host(site: Site) -> None:
    look_up = found("127.0.0.1")
    url = f"http://Jobs.Example.org:{site.server_port}/"

    assert send("GET", url, limits=limits(), look_up=look_up).status == 200

    assert look_up.asked == [b"jobs.example.org"]
    assert site.received[0].headers["host"] == f"jobs.example.org:{site.server_port}"


@pytest.mark.parametrize("private", ["10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"])
def test_a_name_is_refused_if_one_of_its_addresses_is_private(site: Site, private: str) -> None:
    url = f"http://jobs.example.org:{site.server_port}/"
    for addresses in (("127.0.0.1", private), (private, "127.0.0.1")):
        with pytest.raises(RefusedError, match=r"jobs\.example\.org is at .* in MODELPERF_X_NETW"):
            send("GET", url, limits=limits(), look_up=found(*addresses))
    assert site.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1"])
def test_loopback_is_refused_under_all_its_names_unless_allowed(site: Site, host: str) -> None:
    url = f"http://{host}:{site.server_port}/"
    with pytest.raises(RefusedError, match="not public"):
        send("GET", url, limits=limits(networks=[]))
    assert site.asked == []
    assert send("GET", url, limits=limits()).status == 200


def test_the_next_address_is_asked_where_nobody_listens_at_the_first(site: Site) -> None:
    look_up = found("127.0.0.2", "127.0.0.1")  # the site listens at the second only
    url = f"http://jobs.example.org:{site.server_port}/"
    assert send("GET", url, limits=limits(), look_up=look_up).status == 200


@pytest.mark.parametrize(
    ("host", "addresses"), [("no-such-host.invalid", None), ("nowhere.example.org", ())]
)
def test_a_name_without_an_address_may_have_one_later(host: str, addresses: Any) -> None:
    chosen = {} if addresses is None else {"look_up": found(*addresses)}
    with pytest.raises(UnreachableError, match=f"{host} cannot be asked"):
        send("GET", f"http://{host}/", limits=limits(), **chosen)


def test_a_look_up_that_takes_too_long_is_left_to_itself() -> None:
    goes_on = threading.Event()

    def look_up(host: bytes, port: int) -> list[tuple[Any, ...]]:
        goes_on.wait()
        return []

    with pytest.raises(UnreachableError, match="longer than MODELPERF_X_TIMEOUT_SECONDS"):
        send("GET", "http://example.org/", limits=limits(seconds=0.1), look_up=look_up)
    goes_on.set()


# --- which addresses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("192.0.1.1", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("2002:808:808::1", True),
        ("127.0.0.1", False),
        ("127.255.0.1", False),
        ("169.254.169.254", False),
        ("192.168.1.1", False),
        ("172.16.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("192.0.0.8", False),
        ("168.63.129.16", False),
        ("198.51.100.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::808:808", False),
        ("2002:7f00:1::", False),
        ("2002:a00:1::1", False),
        ("2001:0:808:808::1", False),
    ],
)
def test_public_addresses_are_told_from_others(address: str, is_public: bool) -> None:
    assert is_allowed(address) is is_public


@pytest.mark.parametrize(
    ("address", "network", "is_so"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", True),  # public anyway
        ("192.168.0.1", "10.0.0.0/8", False),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("64:ff9b::a01:203", "10.0.0.0/8", True),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "10.0.0.0/8", False),
        ("169.254.169.254", "0.0.0.0/0", True),
    ],
)
def test_a_network_is_allowed_by_name(address: str, network: str, is_so: bool) -> None:
    assert is_allowed(address, [ip_network(network)]) is is_so


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://example.org/a", "The url begins with https://"),
        ("example.org/a", "The url begins with https://"),
        ("http://", "The url begins with https://"),
        ("http://example.org/\r\nHost: x", "without blanks"),
        ("http://example.org/a b", "without blanks"),
        ("http://good.example.org\\@evil.example.org/", "without blanks"),
        ("http://example.org:port/", "Port"),
        ("http://example.org:0/", "Port 0"),
        ("http://[::1/", "IPv6"),
        ("http://a..b/", "no name of a host"),
        (f"http://{'a' * 64}/", "no name of a host"),
        ("http://hunter2@example.org/", "The url holds no login"),
        ("http://:hunter2@example.org/", "The url holds no login"),
        ("http://@example.org/", "The url holds no login"),
        ("http://user:hunter2@example.org:port/", "it cannot be read"),
        ("http://hunter2＠example.org/", "it cannot be read"),
    ],
)
def test_what_is_no_address_is_refused_without_telling_its_login(url: str, says: str) -> None:
    with pytest.raises(RefusedError, match=says) as refused:
        parts_of(url, "The url")
    assert "hunter2" not in str(refused.value)


# --- time, size and broken answers ----------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "has_head"),
    [
        (sites.silent, False),
        (sites.trickling(HEAD[:3], b""), False),
        (sites.trickling(HEAD, b"X-More: 1\r\n"), False),
        (sites.trickling(CONTINUE, CONTINUE), False),
        (sites.trickling(HEAD + b"\r\n", b"x"), True),
        (sites.trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), True),
    ],
    ids=["silent", "stops", "headers", "informs", "content", "chunks"],
)
def test_one_time_holds_for_all_of_an_answer(site: Site, answer: Any, has_head: bool) -> None:
    site.answer = answer
    late = limits(seconds=2 if has_head else 0.3, max_bytes=10**9)
    with pytest.raises(UnreachableError, match="longer than MODELPERF_X_TIMEOUT_") as error:
        send("GET", site.url, limits=late)
    assert (error.value.answer is not None) is has_head


def test_one_time_holds_for_the_request_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        with pytest.raises(UnreachableError, match="longer than MODELPERF_X_TIMEOUT_SECONDS"):
            send("POST", url, limits=limits(seconds=0.3), content=bytes(50_000_000))


def test_one_time_holds_for_the_handshake_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}/"
        with pytest.raises(UnreachableError, match="longer than MODELPERF_X_TIMEOUT_SECONDS"):
            send("GET", url, limits=limits(seconds=0.3))


def test_content_is_read_up_to_the_limit(site: Site) -> None:
    site.answer = answering(b"x" * 1000, status=201)
    assert send("GET", site.url, limits=limits()).content == b"x" * 1000
    with pytest.raises(OversizedError, match="more than 999 bytes") as error:
        send("GET", site.url, limits=limits(max_bytes=999))
    assert error.value.answer is not None
    assert (error.value.answer.status, error.value.answer.content) == (201, b"x" * 999)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", "no HTTP"),
        (b"x" * 5000 + b"\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "ends too early"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", "ends too early"),
    ],
)
def test_a_broken_answer_is_told_shortly(site: Site, content: bytes, says: str) -> None:
    site.answer = sites.raw(content)
    with pytest.raises(UnreachableError, match=says) as error:
        send("GET", site.url, limits=limits())
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


def test_a_reason_is_kept_short_and_printable(site: Site) -> None:
    site.answer = sites.raw(b"HTTP/1.1 404 No\tplace" + b"!" * 5000 + b"\r\n\r\n")
    assert send("GET", site.url, limits=limits()).reason == "Noplace" + "!" * 193


def test_nobody_listening_is_told() -> None:
    with pytest.raises(UnreachableError, match="refused") as error:
        send("GET", f"http://127.0.0.1:{sites.closed_port()}/", limits=limits())
    assert error.value.answer is None


@pytest.mark.parametrize("value", ["secret\r\nX: y", "secret\0", "secrät"])
def test_a_header_that_cannot_be_sent_is_not_shown(site: Site, value: str) -> None:
    with pytest.raises(RefusedError, match="what no header may") as error:
        send("GET", site.url, limits=limits(), headers={"Authorization": value})
    assert "secr" not in str(error.value)
    assert error.value.__cause__ is None
    assert site.asked == []


# --- encryption -----------------------------------------------------------------------------


@pytest.fixture
def secure(site: Site, tmp_path: Path) -> Path:
    """Let the site speak TLS under a certificate of its own for the name localhost."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    form = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj"
    named = ["/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    places = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *form.split(), *named, *places], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    return certificate


def test_a_certificate_must_be_trusted_and_of_the_name(
    site: Site, secure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = f"https://localhost:{site.server_port}/"
    elsewhere = f"https://jobs.example.org:{site.server_port}/"
    with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        send("GET", here, limits=limits())
    assert site.asked == []

    monkeypatch.setenv("SSL_CERT_FILE", str(secure))

    assert send("GET", here, limits=limits()).status == 200
    with pytest.raises(UnreachableError, match="Hostname mismatch"):
        send("GET", elsewhere, limits=limits(), look_up=found("127.0.0.1"))
    with pytest.raises(UnreachableError, match="IP address mismatch"):
        send("GET", f"https://127.0.0.1:{site.server_port}/", limits=limits())
    assert site.asked == ["/"]
