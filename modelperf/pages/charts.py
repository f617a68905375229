"""The trend chart, drawn here as shapes so that the page needs no script.

Across, everything is a percentage of the width, so that one drawing fits every screen while its
text keeps its size; down, everything is pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from modelperf.pages.axes import Tick, TimeScale, ValueScale, time_ticks, value_range, value_ticks
from modelperf.pages.shapes import Band, Change, Chart, Gap, Level, Mark, Sample
from modelperf.templatetags.presentation import day, number, span

BAND, PLOT, AXIS = 18, 224, 24
SMOOTH = 7
TITLED_DOTS = 500
MOST_POINTS = 1500
NEAR = 1.0  # heights of the plot within which a limit still belongs into it
FEW = 10  # evaluations below which each one is a marker that cannot be missed
NAMED_GAP = 4  # missing windows from which a gap is named


def draw(
    samples: Sequence[Sample],
    *,
    now: datetime,
    unit: str,
    active: int | None,
    mark: Mark | None = None,
    limit: float | None = None,
    known: datetime | None = None,
) -> Chart:
    """Draw a metric's evaluations, oldest first; there is at least one."""
    times = TimeScale(*_times(samples, now))
    bands = _bands(samples, active, times)
    top = max(band.y for band in bands) + BAND + 6
    also = [v for v in (mark.baseline, mark.current) if v is not None] if mark else []
    low, high = _with_limit(*value_range([s.value for s in samples], also), limit)
    values = ValueScale(low, high, top, top + PLOT)
    served, challengers = _by_role(samples, active)
    step = usual_step(samples)
    is_smoothed = len(served) >= 3 * SMOOTH
    return Chart(
        height=top + PLOT + AXIS,
        top=top,
        bottom=top + PLOT,
        y_ticks=[Tick(values(t.at), t.label) for t in value_ticks(low, high, unit)],
        x_ticks=time_ticks(times.start, times.end),
        zero=values(0.0) if low < 0 < high else None,
        bands=bands,
        gaps=_gaps(samples, step, times, now),
        lines=[
            ("l1" if role is served else "l3", path)
            for role in (served, challengers)
            for path in _paths(role, step, times, values, smooth=is_smoothed)
        ],
        dots=_dots(served, times, values, unit),
        outside=_outside(samples, times, values),
        levels=_levels(mark, limit, samples, times=times, values=values, unit=unit),
        change=_change(mark, times),
        known=times(known) if known and times.start <= known <= times.end else None,
        is_smoothed=is_smoothed,
        is_few=len(samples) < FEW,
        has_challenger=bool(challengers),
    )


def _with_limit(low: float, high: float, limit: float | None) -> tuple[float, float]:
    """Widen the range to a limit that is near it; a far one would flatten everything else."""
    room = NEAR * (high - low)
    if limit is None or low <= limit <= high or not low - room <= limit <= high + room:
        return low, high
    pad = 0.06 * (high - low)
    return min(low, limit - pad), max(high, limit + pad)


