"""The chart's geometry: bands, lines, gaps, levels and ticks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from modelperf.pages import axes, charts
from modelperf.pages.shapes import Chart, Mark, Sample

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def samples(
    values: Sequence[float], *, version: int = 1, first: int = 0, skip: Sequence[int] = ()
) -> list[Sample]:
    return [
        Sample(START + (first + i) * DAY, START + (first + i + 1) * DAY, value, version, 24)
        for i, value in enumerate(values)
        if i not in skip
    ]


def drawn(
    points: list[Sample],
    *,
    active: int | None = 1,
    silent: timedelta = timedelta(),
    mark: Mark | None = None,
    limit: float | None = None,
    known: datetime | None = None,
    unit: str = "",
) -> Chart:
    return charts.draw(
        points,
        now=max(s.end for s in points) + silent,
        unit=unit,
        active=active,
        mark=mark,
        limit=limit,
        known=known,
    )


def test_draw_one_evaluation_has_a_dot_and_ticks() -> None:
    chart = drawn(samples([0.5]))

    assert len(chart.dots) == 1
    assert chart.dots[0][:2] == (1000.0, (chart.top + chart.bottom) / 2)
    assert chart.y_ticks
    assert chart.x_ticks


@pytest.mark.parametrize(("n", "is_few"), [(1, True), (9, True), (10, False)])
def test_draw_few_evaluations_as_markers(n: int, is_few: bool) -> None:
    assert drawn(samples([0.5] * n)).is_few is is_few


def test_draw_constant_series_keeps_it_in_the_middle() -> None:
    chart = drawn(samples([0.0] * 10))

    assert {y for _, y, _ in chart.dots} == {chart.middle}


def test_draw_breaks_the_line_at_every_missing_window() -> None:
    chart = drawn(samples([1.0, 2.0] * 10, skip=[10]))

    assert [css for css, _ in chart.lines] == ["l1", "l1"]
    assert chart.gaps == []


def test_draw_names_a_gap_from_four_windows_on() -> None:
    chart = drawn(samples([1.0, 2.0] * 20, skip=[10, 11, 12, 13, 14]))

    (gap,) = chart.gaps
    assert gap.label == "no evaluations, 6 d"
    assert gap.x < gap.middle < gap.x + gap.width


def test_draw_shows_silence_until_now_as_a_gap() -> None:
    chart = drawn(samples([1.0, 2.0] * 20), silent=40 * DAY)

    (gap,) = chart.gaps
    assert gap.label == "no evaluations, 40 d"
    assert gap.x + gap.width == pytest.approx(100)


def test_draw_smooths_only_what_is_long_enough() -> None:
    assert not drawn(samples([1.0, 2.0] * 10)).is_smoothed
    assert drawn(samples([1.0, 2.0] * 11)).is_smoothed


def test_draw_puts_versions_at_once_into_two_bands_and_dashes_the_challenger() -> None:
    chart = drawn(samples([1.0] * 40) + samples([2.0] * 20, version=2, first=20))

    assert [(b.label, b.y > 0) for b in chart.bands] == [("v1 · active", False), ("v2", True)]
    assert chart.has_challenger
    assert [css for css, _ in chart.lines] == ["l1", "l3"]
    assert len(chart.dots) == 40


def test_draw_puts_versions_in_turn_into_one_band_and_one_ink() -> None:
    chart = drawn(samples([1.0] * 40) + samples([2.0] * 40, version=2, first=40), active=2)

    assert {band.y for band in chart.bands} == {0}
    assert [css for css, _ in chart.lines] == ["l1", "l1"]
    assert not chart.has_challenger


def test_draw_without_active_version_draws_all_alike() -> None:
    chart = drawn(samples([1.0] * 9) + samples([2.0] * 9, version=2), active=None)

    assert {css for css, _ in chart.lines} == {"l1"}


def test_draw_challenger_alone_is_drawn_as_the_series() -> None:
    chart = drawn(samples([1.0] * 9, version=2), active=1)

    assert [css for css, _ in chart.lines] == ["l1"]


def test_draw_marks_far_outliers_at_the_edge_without_flattening_the_rest() -> None:
    values = [1.0, 2.0] * 40
    values[7], values[50] = 1e6, -1e6

    chart = drawn(samples(values))

    assert [is_above for _, _, is_above in chart.outside] == [True, False]
    assert [y for _, y, _ in chart.outside] == [chart.top, chart.bottom]
    assert len(chart.dots) == 78
    assert max(y for _, y, _ in chart.dots) - min(y for _, y, _ in chart.dots) > 60


def test_draw_change_has_levels_before_and_since_with_labels_apart() -> None:
    mark = Mark(
        state="degraded",
        changed_at=START + 30 * DAY,
        changed_low=START + 28 * DAY,
        changed_high=START + 33 * DAY,
        baseline=2.01,
        current=1.99,
        version=1,
    )
    chart = drawn(samples([2.0, 1.0] * 30), mark=mark, unit="%")

    assert chart.change is not None
    assert chart.change.label == "changed 31 Jan 2026"
    assert chart.change.low < chart.change.x < chart.change.low + chart.change.width
    before, since = chart.levels
    assert (before.label, since.label) == ("before 2.01 %", "since 1.99 %")
    assert (before.css, since.css) == ("seg1", "seg-degraded")
    assert before.x_end == since.x == chart.change.x
    assert since.label_y - before.label_y >= 13


def test_draw_without_change_has_one_mean() -> None:
    mark = Mark(state="stable", baseline=1.5, version=1)

    (level,) = drawn(samples([2.0, 1.0] * 30), mark=mark).levels

    assert (level.label, level.css) == ("mean 1.50", "seg1")


def test_draw_change_before_the_period_has_no_line_and_one_level() -> None:
    mark = Mark(state="degraded", changed_at=START - 9 * DAY, baseline=3.0, current=1.5, version=1)
    chart = drawn(samples([2.0, 1.0] * 30), mark=mark)

    assert chart.change is None
    assert [level.label for level in chart.levels] == ["since 1.50"]


@pytest.mark.parametrize(
    ("limit", "labels"),
    [(1.5, ["limit 1.50"]), (0.1, ["limit 0.100"]), (2.9, ["limit 2.90"]), (99.0, []), (-9.0, [])],
)
def test_draw_limit_only_where_it_lies_within_or_near(limit: float, labels: list[str]) -> None:
    chart = drawn(samples([2.0, 1.0] * 30), limit=limit)

    assert [level.label for level in chart.levels] == labels


def test_draw_known_change_only_within_the_period() -> None:
    points = samples([2.0, 1.0] * 30)

    assert drawn(points, known=START + 31 * DAY).known == pytest.approx(50.85, abs=0.1)
    assert drawn(points, known=START - DAY).known is None


def test_draw_zero_line_only_where_values_change_sign() -> None:
    assert drawn(samples([-1.0, 1.0] * 5)).zero is not None
    assert drawn(samples([1.0, 2.0] * 5)).zero is None


def test_draw_many_points_stays_small() -> None:
    chart = drawn(samples([1.0, 2.0] * 5000))

    assert len(chart.dots) <= 2 * charts.MOST_POINTS
    assert all(title == "" for _, _, title in chart.dots)
    assert sum(path.count("L") for _, path in chart.lines) <= 2 * charts.MOST_POINTS


@pytest.mark.parametrize(
    ("low", "high", "unit", "labels"),
    [
        (-60, 55, "%", ["−50 %", "−25 %", "0 %", "25 %", "50 %"]),
        (0.71, 0.95, "", ["0.75", "0.80", "0.85", "0.90", "0.95"]),
        (0, 12_000, "", ["0", "2,500", "5,000", "7,500", "10,000"]),
        (-0.001, 0.001, "", ["−0.0010", "−0.0005", "0.0000", "0.0005", "0.0010"]),
    ],
)
def test_value_ticks_are_round(low: float, high: float, unit: str, labels: list[str]) -> None:
    assert [tick.label for tick in axes.value_ticks(low, high, unit)] == labels


@pytest.mark.parametrize(
    ("span", "first", "count"),
    [
        (timedelta(minutes=30), "1 Jan", 7),
        (timedelta(hours=20), "1 Jan", 7),
        (timedelta(days=6), "1 Jan", 7),
        (timedelta(days=60), "1 Jan", 9),
        (timedelta(days=365), "2026", 7),
        (timedelta(days=3660), "2026", 6),
    ],
)
def test_time_ticks_are_round_and_few(span: timedelta, first: str, count: int) -> None:
    ticks = axes.time_ticks(START, START + span)

    assert ticks[0].label == first
    assert len(ticks) == count
    assert all(0 <= tick.at <= 100 for tick in ticks)
    assert [tick.is_minor for tick in ticks[:2]] == [False, True]
