"""What the warm start of new versions does: every rule together, before and after thirty."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics_change_point import LEVEL, RULES
from benchmarks.statistics_rows import Row
from benchmarks.statistics_sequential import Floats, at_least, at_most, autoregressive
from modelperf.stats.fleet_fold import Series, judge_fleet
from modelperf.stats.results import FoldState
from modelperf.stats.warm_start import first_state

LENGTH = 200
PREVIOUS = 100
COLD = 30
# AR(1) of the version before and of the new one, and how much noisier the new one is; then the
# targets before thirty and over 170 checks.
UNCHANGED: tuple[tuple[tuple[float, float, float], tuple[float, float | None]], ...] = (
    ((0.0, 0.0, 1.0), (0.005, 0.03)),
    ((0.5, 0.5, 1.0), (0.01, 0.08)),
    ((0.0, 0.5, 1.0), (0.05, 0.10)),
    ((0.0, 0.0, 2.0), (0.01, 0.03)),
    ((0.0, 0.5, 2.0), (0.10, None)),
)


def rows(full: bool) -> list[Row]:
    """Return the false alarms before thirty and over 170 checks, and the falls found early."""
    n = 2000 if full else 80
    return [
        *(row for noises, targets in UNCHANGED for row in unchanged(noises, targets, n, full=full)),
        *(
            fallen(sigmas, at, target, n, full=full)
            for sigmas, at, target in ((2.0, 15, 0.7), (3.0, 15, 0.95), (3.0, 20, 0.9))
        ),
    ]


def first_alarms(y: Floats, before: Floats | None) -> NDArray[np.intp]:
    """Return how many evaluations each row had when it first alarmed, one more if it never did.

    By the fold, warm where the rows of the versions before are given.
    """
    none = np.zeros(y.shape[1])
    starts = [FoldState()] * len(y)
    if before is not None:
        starts = [first_state(LEVEL + row, np.zeros(len(row)), rules=RULES) for row in before]
    found = judge_fleet(
        Series(LEVEL + row, none, RULES, start) for row, start in zip(y, starts, strict=True)
    )
    degraded = np.array([np.append(one.degraded, True) for one in found])
    return degraded.argmax(axis=1) + 1


def unchanged(
    noises: tuple[float, float, float], targets: tuple[float, float | None], n: int, *, full: bool
) -> list[Row]:
    """Count false alarms where the noise of the new version is, or is not, that of the old."""
    (old, new, spread), (early, ever) = noises, targets
    y = spread * autoregressive(32, (n, LENGTH), new)
    warm = first_alarms(y, autoregressive(31, (n, PREVIOUS), old))
    cold = first_alarms(y, None) <= LENGTH
    name = f"AR(1) {old} before, {new} now"
    name += f", noise x {spread:g}" if spread != 1 else ""
    share, total = float((warm < COLD).mean()), float((warm <= LENGTH).mean())
    return [
        Row(
            name=f"{name}: any alarm before 30",
            target=f"<= {early:.1%}",
            measured=f"{share:.2%}",
            met=at_most(share, early, n, full=full),
        ),
        Row(
            name=".. over all 170 checks",
            target="-" if ever is None else f"<= {ever:.0%}",
            measured=f"{total:.1%} (without warm start: {cold.mean():.1%})",
            met=ever is None or at_most(total, ever, n, full=full),
        ),
    ]


def fallen(sigmas: float, at: int, target: float, n: int, *, full: bool) -> Row:
    """Count falls that are found before thirty."""
    y = autoregressive(34, (n, COLD - 1), 0.0)
    y[:, at:] -= sigmas
    first = first_alarms(y, autoregressive(33, (n, PREVIOUS), 0.0))
    share = float((first < COLD).mean())
    cold = float((first_alarms(y, None) < COLD).mean())
    return Row(
        name=f"fall of {sigmas:g} sigma after {at}: found before 30",
        target=f">= {target:.0%}",
        measured=f"{share:.1%}, median after {np.median(first) - at:g} (without: {cold:.0%})",
        met=at_least(share, target, n, full=full),
    )
