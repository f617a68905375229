"""Sparklines: what is drawn of the last evaluations, and where they come from."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from modelperf.drawing.recent import EVALUATIONS, Asked, recent
from modelperf.drawing.sparklines import Point, Sparkline, smoothed
from modelperf.models import ModelVersion
from tests import factories

START = datetime(2026, 1, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def points(*values: float) -> list[Point]:
    return [(START + i * DAY, value) for i, value in enumerate(values)]


def line_of(svg: str) -> list[tuple[float, float]]:
    path = re.findall(r'class="line" d="M([^"]*)"', svg)[0]
    return [(float(x), float(y)) for x, y in (point.split() for point in path.split("L"))]


def test_line_runs_from_left_to_right_and_higher_values_stand_higher() -> None:
    drawn = line_of(Sparkline(points(1.0, 3.0, 2.0), "MAE").svg())

    assert [x for x, _ in drawn] == [2.5, 60.0, 117.5]
    assert [y for _, y in drawn] == [21.5, 2.5, 12.0]


def test_all_of_a_drawing_lies_within_its_size() -> None:
    svg = Sparkline(points(*range(40)), "MAE", baseline=80.0, width=480, height=96).svg()

    assert all(0 <= x <= 480 and 0 <= y <= 96 for x, y in line_of(svg))
    assert 'width="480" height="96"' in svg
    assert 'class="base" d="M0 2.5H480"' in svg


def test_equal_values_are_a_line_in_the_middle() -> None:
    assert {y for _, y in line_of(Sparkline(points(5.0, 5.0), "MAE").svg())} == {12.0}


@pytest.mark.parametrize("n", [0, 1])
def test_there_is_no_line_of_less_than_two(n: int) -> None:
    assert Sparkline(points(*[1.0] * n), "MAE").svg() == ""


@pytest.mark.parametrize(
    ("days", "parts"),
    [
        (1.0, ['class="after" x="60.0" y="0" width="57.5"', 'class="chg" d="M60.0 0V24"']),
        (-5.0, ['class="after" x="2.5" y="0" width="115.0"']),
        (9.0, []),
        (None, []),
    ],
)
def test_change_is_marked_where_it_lies_in_what_is_drawn(
    days: float | None, parts: list[str]
) -> None:
    at = None if days is None else START + days * DAY
    svg = Sparkline(points(1.0, 1.0, 3.0), "MAE", changed_at=at, state="drift").svg()

    assert [part for part in parts if part not in svg] == []
    assert svg.count('class="after"') + svg.count('class="chg"') == len(parts)
    assert 'class="spark drift"' in svg


def test_drawing_says_in_words_what_it_shows() -> None:
    line = Sparkline(points(1.25, 3.5), "<MAE>", unit="kWh", changed_at=START)

    says = re.findall(r'aria-label="([^"]*)"', line.svg())

    assert says == ["&lt;MAE&gt;: 1.25 on 1 Jan 2026, 3.50 kWh on 2 Jan 2026, changed 2 Jan 2026"]


def test_many_are_smoothed_and_few_are_not() -> None:
    few, many = points(*[0.0, 7.0] * 10), points(*[0.0, 7.0] * 15)

    assert smoothed(few) == few
    steps = [abs(b - a) for (_, a), (_, b) in pairwise(smoothed(many))]
    assert max(steps) <= 1.75
    assert smoothed(many)[15] == (many[15][0], pytest.approx(3.0))


def test_what_came_before_a_change_and_what_came_since_are_smoothed_apart() -> None:
    fall = points(*[1.0] * 20, *[0.0] * 3)

    assert [value for _, value in smoothed(fall, START + 19 * DAY)] == [1.0] * 20 + [0.0] * 3
    drawn = line_of(Sparkline(fall, "MAE", changed_at=START + 19 * DAY).svg())
    assert {y for _, y in drawn} == {2.5, 21.5}


def record(model: ModelVersion, *values: float, **fields: Any) -> None:
    for day, value in enumerate(values):
        factories.ModelPerformanceMetricFactory.create(
            model=model, day=day, r_squared=value, **fields
        )


def asked(model: ModelVersion, **fields: Any) -> Asked:
    place = {"machine_id": model.machine_id, "model_type": model.model_type}
    return Asked(**place | {"metric": "r_squared"} | fields)


def values(found: list[Point]) -> list[float]:
    return [value for _, value in found]


@pytest.mark.django_db
def test_each_gets_the_last_of_its_own_oldest_first_by_one_statement() -> None:
    one, two = factories.ModelVersionFactory.create_batch(2, is_active=True)
    record(one, 0.5, 0.6, 0.7)
    record(two, 0.1)

    with CaptureQueriesContext(connection) as seen:
        found = recent([asked(two), asked(one), asked(one, metric="rmse"), asked(one, metric="?")])

    assert [values(each) for each in found] == [[0.1], [0.5, 0.6, 0.7], [1.5] * 3, []]
    assert found[1][0][0] == factories.START + DAY
    assert len(seen) == 1
    assert recent([]) == []


@pytest.mark.django_db
def test_challengers_and_what_came_later_are_left_out() -> None:
    first = factories.ModelVersionFactory.create(is_active=True)
    second = factories.ModelVersionFactory.create(machine=first.machine)
    record(first, 0.5, 0.6, 0.7)
    record(second, 0.8)

    until = factories.START + 2 * DAY
    found = recent([asked(first, version=1), asked(first), asked(first, version=1, until=until)])

    assert [values(each) for each in found] == [[0.5, 0.6, 0.7], [0.8, 0.6, 0.7], [0.5, 0.6]]


@pytest.mark.django_db
def test_no_more_are_read_than_are_drawn() -> None:
    model = factories.ModelVersionFactory.create(is_active=True)
    record(model, *(float(day) for day in range(EVALUATIONS + 2)))

    (found,) = recent([asked(model)])

    assert (len(found), found[0][1], found[-1][1]) == (EVALUATIONS, 2.0, EVALUATIONS + 1.0)
