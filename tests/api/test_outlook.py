"""The outlook of a trend over HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from rest_framework.test import APIClient

from modelperf.services import policies
from tests import factories
from tests.api.calls import NOON, ROOT, recorded, series_of

pytestmark = pytest.mark.django_db


def test_trend_says_when_the_limit_is_crossed(api: APIClient) -> None:
    model = factories.ModelVersionFactory(is_active=True)
    # A line with a wave of its own, which ends at 3.
    recorded(model, [1 + day / 20 + 0.01 * ((7 * day) % 5 - 2) for day in range(41)])
    policies.set_policy(model_type=model.model_type, values={"limit_value": 4.0}, by="a")
    query = series_of(model) | {"days": 60}
    told = api.get(f"{ROOT}/metrics/trend", query).json()["outlook"]
    assert set(told) == {"status", "crosses_at", "earliest", "latest", "limit", "confidence"}
    assert (told["status"], told["limit"], told["confidence"]) == ("crosses", 4.0, 0.95)
    at = datetime.fromisoformat(told["crosses_at"])
    assert abs(at - (NOON + timedelta(days=20))) < timedelta(days=1)
    assert told["earliest"] < told["crosses_at"] < told["latest"]
    assert told["latest"].endswith("Z")


def test_trend_without_a_limit_has_no_outlook(api: APIClient) -> None:
    model = factories.ModelVersionFactory(is_active=True)
    recorded(model, [1.0, 2.0] * 10)
    told = api.get(f"{ROOT}/metrics/trend", series_of(model)).json()["outlook"]
    assert (told["status"], told["limit"]) == ("no_limit", None)
    assert (told["crosses_at"], told["earliest"], told["latest"]) == (None, None, None)
