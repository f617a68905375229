"""Trend: how often a series without one is labelled, how surely a ramp is, how long it takes."""

from time import perf_counter

import numpy as np
from scipy import stats

from benchmarks.statistics_rows import Row
from benchmarks.statistics_sequential import Floats, at_least, at_most, autoregressive
from modelperf.stats.trend import FEWEST, Direction, directions, trend

CHECKS = 200
LENGTH = CHECKS + FEWEST - 1
START = 100  # where a ramp begins
WINDOW = 60


def rows(full: bool) -> list[Row]:
    """Simulate daily series; quick mode allows for binomial error."""
    runs = 2000 if full else 200
    return [
        *(single(phi, runs, full=full) for phi in (0.0, 0.5, 0.8)),
        *(ever(phi, limit, runs, full=full) for phi, limit in ((0.0, 0.05), (0.5, 0.12))),
        ramp("that goes on", 3.0, 0.995, "power 1", runs, full=full),
        ramp("that stops there", 1.0, 0.95, ">= 95 %", runs, full=full),
        covered(0.0, runs, full=full),
        covered(0.5, runs, full=full),
        speed(full=full),
    ]


def labels(series: Floats) -> Floats:
    """Return, row by row, the labels at each check as 1 degrading, 0 stable, -1 improving."""
    days = np.arange(series.shape[1])
    code = {Direction.DEGRADING: 1.0, Direction.STABLE: 0.0, Direction.IMPROVING: -1.0}
    told = (directions(days, row)[FEWEST - 1 :] for row in series)
    return np.array([[code[label] for label in row] for row in told])


def plain(series: Floats) -> Floats:
    """Return, row by row, whether a regression over the last 60 has p < .05 at each check."""
    windows = np.lib.stride_tricks.sliding_window_view(series, WINDOW, axis=1)
    x = np.arange(WINDOW) - (WINDOW - 1) / 2
    centred = windows - windows.mean(axis=2, keepdims=True)
    r = (centred @ x) / np.sqrt((x @ x) * np.sum(centred**2, axis=2))
    t = np.abs(r) * np.sqrt((WINDOW - 2) / (1 - r**2))
    return np.asarray(t > stats.t.ppf(0.975, WINDOW - 2), dtype=np.float64)


def single(phi: float, runs: int, *, full: bool) -> Row:
    """Take the worst of all checks: the share of labelled series at it."""
    series = autoregressive(11, (runs, LENGTH), phi)
    share = float(np.mean(labels(series) != 0, axis=0).max())
    return Row(
        name=f"no trend, AR(1) {phi}: labelled at the worst single look",
        target="<= 5 %",
        measured=f"{share:.1%} (regression at .05: {plain(series).mean():.0%})",
        met=at_most(share, 0.05, runs, full=full),
    )


def ever(phi: float, limit: float, runs: int, *, full: bool) -> Row:
    """Count series that were ever labelled over the checks from the tenth evaluation on."""
    series = autoregressive(12, (runs, LENGTH), phi)
    share = float(np.mean(np.any(labels(series) != 0, axis=1)))
    usual = float(np.mean(np.any(plain(series) > 0, axis=1)))
    return Row(
        name=f"no trend, AR(1) {phi}: ever labelled in {CHECKS} checks",
        target=f"<= {limit:.0%}",
        measured=f"{share:.1%} (regression at .05: {usual:.0%})",
        met=at_most(share, limit, runs, full=full),
    )


def ramp(name: str, windows: float, limit: float, target: str, runs: int, *, full: bool) -> Row:
    """Count the ramps of two sigma a window that are told while they are in sight."""
    height = 2 * np.clip((np.arange(LENGTH) - START) / WINDOW, 0, windows)
    told = labels(autoregressive(13, (runs, LENGTH), 0.0) + height)[:, START - FEWEST :] > 0
    share, delays = float(np.mean(told.any(axis=1))), np.argmax(told, axis=1)[told.any(axis=1)]
    return Row(
        name=f"ramp of 2 sigma in {WINDOW} {name}: told as degrading",
        target=target,
        measured=f"{share:.1%}, median after {np.median(delays):.0f}",
        met=at_least(share, limit, runs, full=full),
    )


def covered(phi: float, runs: int, *, full: bool) -> Row:
    """Count intervals of the rate that cover the true one."""
    days = np.arange(WINDOW)
    seen = [trend(days, y + 0.05 * days) for y in autoregressive(14, (runs, WINDOW), phi)]
    share = float(np.mean([t.low is not None and t.low <= 0.05 <= (t.high or 0) for t in seen]))
    return Row(
        name=f"interval of the rate, AR(1) {phi}: covers it",
        target=">= 93 %",
        measured=f"{share:.1%}",
        met=at_least(share, 0.93, runs, full=full),
    )


def speed(*, full: bool) -> Row:
    """Time one series of 90 evaluations, label included."""
    y = autoregressive(15, (1, 90), 0.0)[0]
    times = []
    for _ in range(200 if full else 20):
        start = perf_counter()
        trend(np.arange(90), y)
        times.append(perf_counter() - start)
    took = 1000 * float(np.median(times))
    return Row(
        name="one series of 90 evaluations",
        target="<= 5 ms",
        measured=f"{took:.1f} ms",
        met=took <= (5 if full else 50),
    )
