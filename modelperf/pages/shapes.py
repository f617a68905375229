"""The shapes that a chart is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from modelperf.pages.axes import Tick


@dataclass(frozen=True, slots=True)
class Sample:
    """One evaluation as the chart needs it."""

    start: datetime
    end: datetime
    value: float
    version: int
    samples: int


@dataclass(frozen=True, slots=True)
class Mark:
    """What the verdict says of the drawn metric: the date of the change and the levels around."""

    state: str
    changed_at: datetime | None = None
    changed_low: datetime | None = None
    changed_high: datetime | None = None
    baseline: float | None = None
    current: float | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Band:
    """The evaluations of one version, as a strip above the plot."""

    x: float
    width: float
    y: float
    label: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch without evaluations."""

    x: float
    width: float
    label: str

    @property
    def middle(self) -> float:
        """Where its words stand."""
        return round(self.x + self.width / 2, 2)


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line with its label at the right end."""

    x: float
    x_end: float
    y: float
    label_y: float
    label: str
    css: str


@dataclass(frozen=True, slots=True)
class Change:
    """The vertical line at the change, and its uncertainty."""

    x: float
    low: float
    width: float
    label: str
    css: str
    is_late: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """All shapes of one chart."""

    height: float
    top: float
    bottom: float
    y_ticks: list[Tick]
    x_ticks: list[Tick]
    zero: float | None
    bands: list[Band]
    gaps: list[Gap]
    lines: list[tuple[str, str]]
    dots: list[tuple[float, float, str]]
    outside: list[tuple[float, float, bool]]
    levels: list[Level]
    change: Change | None
    known: float | None
    is_smoothed: bool
    is_few: bool
    has_challenger: bool

    @property
    def plot_height(self) -> float:
        """Pixels from the top of the plot to its axis."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """Half-way down the plot."""
        return (self.bottom + self.top) / 2
