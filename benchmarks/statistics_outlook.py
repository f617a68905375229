"""Outlook: how often the interval of the crossing date has the true one, and how long it is."""

from math import inf
from time import perf_counter

import numpy as np

from benchmarks.statistics_rows import Row
from benchmarks.statistics_sequential import Floats, at_least, autoregressive
from modelperf.stats.outlook import HORIZON_DAYS, Outlook, OutlookStatus, outlook

DAYS = np.arange(60.0)
SLOPE = 0.05  # sigma a day
PHIS = (0.0, 0.5, 0.8)
TARGET = 0.9
NORMAL_95 = 1.96


def rows(full: bool) -> list[Row]:
    """Simulate daily series whose level crosses the limit; quick mode allows for chance."""
    runs = 2000 if full else 200
    return [
        *(crossing(60, phi, ahead, runs, full=full) for phi in PHIS for ahead in (10, 60, 200)),
        *(crossing(20, phi, 60, runs, full=full) for phi in PHIS),
        *(never(phi, runs, full=full) for phi in PHIS),
        speed(full=full),
    ]


def crossing(n: int, phi: float, ahead: int, runs: int, *, full: bool) -> Row:
    """Count the intervals that have the true date, so many days after the last of n evaluations."""
    true = n - 1.0 + ahead
    found = [
        outlook(DAYS[:n], y + SLOPE * DAYS[:n], limit=SLOPE * true)
        for y in autoregressive(21, (runs, n), phi)
    ]
    share = float(np.mean([covers(one, true) for one in found]))
    return Row(
        name=f"{n} evaluations, AR(1) {phi}: limit crossed {ahead} days later",
        target=f"interval has it >= {TARGET:.0%}",
        measured=f"{share:.1%}, {lengths(found)}; least squares {plain(n, phi, ahead, runs):.0%}",
        met=at_least(share, TARGET, runs, full=full),
    )


def never(phi: float, runs: int, *, full: bool) -> Row:
    """Count the intervals without an end, where the level does not move at all."""
    found = [outlook(DAYS, y, limit=2.0) for y in autoregressive(22, (runs, DAYS.size), phi)]
    share = float(np.mean([covers(one, inf) for one in found]))
    return Row(
        name=f"60 evaluations, AR(1) {phi}: no trend, 2 sigma to the limit",
        target=f"interval has no end >= {TARGET:.0%}",
        measured=f"{share:.1%}",
        met=at_least(share, TARGET, runs, full=full),
    )


def covers(told: Outlook, true: float) -> bool:
    """Tell whether an interval has the true moment; beyond the horizon all moments are one."""
    if told.status is OutlookStatus.CROSSED:
        return False
    earliest = inf if told.earliest is None else told.earliest
    latest = inf if told.latest is None else told.latest
    return earliest <= true <= latest


def lengths(found: list[Outlook]) -> str:
    """Return how many intervals end within the year, and their median length."""
    ended = [one.latest - (one.earliest or 0.0) for one in found if one.latest is not None]
    length = f", median {np.median(ended):.0f} days" if ended else ""
    return f"{len(ended) / len(found):.0%} end within a year{length}"


def plain(n: int, phi: float, ahead: int, runs: int) -> float:
    """Return the coverage of the usual rule: least squares, delta method, no autocorrelation."""
    x = DAYS[:n] - DAYS[:n].mean()
    true = n - 1.0 + ahead - DAYS[:n].mean()
    series = autoregressive(21, (runs, n), phi) + SLOPE * DAYS[:n]
    slope = series @ x / (x @ x)
    rest = series - series.mean(axis=1)[:, None] - slope[:, None] * x
    variance = np.sum(rest**2, axis=1) / (n - 2)
    after = (SLOPE * (n - 1.0 + ahead) - series.mean(axis=1)) / slope
    error: Floats = np.sqrt(variance * (1 / n + after**2 / (x @ x))) / np.abs(slope)
    return float(np.mean(np.abs(after - true) <= NORMAL_95 * error))


def speed(*, full: bool) -> Row:
    """Time one series of 60 evaluations."""
    y = autoregressive(23, (1, DAYS.size), 0.0)[0] + SLOPE * DAYS
    times = []
    for _ in range(200 if full else 20):
        start = perf_counter()
        outlook(DAYS, y, limit=5.0, horizon=HORIZON_DAYS)
        times.append(perf_counter() - start)
    took = 1000 * float(np.median(times))
    return Row(
        name="one series of 60 evaluations",
        target="<= 2 ms",
        measured=f"{took:.1f} ms",
        met=took <= (2 if full else 20),
    )
