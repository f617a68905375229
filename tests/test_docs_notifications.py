"""The handbook of notifications: its sample is what is sent, its command prints what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from modelperf.models import Delivery, Message
from modelperf.notifications import kinds
from modelperf.outgoing import signatures
from modelperf.services import alerts
from tests.factories import AlertFactory
from tests.services.notifying import GROUPED, NOW, resolve, route, send, site, told  # noqa: F401
from tests.sites import Site
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "notifications.md").read_text()
PRINTS = re.compile(r"^    (\.venv/bin/python manage\.py shell .*)$", re.MULTILINE)


def sample() -> Any:
    begin = PAGE.index('    {\n      "version"')
    return json.JSONDecoder().raw_decode(PAGE[begin:].lstrip())[0]


@pytest.mark.django_db
def test_the_sample_has_every_field_that_is_sent_and_no_other(site: Site) -> None:  # noqa: F811
    over = route(site, group_seconds=0)
    alert = AlertFactory.create(seen_through=NOW, alert_details={"changed_at": NOW.isoformat()})
    told(alert)
    send(over, NOW + GROUPED)
    resolve(alert)
    told(alert, "resolved", NOW + GROUPED)
    send(over, NOW + 2 * GROUPED)
    shown = sample()
    (shown_event,) = shown["events"]

    opened, resolved = [json.loads(one.content) for one in site.received]

    for body in (opened, resolved):
        (event,) = body["events"]
        assert body.keys() == shown.keys()
        assert event.keys() == shown_event.keys()
        assert event["alert"].keys() == shown_event["alert"].keys()
        assert event["alert"]["n_members"] is shown_event["alert"]["n_members"] is None
    times = [event["occurred_at"]]
    times += [event["alert"][name] for name in ("opened_at", "changed_at", "seen_through")]
    times += [event["alert"]["resolved_at"]]
    assert all(re.fullmatch(r"20\d\d-[-0-9]+T[0-9:.]+Z", time) for time in times), times


def test_the_secret_is_printed_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    """A receiver is given what a shell puts into a variable."""
    (command,) = set(PRINTS.findall(PAGE + (ROOT / "docs" / "training.md").read_text()))
    arguments = shlex.split(command)[1:]
    named = {
        "MODELPERF_SECRET_KEY": "k" * 50,
        "MODELPERF_DATA_DIR": str(tmp_path),
        "MODELPERF_WEBHOOK_SECRET": "",
        "MODELPERF_DEMO": "1",
    }
    printed = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | named,
        capture_output=True,
        text=True,
        check=True,
    )
    settings.SECRET_KEY, settings.WEBHOOK_SECRET = "k" * 50, ""
    assert printed.stdout == f"{signatures.secret()}\n"


def test_every_kind_decision_and_status_is_named() -> None:
    api = (ROOT / "docs" / "api.md").read_text()
    assert not [name for name in kinds() if f"| `{name}` | " not in PAGE]
    values = [*Delivery.Decision.values, *Message.Status.values]
    assert not [value for value in values if f"`{value}`" not in api]


def test_every_way_that_an_alert_ends_is_in_the_guide() -> None:
    """What the code writes as an action stands in it as a text."""
    page = (ROOT / "docs" / "alerts.md").read_text()
    table = page.split("\n### How it ends\n")[1].split("\n\n")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    code = "".join(path.read_text() for path in (ROOT / "modelperf" / "services").glob("*.py"))
    written = set(re.findall(r'(?:Cleared\([\w.]+, |\baction=)"(\w+)"', code))
    assert len(written) >= 2
    assert named >= written | set(alerts.RESOLUTIONS)
    assert all(f'"{name}"' in code for name in named)
