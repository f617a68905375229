"""Logs: events with fields, and never a secret."""

import io
import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import structlog
from django.test import Client

from config import logging as logs

KEY = "abcdefgh.0123456789abcdefABCDEF0123456789"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "hunter2"),
        ("api_key", KEY),
        ("apikey", KEY),
        ("Authorization", f"Api-Key {KEY}"),
        ("HTTP_COOKIE", "sessionid=1"),
        ("csrf_token", "x"),
        ("secret", "x"),
        ("key", "x"),
    ],
)
def test_hide_secrets_by_the_name_of_the_field(name: str, value: str) -> None:
    assert logs.hide_secrets(None, "info", {name: value}) == {name: "[hidden]"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"sent {KEY} twice", "sent [hidden] twice"),
        ("Authorization: Api-Key whatever", "Authorization: Api-Key [hidden]"),
        ("postgres://ada:pw@host:5432/db", "postgres://[hidden]@host:5432/db"),
        ("GET /x?key=abc&days=3", "GET /x?[hidden]&days=3"),
        ("GET /x?machine=01a2&days=3", "GET /x?machine=01a2&days=3"),
    ],
)
def test_hide_secrets_by_their_looks(text: str, shown: str) -> None:
    assert logs.hide_secrets(None, "info", {"event": text}) == {"event": shown}


def test_hide_secrets_reaches_into_what_is_nested() -> None:
    event = {"event": "x", "body": {"items": [{"token": "t"}, KEY]}, "n": 3}

    assert logs.hide_secrets(None, "info", event) == {
        "event": "x",
        "body": {"items": [{"token": "[hidden]"}, "[hidden]"]},
        "n": 3,
    }


def test_hide_secrets_leaves_an_alerts_condition_key() -> None:
    event = {"event": "raised", "condition_key": "series:1:baseline"}

    assert logs.hide_secrets(None, "info", dict(event)) == event


def told(**extra: Any) -> dict[str, Any]:
    """Return one event as the configured handler writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=logs.LOGGING["formatters"]["events"]["processors"],
            foreign_pre_chain=logs.SHARED,
        )
    )
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    try:
        structlog.get_logger("tests.logs").warning("something_happened", **extra)
    finally:
        logger.removeHandler(handler)
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


def test_event_is_one_json_line_with_level_logger_and_time() -> None:
    line = told(machine_id="m", api_key=KEY)

    assert line["event"] == "something_happened"
    assert (line["level"], line["logger"]) == ("warning", "tests.logs")
    assert line["timestamp"].endswith("Z")
    assert (line["machine_id"], line["api_key"]) == ("m", "[hidden]")


def test_event_within_a_request_carries_its_id() -> None:
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        assert told()["request_id"] == "r1"


@pytest.mark.django_db
def test_request_logs_its_id_and_no_password(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Client().post("/login", {"username": "ada", "password": "hunter2"})

    assert "request_id" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"MODELPERF_LOG_LEVEL": "LOUD"}, "MODELPERF_LOG_LEVEL='LOUD' is unknown"),
        ({"MODELPERF_LOG_FORMAT": "xml"}, "MODELPERF_LOG_FORMAT='xml' is unknown"),
    ],
)
def test_unknown_choice_stops_with_what_to_choose(environment: dict[str, str], says: str) -> None:
    done = run("import config.logging", environment)

    assert done.returncode != 0
    assert says in done.stderr


def test_text_format_writes_for_people() -> None:
    script = (
        "import logging.config, structlog; from config.logging import LOGGING;"
        "logging.config.dictConfig(LOGGING);"
        "structlog.get_logger('modelperf').info('hello', password='hunter2', n=3)"
    )

    done = run(script, {"MODELPERF_LOG_FORMAT": "text", "NO_COLOR": "1"})

    assert "hello" in done.stderr
    assert "hunter2" not in done.stderr
    assert not done.stderr.startswith("{")


def run(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
