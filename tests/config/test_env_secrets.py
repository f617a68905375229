"""Secrets of the environment: what is taken, and that no error shows one."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env


def test_secrets_are_none_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (env.secret("MODELPERF_TRY"), env.tokens("MODELPERF_TRY")) == ("", {})
    monkeypatch.setenv("MODELPERF_TRY", " ")
    assert (env.secret("MODELPERF_TRY"), env.tokens("MODELPERF_TRY")) == ("", {})


def test_a_secret_is_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPERF_TRY", "s" * 32)
    assert env.secret("MODELPERF_TRY") == "s" * 32
    monkeypatch.setenv("MODELPERF_TRY", "s" * 31)
    with pytest.raises(ImproperlyConfigured, match="MODELPERF_TRY is too short") as error:
        env.secret("MODELPERF_TRY")
    assert "sss" not in str(error.value)


def test_who_has_no_secret_key_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODELPERF_SECRET_KEY", "")
    monkeypatch.setenv("MODELPERF_DATA_DIR", str(tmp_path))
    with pytest.raises(
        ImproperlyConfigured, match=r"Set MODELPERF_SECRET_KEY, .* MODELPERF_DATA_DIR"
    ):
        env.secret_key()
    (tmp_path / "secret_key").write_text("k" * 50)
    assert env.secret_key() == "k" * 50


def test_tokens_are_taken_by_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "MODELPERF_TRY", '{"https://api.github.com": " Bearer a ", "http://[fd00::1]:8080": "b"}'
    )
    assert env.tokens("MODELPERF_TRY") == {
        "https://api.github.com": "Bearer a",
        "http://[fd00::1]:8080": "b",
    }


@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        '["hunter2"]',
        '{"api.github.com": "hunter2"}',
        '{"https://api.github.com/": "hunter2"}',
        '{"https://API.github.com": "hunter2"}',
        '{"https://a:hunter2@api.github.com": "hunter2"}',
        '{"https://api.github.com": ["hunter2"]}',
        '{"https://api.github.com": " "}',
        '{"https://api.github.com": "hunter2\\nX: y"}',
        '{"https://api.github.com": "hünter2"}',
    ],
)
def test_tokens_that_cannot_be_sent_are_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MODELPERF_TRY", value)
    with pytest.raises(ImproperlyConfigured, match="MODELPERF_TRY must be JSON such as") as error:
        env.tokens("MODELPERF_TRY")
    assert "nter2" not in str(error.value)
