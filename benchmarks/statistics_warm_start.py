"""What a warm start of new versions would do: every rule together, before and after thirty."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics_change_point import degraded
from benchmarks.statistics_rows import Row
from benchmarks.statistics_sequential import Floats, at_least, at_most, autoregressive
from modelperf.stats.warm_start import FEWEST, Prior, prior, warm_fall

LENGTH = 200
PREVIOUS = 100
COLD = 30
THRESHOLD = 3.9
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


def alarms_before_thirty(y: Floats, before: Prior) -> NDArray[np.intp]:
    """Return how many evaluations each row had when it first alarmed, `COLD` if it did not."""
    first = np.full(len(y), COLD)
    for end in range(COLD - 1, FEWEST - 1, -1):
        first[warm_fall(y[:, :end], None, before).z > THRESHOLD] = end
    return first


def unchanged(
    noises: tuple[float, float, float], targets: tuple[float, float | None], n: int, *, full: bool
) -> list[Row]:
    """Count false alarms where the noise of the new version is, or is not, that of the old."""
    (old, new, spread), (early, ever) = noises, targets
    before = prior(autoregressive(31, (n, PREVIOUS), old))
    y = spread * autoregressive(32, (n, LENGTH), new)
    warm = alarms_before_thirty(y, before) < COLD
    cold = np.array([bool(degraded(series).any()) for series in y])
    name = f"AR(1) {old} before, {new} now"
    name += f", noise x {spread:g}" if spread != 1 else ""
    share, total = float(warm.mean()), float((warm | cold).mean())
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
    before = prior(autoregressive(33, (n, PREVIOUS), 0.0))
    y = autoregressive(34, (n, COLD), 0.0)
    y[:, at:] -= sigmas
    first = alarms_before_thirty(y, before)
    share = float((first < COLD).mean())
    cold = float(np.mean([degraded(series)[: COLD - 1].any() for series in y[:100]]))
    return Row(
        name=f"fall of {sigmas:g} sigma after {at}: found before 30",
        target=f">= {target:.0%}",
        measured=f"{share:.1%}, median after {np.median(first) - at:g} (without: {cold:.0%})",
        met=at_least(share, target, n, full=full),
    )
