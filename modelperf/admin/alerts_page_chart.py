"""The metric of an alert drawn small: levels around the change, its uncertainty, versions.

Across, everything is a percentage of the width, so that text keeps its size on every screen; down,
everything is pixels.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from math import ceil
from typing import Final

from django.db.models import Q

from modelperf.admin.alerts_page_verdict import Evidence, when
from modelperf.admin.alerts_words import level as levelled
from modelperf.drawing.metric_names import MetricName, named
from modelperf.drawing.sparklines import smoothed
from modelperf.models import Alert, ModelPerformanceMetric
from modelperf.models.metrics_buckets import metric_value
from modelperf.templatetags.presentation import day, window

HEIGHT, TOP, BOTTOM = 96, 16, 78
LABEL = 11  # pixels that a line of text takes
LETTER, ENDS = 6.8, 84  # pixels that a character takes at most, and all labels at least
MOST_POINTS: Final = 1000
USUAL: Final = 200  # evaluations that are drawn of what has not changed
BEFORE: Final = 60  # evaluations at least that are drawn before a change
MOST_ROWS: Final = 100
ROOM: Final = 1.0  # heights of the drawing within which a limit still belongs into it


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of the metric."""

    start: datetime
    end: datetime
    value: float
    version: int

    @property
    def window(self) -> str:
        """The window in words."""
        return window(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Label:
    """A text at a place."""

    at: float
    text: str
    css: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A horizontal line."""

    x: float
    x_end: float
    y: float
    css: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """All shapes, the same in words, and the evaluations behind them, newest first."""

    metric: MetricName
    summary: str
    dots: str
    paths: list[tuple[str, str]]
    segments: list[Segment]
    ends: list[Label]
    change: float | None
    uncertain: tuple[float, float] | None
    tint: tuple[float, float] | None
    versions: list[Label]
    dates: list[Label]
    rows: list[Point]
    is_cut: bool
    height: int = HEIGHT
    top: int = TOP
    bottom: int = BOTTOM
    plot_height: int = BOTTOM - TOP

    @property
    def ends_width(self) -> int:
        """How many pixels the labels at the end need."""
        longest = max((len(label.text) for label in self.ends), default=0)
        return max(ENDS, ceil(longest * LETTER) + 6)


def drawing(
    alert: Alert, metric: str, found: Evidence | None, served: Collection[int]
) -> Drawing | None:
    """Return the evaluations around an alert's change drawn; None where there are none.

    `served` are the versions that have served the series: others are judged beside them.
    """
    points = _points(alert, alert.machine_id, metric, served) if alert.machine_id else []
    return _draw(alert, metric, points, found) if points else None


def _points(
    alert: Alert, machine_id: uuid.UUID, metric: str, served: Collection[int]
) -> list[Point]:
    """Return what was evaluated until the alert was resolved, else until now; oldest first."""
    own = ModelPerformanceMetric.objects.of_series(
        machine_id=machine_id, model_type=alert.model_type
    ).filter(Q(model_version__in=served) | Q(model_version__lte=alert.model_version or 0))
    if alert.resolved_at is not None:
        own = own.filter(evaluation_end__lte=alert.resolved_at)
    found = own.annotate(value=metric_value(metric)).filter(value__isnull=False)
    newest = found.order_by("-evaluation_end", "-evaluation_start", "-model_version")
    columns = ("evaluation_start", "evaluation_end", "value", "model_version")
    points = [Point(*row) for row in newest.values_list(*columns)[:MOST_POINTS]][::-1]
    return _around(points, when(alert.alert_details.get("changed_at")))


def _around(points: list[Point], changed: datetime | None) -> list[Point]:
    """Leave out what is long before the change: a small drawing is to show it."""
    if changed is None:
        return points[-USUAL:]
    since = sum(point.start >= changed for point in points)
    return points[-max(since + max(BEFORE, since // 2), USUAL) :]


class _Places:
    """Where times and values lie."""

    def __init__(self, points: Sequence[Point], levels: Sequence[float], limit: float | None):
        self.first, self.last = points[0].end, max(point.end for point in points)
        if self.first == self.last:
            self.first = points[0].start
        ordered = sorted(point.value for point in points)
        edge = len(ordered) // 50
        low = min(ordered[edge], *levels, ordered[-1])
        high = max(ordered[-1 - edge], *levels, ordered[0])
        room = ROOM * (high - low)
        if limit is not None and low - room <= limit <= high + room:
            low, high = min(low, limit), max(high, limit)
        pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        self.low, self.high = low - pad, high + pad

    def x(self, time: datetime) -> float:
        """Return percent of the width."""
        share = (time - self.first) / (self.last - self.first)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def y(self, value: float) -> float:
        """Return pixels from the top; what lies outside is drawn at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(BOTTOM - share * (BOTTOM - TOP), 1)

    def shows(self, value: float) -> bool:
        """Whether the value lies within the drawing."""
        return self.low <= value <= self.high


def _draw(alert: Alert, metric: str, points: Sequence[Point], found: Evidence | None) -> Drawing:
    details = alert.alert_details
    name = named(metric, alert.machine.metadata if alert.machine else None)
    is_levelled = details.get("metric") == metric and alert.alert_type != Alert.Type.DATA_DRIFT
    before = alert.baseline_metric_value if is_levelled else None
    now = alert.current_metric_value if is_levelled else None
    limit = alert.threshold_value if details.get("rule") == "limit" else None
    places = _Places(points, [level for level in (before, now) if level is not None], limit)
    changed = when(details.get("changed_at"))
    is_inside = changed is not None and points[0].start <= changed <= places.last
    change = places.x(changed) if changed is not None and is_inside else None
    low, high = (found.changed_low, found.changed_high) if found else (None, None)
    uncertain = _stretch(places, low or high, high) if is_inside else None
    is_limited = limit is not None and places.shows(limit)
    segments = [
        Segment(0, change if change is not None else 100, places.y(before), "before")
        if before is not None
        else None,
        Segment(change or 0, 100, places.y(now), "now") if now is not None else None,
        Segment(0, 100, places.y(limit), "limit") if limit is not None and is_limited else None,
    ]
    return Drawing(
        metric=name,
        summary=_summary(points, name, (before, now, limit), is_resolved=alert.is_resolved),
        dots=_dots(points, places),
        paths=_paths(points, places, alert.model_version, changed),
        segments=[segment for segment in segments if segment is not None],
        ends=_apart(
            [
                Label(places.y(value), f"{word} {levelled(value)}", css)
                for value, word, css in (
                    (before, "before", "before"),
                    (now, "now", "now"),
                    (limit if is_limited else None, "limit", "limit"),
                )
                if value is not None
            ]
        ),
        change=change,
        uncertain=uncertain,
        tint=(change, round(100 - change, 2)) if change is not None and now is not None else None,
        versions=_versions(points, places),
        dates=_dates(places, changed if is_inside else None),
        rows=list(points[::-1][:MOST_ROWS]),
        is_cut=len(points) > MOST_ROWS,
    )


def _stretch(
    places: _Places, low: datetime | None, high: datetime | None
) -> tuple[float, float] | None:
    if low is None or high is None:
        return None
    x = places.x(low)
    return x, round(max(places.x(high) - x, 0.4), 2)


def _dots(points: Sequence[Point], places: _Places) -> str:
    """Return all evaluations as one path of points, on a width of 1000."""
    return "".join(f"M{places.x(p.end) * 10:.0f} {places.y(p.value)}h0" for p in points)


def _paths(
    points: Sequence[Point], places: _Places, version: int | None, changed: datetime | None
) -> list[tuple[str, str]]:
    """Return a line a version, smoothed on each side of the change where there is enough."""
    by_version = sorted(points, key=lambda point: (point.version, point.end))
    paths = []
    for one, group in groupby(by_version, key=lambda point: point.version):
        means = smoothed([(point.end, point.value) for point in group], changed)
        steps = (f"{places.x(end) * 10:.0f} {places.y(value)}" for end, value in means)
        paths.append(("own" if version in (None, one) else "other", "M" + "L".join(steps)))
    return paths


def _versions(points: Sequence[Point], places: _Places) -> list[Label]:
    """Return where each version's evaluations begin; of those that begin together the newest."""
    begins: dict[int, float] = {}
    for point in points:
        begins.setdefault(point.version, places.x(point.end))
    return [
        Label(x, f"v{version}")
        for version, x in begins.items()
        if not any(0 <= other - x < 6 for one, other in begins.items() if one > version)
    ]


def _dates(places: _Places, changed: datetime | None) -> list[Label]:
    """Return the first and the last day, and that of the change where there is room for it."""
    labels = [Label(0, day(places.first), "first"), Label(100, day(places.last), "last")]
    if changed is not None and 22 <= places.x(changed) <= 78:
        labels.append(Label(places.x(changed), day(changed), "change"))
    return labels


def _apart(labels: list[Label]) -> list[Label]:
    """Move labels apart that would lie on each other, from the top down."""
    placed: list[Label] = []
    for label in sorted(labels, key=lambda one: one.at):
        at = max(label.at, placed[-1].at + LABEL) if placed else label.at
        placed.append(Label(at, label.text, label.css))
    over = max(0.0, placed[-1].at - BOTTOM) if placed else 0.0
    return [Label(round(one.at - over + 4, 1), one.text, one.css) for one in placed]


def _summary(
    points: Sequence[Point],
    name: MetricName,
    levels: tuple[float | None, ...],
    *,
    is_resolved: bool,
) -> str:
    """Return the drawing in words."""
    values = [point.value for point in points]
    named_levels = [
        f"{word} {levelled(value)}"
        for word, value in zip(("before", "since", "limit"), levels, strict=True)
        if value is not None
    ]
    told = f"; {', '.join(named_levels)}" if named_levels else ""
    n = f"{len(values)} evaluation{'' if len(values) == 1 else 's'}"
    until = " until the alert was resolved" if is_resolved else ""
    return (
        f"{name.heading} of the newest {n}{until}: between {levelled(min(values))} and"
        f" {levelled(max(values))}{told}."
    )
