"""The outlook in a sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from modelperf.drawing.metric_names import named
from modelperf.pages.outlook import outlook_sentence
from modelperf.services import policies
from modelperf.services.trend import OutlookReport
from tests.pages import worlds

MAY, JUNE, JULY = (datetime(2026, month, 1, 12, tzinfo=UTC) for month in (5, 6, 7))

CROSSES = "If it goes on like this, it crosses its limit of 20 % around 1 Jun 2026"
OVERDUE = "Its trend leads across its limit of 20 % around 1 Jun 2026"
CROSSES_NOT = "If it goes on like this, it does not cross its limit of 20 % within a year"


def told(status: str, *dates: Any, limit: float = 20.0, metric: str = "mape") -> str:
    crosses_at, earliest, latest = dates or (None, None, None)
    report = OutlookReport(status, crosses_at, earliest, latest, limit, 0.95)
    return outlook_sentence(report, named(metric)).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("status", "dates", "sentence"),
    [
        ("crossed", (), "Its level is beyond its limit of 20 %."),
        (
            "crosses",
            (JUNE, MAY, JULY),
            f"{CROSSES} (95 %: 1 May 2026 – 1 Jul 2026).",
        ),
        (
            "crosses",
            (JUNE, MAY, None),
            f"{CROSSES} (95 %: not before 1 May 2026, perhaps not within a year).",
        ),
        (
            "not_within_a_year",
            (),
            f"{CROSSES_NOT}.",
        ),
        (
            "not_within_a_year",
            (None, MAY, None),
            f"{CROSSES_NOT}, and hardly before 1 May 2026.",
        ),
        (
            "overdue",
            (JUNE, MAY, JULY),
            f"{OVERDUE}, and no evaluation since has shown it.",
        ),
        ("no_limit", (), ""),
        ("insufficient_data", (), ""),
    ],
)
def test_an_outlook_is_told_in_a_sentence(
    status: str, dates: tuple[Any, ...], sentence: str
) -> None:
    assert told(status, *dates) == sentence


def test_a_limit_without_a_unit_is_a_number() -> None:
    assert (
        told("crossed", limit=0.5, metric="r_squared") == "Its level is beyond its limit of 0.500."
    )


@pytest.mark.django_db
def test_page_of_a_series_with_a_limit_says_when_it_is_crossed(logged_in: Client) -> None:
    model = worlds.series([level - 0.002 * day for day, level in enumerate(worlds.noisy(60))])
    page = {"machine": model.machine_id}
    assert "Outlook" not in logged_in.get("/ui/model-performance", page).content.decode()
    policies.set_policy(model_type=model.model_type, values={"limit_value": 0.7}, by="a")
    text = logged_in.get("/ui/model-performance", page).content.decode()
    assert "<dt>Outlook</dt><dd>If it goes on like this, it crosses its limit of 0.700" in text
