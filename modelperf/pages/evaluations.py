"""The evaluations of a series as the page shows them: newest values, table, means, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean, median
from typing import Any

from django.utils.dateparse import parse_datetime

from modelperf.drawing.metric_names import MetricName, named
from modelperf.models import CONFUSION_COUNTS, REGISTERED_METRICS
from modelperf.pages.fleet import Row
from modelperf.pages.shapes import Chart, Sample
from modelperf.pages.verdicts import Verdict
from modelperf.templatetags.presentation import (
    day,
    decimals_for,
    fixed,
    last_day,
    number,
    window,
)

Rows = Sequence[Mapping[str, Any]]
MOST_ROWS = 400
COUNT_NAMES = {
    "true_positives": "True positives",
    "false_positives": "False positives",
    "true_negatives": "True negatives",
    "false_negatives": "False negatives",
}


@dataclass(frozen=True, slots=True)
class LatestValue:
    """A metric of the newest evaluation beside its median of the period."""

    name: MetricName
    value: float
    usual: float | None
    is_judged: bool


@dataclass(frozen=True, slots=True)
class TableRow:
    """One evaluation as a line of the table below the chart."""

    start: datetime
    end: datetime
    version: int
    samples: int
    cells: list[tuple[str, float | None]]

    @property
    def window(self) -> str:
        """The window as a day, where it is one."""
        return window(self.start, self.end)

    @property
    def start_shortly(self) -> str:
        """The window's start, for narrow screens: 4 Jan 17, with its time where it has one."""
        start = self.start.astimezone(UTC)
        time = f" {start:%H:%M}" if start.hour or start.minute else ""
        return f"{start.day} {start:%b %y}{time}"


def named_metrics(rows: Rows, row: Row) -> list[MetricName]:
    """Return the metrics reported in the period: the judged one first, then as registered."""
    keys = {key for one in rows for key, value in one["metrics"].items() if value is not None}
    judged = row.verdict.metric if row.verdict else ""

    def place(key: str) -> tuple[bool, int, str]:
        known = key in REGISTERED_METRICS
        return key != judged, REGISTERED_METRICS.index(key) if known else len(keys) + 9, key

    return [named(key, row.machine.metadata) for key in sorted(keys, key=place)]


def samples(rows: Rows, key: str) -> list[Sample]:
    """Return the evaluations that report a metric."""
    return [
        Sample(
            _time(row["evaluation_start"]),
            _time(row["evaluation_end"]),
            float(row["metrics"][key]),
            row["model_version"],
            row["sample_count"],
        )
        for row in rows
        if row["metrics"].get(key) is not None
    ]


def _time(value: datetime | str) -> datetime:
    found = parse_datetime(value) if isinstance(value, str) else value
    if found is None:
        raise AssertionError("a trend's times are times")
    return found


def summary(
    rows: Rows,
    metric: MetricName,
    verdict: Verdict | None,
    *,
    limit: float | None = None,
    chart: Chart | None = None,
) -> str:
    """Return the chart in words."""
    reporting = samples(rows, metric.key)
    values = [s.value for s in reporting]
    text = (
        f"{metric.label} of {len(values)} evaluations from {day(reporting[0].start)} to"
        f" {last_day(reporting[-1].end)}: between {number(min(values))} and {number(max(values))}"
        f" {metric.unit}".rstrip()
        + f", median {number(median(values))}."
    )
    if limit is not None:
        is_drawn = chart is not None and any(level.css == "limit" for level in chart.levels)
        where = "" if is_drawn else ", beyond what is drawn"
        text += f" The limit is {number(limit)} {metric.unit}".rstrip() + f"{where}."
    if verdict is None or verdict.metric != metric.key or verdict.changed_at is None:
        return text
    return (
        f"{text} Mean {number(verdict.baseline)} before {day(verdict.changed_at)}"
        f" and {number(verdict.current)} since."
    )


def latest_values(row: Row, rows: Rows) -> list[LatestValue]:
    """Return the metrics of the newest evaluation beside what is usual for its version."""
    if row.latest is None:
        return []
    judged = row.verdict.metric if row.verdict else ""
    names = named_metrics([{"metrics": row.latest.metrics}], row)
    return [
        LatestValue(
            name,
            row.latest.metrics[name.key],
            _median(rows, name.key, row.latest.model_version),
            name.key == judged,
        )
        for name in names
        if name.key not in CONFUSION_COUNTS
    ]


def _median(rows: Rows, key: str, version: int) -> float | None:
    values = [
        row["metrics"][key]
        for row in rows
        if row["model_version"] == version and row["metrics"].get(key) is not None
    ]
    return median(values) if values else None


def counts(row: Row) -> list[tuple[str, int]]:
    """Return the confusion counts of the newest evaluation, where it has any."""
    if row.latest is None:
        return []
    found = ((COUNT_NAMES[key], getattr(row.latest, key)) for key in CONFUSION_COUNTS)
    return [(name, count) for name, count in found if count is not None]


def table(rows: Rows, columns: list[MetricName]) -> list[TableRow]:
    """Return the newest evaluations, newest first, each column with its own decimals."""
    newest = rows[::-1][:MOST_ROWS]
    decimals = {
        name.key: decimals_for(row["metrics"].get(name.key) for row in newest) for name in columns
    }
    return [
        TableRow(
            start=_time(row["evaluation_start"]),
            end=_time(row["evaluation_end"]),
            version=row["model_version"],
            samples=row["sample_count"],
            cells=[
                (fixed(value, decimals[name.key]), value)
                for name in columns
                for value in [row["metrics"].get(name.key)]
            ],
        )
        for row in newest
    ]


def means(rows: Rows, row: Row) -> dict[int, float]:
    """Return each version's mean of the judged metric in the period."""
    key = row.verdict.metric if row.verdict else ""
    by_version: dict[int, list[float]] = defaultdict(list)
    for one in rows:
        if one["metrics"].get(key) is not None:
            by_version[one["model_version"]].append(one["metrics"][key])
    return {version: fmean(values) for version, values in by_version.items()}
