"""Sparklines: the last evaluations of a series in the height of a line of text.

They are SVG with attributes and classes alone, since the pages allow no inline style; colours are
in `triage.css`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from modelperf.templatetags.presentation import day, last_day, number

Point = tuple[datetime, float]

SMOOTH = 7
EDGE = 2.5  # pixels that the last point needs


@dataclass(frozen=True, slots=True)
class Sparkline:
    """What is drawn: evaluations oldest first, the level before, and when it changed.

    `state` names the colour of what came after the change; a `baseline` is drawn dashed.
    """

    points: Sequence[Point]
    label: str
    unit: str = ""
    baseline: float | None = None
    changed_at: datetime | None = None
    state: str = "degraded"
    width: int = 120
    height: int = 24

    def svg(self) -> SafeString:
        """Return the drawing; nothing where there is no line to draw."""
        if len(self.points) < 2:
            return SafeString("")
        scale = _Scale.of(self)
        parts = (*_change(self, scale), *_baseline(self, scale), *_line(self, scale))
        return format_html(
            '<svg class="spark {}" width="{}" height="{}" viewBox="0 0 {} {}" role="img"'
            ' aria-label="{}">{}</svg>',
            self.state,
            self.width,
            self.height,
            self.width,
            self.height,
            self._says(),
            format_html_join("", "{}", ((part,) for part in parts)),
        )

    def _says(self) -> str:
        first, last = self.points[0], self.points[-1]
        unit = f" {self.unit}" if self.unit else ""
        says = (
            f"{self.label}: {number(first[1])} on {last_day(first[0])},"
            f" {number(last[1])}{unit} on {last_day(last[0])}"
        )
        return f"{says}, changed {day(self.changed_at)}" if self.changed_at else says


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where times and values lie in a drawing."""

    start: float
    seconds: float
    low: float
    span: float
    width: int
    height: int

    @classmethod
    def of(cls, line: Sparkline) -> _Scale:
        values = [value for _, value in smoothed(line.points, line.changed_at)]
        values += [line.points[-1][1], *([] if line.baseline is None else [line.baseline])]
        start, end = line.points[0][0].timestamp(), line.points[-1][0].timestamp()
        low, high = min(values), max(values)
        return cls(start, end - start or 1.0, low, high - low, line.width, line.height)

    def x(self, when: datetime) -> float:
        share = (when.timestamp() - self.start) / self.seconds
        return round(EDGE + share * (self.width - 2 * EDGE), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / self.span if self.span else 0.5
        return round(self.height - EDGE - share * (self.height - 2 * EDGE), 1)

    def contains(self, when: datetime) -> bool:
        return 0 <= when.timestamp() - self.start <= self.seconds


def smoothed(points: Sequence[Point], changed_at: datetime | None = None) -> list[Point]:
    """Return means of an evaluation and its neighbours; few evaluations stay as they are.

    What ended until a change and what ended later are not mixed: a sudden fall stays sudden.
    """
    if len(points) < 3 * SMOOTH:
        return list(points)
    before = [point for point in points if changed_at is None or point[0] <= changed_at]
    return [*_means(before), *_means(points[len(before) :])]


def _means(points: Sequence[Point]) -> list[Point]:
    half = SMOOTH // 2
    means = []
    for i, (when, _) in enumerate(points):
        near = [value for _, value in points[max(0, i - half) : i + half + 1]]
        means.append((when, sum(near) / len(near)))
    return means


def _change(line: Sparkline, scale: _Scale) -> list[SafeString]:
    """Return the tint after the change and its line, where it lies in what is drawn."""
    if line.changed_at is None:
        return []
    is_drawn = scale.contains(line.changed_at)
    x = scale.x(line.changed_at) if is_drawn else EDGE
    if not is_drawn and line.changed_at > line.points[-1][0]:
        return []
    tint = format_html(
        '<rect class="after" x="{}" y="0" width="{}" height="{}"/>',
        x,
        round(line.width - EDGE - x, 1),
        line.height,
    )
    mark = format_html('<path class="chg" d="M{} 0V{}"/>', x, line.height)
    return [tint, mark] if is_drawn else [tint]


def _baseline(line: Sparkline, scale: _Scale) -> list[SafeString]:
    if line.baseline is None:
        return []
    return [format_html('<path class="base" d="M0 {}H{}"/>', scale.y(line.baseline), line.width)]


def _line(line: Sparkline, scale: _Scale) -> list[SafeString]:
    means = smoothed(line.points, line.changed_at)
    path = "L".join(f"{scale.x(when)} {scale.y(value)}" for when, value in means)
    when, value = line.points[-1]
    dot = format_html('<circle cx="{}" cy="{}" r="2"/>', scale.x(when), scale.y(value))
    return [format_html('<path class="line" d="M{}"/>', path), dot]
