"""Numbers, times and words for people; and what the address may ask for."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from django.http import QueryDict
from django.utils import timezone

from modelperf.drawing.metric_names import named
from modelperf.pages import selection
from modelperf.templatetags import presentation

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("", "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.0804, "0.0804"),
        (0.8123456, "0.812"),
        (-18.634, "−18.6"),
        (290.4, "290"),
        (12_400, "12,400"),
        (3, "3"),
        (1e12, "1.0e+12"),
        (2e-7, "2.0e−07"),
        (-12.0, "−12"),
    ],
)
def test_number_has_about_three_digits(value: float | None, text: str) -> None:
    assert presentation.number(value) == text


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(-0.001, 2, "0.00"), (-5.0, 1, "−5.0"), (None, 2, "–")]
)
def test_fixed_has_no_signed_zero(value: float | None, decimals: int, text: str) -> None:
    assert presentation.fixed(value, decimals) == text


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([], 0), ([None, 0.0], 0), ([1, 2, 3], 0), ([0.08, 0.07, None], 4), ([900.5, 12.5, 700.5], 0)],
)
def test_decimals_for_follow_the_median(values: list[float | None], decimals: int) -> None:
    assert presentation.decimals_for(values) == decimals


def test_exact_shows_every_digit() -> None:
    assert presentation.exact(0.1 + 0.2) == "0.30000000000000004"
    assert presentation.exact(None) == presentation.exact("") == "not reported"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "–"),
        (1, "100 %"),
        (0.5, "50 %"),
        (0.9633, "96.3 %"),
        (0.99999, "> 99.9 %"),
        (0, "0 %"),
    ],
)
def test_percent_says_nearly_all_is_not_all(share: float | None, text: str) -> None:
    assert presentation.percent(share) == text.replace(" %", "\N{NO-BREAK SPACE}%")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (45, "45 s"),
        (12 * 60, "12 min"),
        (5 * 3600, "5 h"),
        (9 * 86400, "9 d"),
        (26 * 604800, "26 wk"),
        (130 * 604800, "2.5 y"),
        (None, "–"),
    ],
)
def test_span_is_in_its_largest_useful_unit(seconds: float | None, text: str) -> None:
    assert presentation.span(seconds) == text


def test_ago_looks_back_and_forward() -> None:
    now = timezone.now()

    assert presentation.ago(now) == "just now"
    assert presentation.ago(now - 9 * DAY) == "9 d ago"
    assert presentation.ago(now + 5 * HOUR + timedelta(minutes=5)) == "in 5 h"
    assert presentation.ago(None) == ""


def test_times_are_utc() -> None:
    east = datetime.fromisoformat("2026-01-01T01:30:00+02:00")

    assert presentation.day(east) == "31 Dec 2025"
    assert presentation.moment(east) == "31 Dec 2025 23:30 UTC"
    assert presentation.iso(east) == "2025-12-31T23:30:00Z"
    assert (presentation.day(None), presentation.moment(None), presentation.iso(None)) == (
        "–",
        "–",
        "",
    )


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (START, START + DAY, "1 Jan 2026"),
        (START, START + 7 * DAY, "1 Jan 2026 – 7 Jan 2026"),
        (START + HOUR, START + 2 * HOUR, "1 Jan 2026 01:00–02:00"),
        (START + 6 * HOUR, START + DAY + 6 * HOUR, "1 Jan 2026 06:00 – 2 Jan 06:00"),
        (START - HOUR, START + HOUR, "31 Dec 2025 23:00 – 1 Jan 2026 01:00"),
    ],
)
def test_window_is_told_shortly(start: datetime, end: datetime, text: str) -> None:
    assert presentation.window(start, end) == text


def test_words_make_choices_readable() -> None:
    assert presentation.words("ab_test_completed") == "A/B test completed"
    assert presentation.words("open") == "Open"
    assert presentation.words("") == "–"


def test_actor_drops_its_kind() -> None:
    assert presentation.actor("user:ada") == "ada"
    assert presentation.actor("key:ada") == "ada (key)"
    assert presentation.actor("command:retrain") == "retrain (command)"
    assert presentation.actor("system:retraining") == "modelperf"
    assert presentation.actor("demo") == "demo"
    assert presentation.actor("") == ""


def test_whole_has_thousands() -> None:
    assert presentation.whole(12_345) == "12,345"
    assert presentation.whole(None) == "–"


@pytest.mark.parametrize(
    ("window", "days"),
    [(DAY, 730), (7 * DAY, 730), (HOUR, 30), (timedelta(minutes=5), 7), (timedelta(seconds=1), 7)],
)
def test_usual_days_has_a_readable_number_of_windows(window: timedelta, days: int) -> None:
    assert selection.usual_days(window) == days


@pytest.mark.parametrize("text", ["+7", "7.0", " 7", "0x7", "٣", "7_0"])
def test_read_takes_only_plain_digits_for_days(text: str) -> None:
    query = QueryDict(mutable=True)
    query["days"] = text

    assert selection.read(query).problem


def test_read_cuts_long_texts_and_drops_zero_bytes() -> None:
    query = QueryDict(mutable=True)
    query["type"] = "a\x00b" + "x" * 500

    assert selection.read(query).model_type == ("ab" + "x" * 500)[:100]


@pytest.mark.parametrize(
    ("key", "metadata", "heading"),
    [
        ("mape", {}, "MAPE, %"),
        ("rmse", {}, "RMSE"),
        ("rmse", {"unit": "kWh"}, "RMSE, kWh"),
        ("rmse", {"unit": 3}, "RMSE"),
        ("pinball", {"units": {"pinball": "MW"}}, "pinball, MW"),
        ("mape", {"units": "%"}, "MAPE, %"),
    ],
)
def test_named_gives_label_and_unit(key: str, metadata: dict[str, object], heading: str) -> None:
    assert named(key, metadata).heading == heading


def test_last_day_is_that_of_the_last_instant() -> None:
    midnight = datetime(2026, 11, 23, tzinfo=UTC)

    assert presentation.last_day(midnight) == "22 Nov 2026"
    assert presentation.last_day(midnight + timedelta(hours=1)) == "23 Nov 2026"
    assert presentation.last_day(None) == "–"