def usual_step(samples: Sequence[Sample]) -> timedelta:
    """Return the usual time from one evaluation's end to the next."""
    ends = sorted({s.end for s in samples})
    steps = sorted(b - a for a, b in pairwise(ends))
    return steps[len(steps) // 2] if steps else samples[0].end - samples[0].start


def _times(samples: Sequence[Sample], now: datetime) -> tuple[datetime, datetime]:
    first, last = min(s.end for s in samples), max(s.end for s in samples)
    end = max(last, now)
    return (first if first < end else samples[0].start), end


def _by_role(samples: Sequence[Sample], active: int | None) -> tuple[list[Sample], list[Sample]]:
    """Split into the line that served the series and the versions judged beside it."""
    if active is None:
        return list(samples), []
    begins = min((s.end for s in samples if s.version == active), default=None)
    served: list[Sample] = []
    beside: list[Sample] = []
    for sample in samples:
        is_beside = sample.version > active or (
            begins is not None and sample.version != active and sample.end >= begins
        )
        (beside if is_beside else served).append(sample)
    return (served, beside) if served else (beside, [])


def _bands(samples: Sequence[Sample], active: int | None, times: TimeScale) -> list[Band]:
    """Put each version's strip into the first row where it and its label have room."""
    rows: list[float] = []
    bands = []
    for version in sorted({s.version for s in samples}):
        own = [s.end for s in samples if s.version == version]
        x, end = times(min(own)), times(max(own))
        row = next((i for i, taken in enumerate(rows) if taken <= x + 0.5), len(rows))
        taken_until = max(end, x + 12)
        rows[row : row + 1] = [taken_until]
        label = f"v{version} · active" if version == active else f"v{version}"
        band = Band(x, max(round(end - x, 2), 0.3), row * BAND, label, version == active)
        bands.append(band)
    return bands


def _gaps(samples: Sequence[Sample], step: timedelta, times: TimeScale, now: datetime) -> list[Gap]:
    ends = sorted({s.end for s in samples})
    pairs = list(pairwise(ends))
    if ends[-1] < now:
        pairs.append((ends[-1], now))
    return [
        Gap(times(a), round(times(b) - times(a), 2), f"no evaluations, {span(b - a)}")
        for a, b in pairs
        if b - a > (NAMED_GAP + 1) * step
    ]


def _paths(
    samples: Sequence[Sample],
    step: timedelta,
    times: TimeScale,
    values: ValueScale,
    *,
    smooth: bool,
) -> list[str]:
    """Return one path for each stretch of one version without a gap."""
    paths = []
    for run in _runs(samples, step):
        levels = _running_mean(run) if smooth else [s.value for s in run]
        points = _thinned(
            [(times(s.end) * 10, values(v)) for s, v in zip(run, levels, strict=True)]
        )
        paths.append("M" + "L".join(f"{x:.1f} {y}" for x, y in points))
    return paths


def _runs(samples: Sequence[Sample], step: timedelta) -> list[list[Sample]]:
    runs: list[list[Sample]] = []
    by_version = sorted(samples, key=lambda s: (s.version, s.end))
    for sample in by_version:
        previous = runs[-1][-1] if runs else None
        is_next = (
            previous is not None
            and previous.version == sample.version
            and sample.end - previous.end <= 1.5 * step
        )
        if is_next:
            runs[-1].append(sample)
        else:
            runs.append([sample])
    return runs


def _running_mean(run: Sequence[Sample]) -> list[float]:
    """Return means of a window and its neighbours on both sides, shorter at the ends."""
    half = SMOOTH // 2
    values = [s.value for s in run]
    parts = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep every n-th point, and the last: a screen has no room for more."""
    every = len(points) // MOST_POINTS + 1
    return points if every == 1 else [*points[::every], points[-1]]


def _dots(
    samples: Sequence[Sample], times: TimeScale, values: ValueScale, unit: str
) -> list[tuple[float, float, str]]:
    inside = [s for s in samples if values.shows(s.value)]
    every = len(inside) // MOST_POINTS + 1
    with_title = len(inside) <= TITLED_DOTS
    return [
        (
            round(times(s.end) * 10, 1),
            values(s.value),
            f"{day(s.start)}: {number(s.value)} {unit}".rstrip() if with_title else "",
        )
        for s in inside[::every]
    ]


def _outside(
    samples: Sequence[Sample], times: TimeScale, values: ValueScale
) -> list[tuple[float, float, bool]]:
    beyond = [s for s in samples if not values.shows(s.value)]
    return [(times(s.end), values(s.value), s.value > values.high) for s in beyond]


def _levels(
    mark: Mark | None,
    limit: float | None,
    samples: Sequence[Sample],
    *,
    times: TimeScale,
    values: ValueScale,
    unit: str,
) -> list[Level]:
    """Return the means around the change and the limit, their labels kept apart."""
    suffix = f" {unit}" if unit else ""
    found: list[tuple[float, float, float, str, str]] = []
    if mark is not None:
        own = [s.end for s in samples if mark.version in (None, s.version)] or [samples[0].end]
        begin, end = times(min(own)), times(max(own))
        split = times(mark.changed_at) if mark.changed_at else end
        name = "before" if mark.changed_at else "mean"
        if mark.baseline is not None and split > begin:
            found.append((begin, split, mark.baseline, name, "seg1"))
        if mark.current is not None and mark.changed_at:
            found.append((split, end, mark.current, "since", f"seg-{mark.state}"))
    if limit is not None and values.shows(limit):
        found.append((0.0, 100.0, limit, "limit", "limit"))
    found.sort(key=lambda item: values(item[2]))
    levels: list[Level] = []
    for x, x_end, value, name, css in found:
        y = values(value)
        label_y = max(y + 4, levels[-1].label_y + 13) if levels else y + 4
        levels.append(Level(x, x_end, y, label_y, f"{name} {number(value)}{suffix}", css))
    return levels


def _change(mark: Mark | None, times: TimeScale) -> Change | None:
    if mark is None or mark.changed_at is None or not times.start <= mark.changed_at <= times.end:
        return None
    x = times(mark.changed_at)
    low = times(mark.changed_low) if mark.changed_low else x
    high = times(mark.changed_high) if mark.changed_high else x
    return Change(
        x, low, round(high - low, 2), f"changed {day(mark.changed_at)}", mark.state, x > 50
    )
