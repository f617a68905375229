"""What Alertmanager is told: labels that stay the same, a far end, and the end when it is over."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from modelperf.notifications import Envelope, find
from tests.notifications.news import AT, PUBLIC, envelope, fleet, item, over
from tests.sites import LOOPBACK, Site


@pytest.fixture
def sent(settings: Settings) -> Any:
    settings.OUTGOING_NETWORKS = LOOPBACK
    settings.OUTGOING_TIMEOUT_SECONDS = 30

    def send(told: Envelope, at: datetime = AT, url: str = "/am/", **changes: Any) -> Any:
        with Site().served() as site:
            find("alertmanager", {"url": f"{site.url}{url}", **changes}).send(told, at)
            assert site.asked == ["/am/api/v2/alerts"]
            return json.loads(site.received[0].content)

    return send


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_condition_fires_for_as_long_as_nobody_tells_its_end(sent: Any) -> None:
    (alert,) = sent(envelope(item()))
    assert alert["labels"] == {
        "alertname": "drift_detected",
        "severity": "critical",
        "model_type": "baseline",
        "machine": "pump 1",
        "condition": "nmbe",
        "alert_id": "00000000-0000-0000-0000-000000000001",
    }
    assert alert["annotations"] == {
        "summary": "Critical: pump 1 · baseline: bias is worse since 2017-01-06.",
        "description": "pump 1 · baseline: bias is worse since 2017-01-06.",
    }
    assert alert["startsAt"] == "2017-01-06T00:00:00Z"
    assert moment(alert["endsAt"]) == AT + timedelta(days=30)
    assert alert["generatorURL"] == f"{PUBLIC}/admin/modelperf/alert/1/"

    (alert,) = sent(envelope(item(link="")), lasts_days=2, url="/am/api/v2")
    assert moment(alert["endsAt"]) == AT + timedelta(days=2)
    assert "generatorURL" not in alert


def test_an_end_ends_the_alert_under_every_severity_it_may_have_there(sent: Any) -> None:
    (fired,) = sent(envelope(item(severity="warning")))
    ended = sent(envelope(over(severity="warning")), at=AT + timedelta(hours=3))
    assert ended[0]["labels"] == fired["labels"]
    assert {one["labels"]["severity"] for one in ended} == {"critical", "warning", "normal"}
    assert {moment(one["endsAt"]) for one in ended} == {AT}


def test_a_risen_severity_takes_the_place_of_the_one_before(sent: Any) -> None:
    told = sent(envelope(item(kind="severity_rose")))
    ends = {one["labels"]["severity"]: moment(one["endsAt"]) for one in told}
    assert ends == {"critical": AT + timedelta(days=30), "warning": AT, "normal": AT}


def test_no_alert_ends_before_it_starts(sent: Any) -> None:
    late = {"changed_at": "2017-02-01T00:00:00Z", "opened_at": None}
    for alert in sent(envelope(over(**late))):
        assert moment(alert["startsAt"]) <= moment(alert["endsAt"])


def test_a_fleet_alert_names_its_machines(sent: Any) -> None:
    (alert,) = sent(envelope(fleet(300)))
    assert "machine" not in alert["labels"]
    assert len(alert["annotations"]["machines"].split(", ")) == 300


def test_a_test_is_over_by_itself(sent: Any) -> None:
    (alert,) = sent(envelope(is_test=True))
    assert alert["labels"]["alertname"] == "modelperf_test"
    assert moment(alert["endsAt"]) == AT + timedelta(minutes=5)
