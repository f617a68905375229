"""A/B tests of window losses: how often identical models get a winner, how soon a better one."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from benchmarks.statistics_rows import Row
from modelperf.stats.sequential import Evidence, Outcome, expected_pairs, paired, two_sample

LOOKS = 30
NEVER = 10 * LOOKS
Floats = NDArray[np.float64]
Compare = Callable[[Floats, Floats], Evidence]


def rows(full: bool) -> list[Row]:
    """Simulate pairs of models, one window a look; quick mode allows for binomial error."""
    runs = 4000 if full else 400
    return [
        *(identical(phi, at_most, runs, full=full) for phi, at_most in LIMITS),
        *(different(sigmas, runs, full=full) for sigmas in (2.0, 1.0)),
        *(identical_arms(phi, at_most, runs, full=full) for phi, at_most in LIMITS),
        different_arms(runs, full=full),
        equivalent(runs // 4, full=full),
        planned(runs, full=full),
    ]


LIMITS = ((0.0, 0.02), (0.5, 0.05), (0.7, 0.07))


def autoregressive(seed: int, shape: tuple[int, int], phi: float) -> Floats:
    """Return rows of a stationary AR(1) series of unit variance."""
    noise = np.random.default_rng(seed).standard_normal((shape[0], shape[1] + 100))
    series: Floats = signal.lfilter([1], [1, -phi], noise * np.sqrt(1 - phi**2), axis=1)
    return series[:, 100:]


def at_most(share: float, limit: float, runs: int, *, full: bool) -> bool:
    """Tell whether a share keeps its limit; in quick mode, whether chance may explain it."""
    if full:
        return share <= limit
    return bool(stats.binom.sf(round(share * runs) - 1, runs, limit) > 1e-3)


def at_least(share: float, limit: float, runs: int, *, full: bool) -> bool:
    """Mirror `at_most`."""
    return at_most(1 - share, 1 - limit, runs, full=full)


def decisions(compare: Compare, a: Floats, b: Floats) -> NDArray[np.int64]:
    """Return when each row's winner was declared, or NEVER."""
    won = (Outcome.MODEL_A, Outcome.MODEL_B)
    seen = (compare(x, y) for x, y in zip(a, b, strict=True))
    return np.array([e.decided_at if e.outcome in won else NEVER for e in seen])


def daily_t(d: Floats) -> float:
    """Return the share of rows in which a t test at .05 after every window from 8 on declares."""
    n = np.arange(1, d.shape[1] + 1)
    mean = np.cumsum(d, axis=1) / n
    variance = (np.cumsum(d**2, axis=1) - n * mean**2)[:, 7:] / (n[7:] - 1)
    t = mean[:, 7:] / np.sqrt(variance / n[7:])
    return float(np.mean(np.any(np.abs(t) > stats.t.ppf(0.975, n[7:] - 1), axis=1)))


def identical(phi: float, limit: float, runs: int, *, full: bool) -> Row:
    """Count wrong winners between models whose losses differ by noise alone."""
    d = autoregressive(1, (runs, LOOKS), phi)
    share = float(np.mean(decisions(partial(paired, margin=0.0), d, np.zeros_like(d)) < NEVER))
    return Row(
        name=f"paired, identical, AR(1) {phi}: wrong winner in {LOOKS} looks",
        target=f"<= {limit:.0%}",
        measured=f"{share:.1%} (paired t at every look: {daily_t(d):.0%})",
        met=at_most(share, limit, runs, full=full),
    )


def different(sigmas: float, runs: int, *, full: bool) -> Row:
    """Count how often and how soon a real difference is found."""
    d = autoregressive(2, (runs, LOOKS), 0.0) + sigmas
    at = decisions(partial(paired, margin=0.0), d, np.zeros_like(d))
    share, by_12 = float(np.mean(at < NEVER)), float(np.mean(at <= 12))
    limit, found = (0.995, "100 %, median <= 12") if sigmas == 2 else (0.70, ">= 70 %")
    soon = sigmas < 2 or at_least(by_12, 0.5, runs, full=full)
    return Row(
        name=f"paired, difference of {sigmas:g} sigma found in {LOOKS} looks",
        target=found,
        measured=f"{share:.1%}, median after {np.median(at):.0f}",
        met=soon and at_least(share, limit, runs, full=full),
    )


def identical_arms(phi: float, limit: float, runs: int, *, full: bool) -> Row:
    """Count wrong winners between arms that saw different windows."""
    a, b = (autoregressive(seed, (runs, LOOKS), phi) for seed in (3, 4))
    share = float(np.mean(decisions(partial(two_sample, margin=0.0), a, b) < NEVER))
    return Row(
        name=f"two-sample, identical, AR(1) {phi}: wrong winner in {LOOKS} looks",
        target=f"<= {limit:.0%}",
        measured=f"{share:.1%}",
        met=at_most(share, limit, runs, full=full),
    )


def different_arms(runs: int, *, full: bool) -> Row:
    """Count how often a difference of two sigma of a pair is found between arms."""
    a, b = (autoregressive(seed, (runs, LOOKS), 0.0) for seed in (5, 6))
    at = decisions(partial(two_sample, margin=0.0), a + 2 * np.sqrt(2), b)
    share = float(np.mean(at < NEVER))
    return Row(
        name=f"two-sample, 2 sigma of a pair found in {LOOKS} looks",
        target=">= 99 %",
        measured=f"{share:.1%}, median after {np.median(at):.0f}",
        met=at_least(share, 0.99, runs, full=full),
    )


def equivalent(runs: int, *, full: bool) -> Row:
    """Count how often equal models are told to be equivalent at a margin of one sigma."""
    d = autoregressive(7, (runs, 60), 0.0)
    ends = [paired(x, np.zeros_like(x), margin=1.0).outcome for x in d]
    share = float(np.mean([end is Outcome.EQUIVALENT for end in ends]))
    return Row(
        name="paired, identical, margin of 1 sigma: equivalent in 60 looks",
        target=">= 95 %",
        measured=f"{share:.1%}",
        met=at_least(share, 0.95, runs, full=full),
    )


def planned(runs: int, *, full: bool) -> Row:
    """Compare the planned number of pairs with the median that was needed."""
    d = autoregressive(2, (runs, LOOKS), 0.0)
    zero, found = np.zeros_like(d), []
    for sigmas in (1.0, 2.0):
        needed = float(np.median(decisions(partial(paired, margin=0.0), d + sigmas, zero)))
        found.append((expected_pairs(sigmas), needed))
    return Row(
        name="planned pairs of 1 and 2 sigma",
        target="within 25 % of the median needed",
        measured=", ".join(f"{plan} planned, {median:.0f} needed" for plan, median in found),
        met=all(abs(plan - median) <= median / 4 for plan, median in found),
    )
