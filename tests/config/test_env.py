"""Settings of jobs: a schedule or an address that is none stops the start with a sentence."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env

NAME = "MODELPERF_SOMETHING"


@pytest.mark.parametrize(
    ("raw", "schedule"),
    [
        ("", "* * * * *"),
        ("*/15 6-20 * * mon-fri", "*/15 6-20 * * mon-fri"),
        (" * * * * * */10 ", "* * * * * */10"),
        ("never", ""),
    ],
)
def test_schedule_is_a_cron_expression_or_never(
    monkeypatch: pytest.MonkeyPatch, raw: str, schedule: str
) -> None:
    monkeypatch.setenv(NAME, raw)
    assert env.schedule(NAME, default="* * * * *") == schedule


@pytest.mark.parametrize("raw", ["often", "* * *", "99 * * * *", "* * * * * 61"])
def test_schedule_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, raw: str) -> None:
    monkeypatch.setenv(NAME, raw)
    with pytest.raises(ImproperlyConfigured, match=f"{NAME}='.*' is no cron expression"):
        env.schedule(NAME, default="* * * * *")


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("", ""),
        ("https://models.example.org/", "https://models.example.org"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_address_is_an_origin(monkeypatch: pytest.MonkeyPatch, raw: str, address: str) -> None:
    monkeypatch.setenv(NAME, raw)
    assert env.address(NAME) == address


@pytest.mark.parametrize(
    "raw",
    ["models.example.org", "ftp://a.org", "https://a.org/path", "https://u:p@a.org", "http://"],
)
def test_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, raw: str) -> None:
    monkeypatch.setenv(NAME, raw)
    with pytest.raises(ImproperlyConfigured, match=f"{NAME} must be such as https://"):
        env.address(NAME)
