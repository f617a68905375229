"""A/B tests of row losses, 50 rows a look: how often a wrong winner, how soon the right one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from benchmarks.statistics_rows import Row
from benchmarks.statistics_sequential import (
    LOOKS,
    NEVER,
    at_least,
    at_most,
    autoregressive,
)
from modelperf.stats.evidence import Evidence, Outcome
from modelperf.stats.row_fold import LOOK_EVERY, RowRules
from modelperf.stats.row_losses import paired_rows, two_sample_rows

ROWS = LOOKS * LOOK_EVERY
WINNER_ALONE = RowRules(margin=0.0)
Floats = NDArray[np.float64]
Errors = Callable[[int, tuple[int, int]], Floats]


def rows(full: bool) -> list[Row]:
    """Simulate tests of 1,500 rows; quick mode allows for binomial error."""
    runs = 4000 if full else 150
    return [
        *(identical_pairs(name, runs, full=full) for name in ERRORS),
        *(identical_losses(name, runs, full=full) for name in ERRORS),
        *(worse_pairs(name, *target, runs, full=full) for name, *target in FOUND),
        *(identical_arms(name, runs, full=full) for name in ERRORS),
        worse_arms(runs, full=full),
        equivalent_pairs(runs, full=full),
        never_equivalent(runs, full=full),
        rare_disagreement(runs, full=full),
    ]


def _heavy(seed: int, shape: tuple[int, int]) -> Floats:
    return np.random.default_rng(seed).standard_t(3, shape) / np.sqrt(3)


def _heavy_dependent(seed: int, shape: tuple[int, int]) -> Floats:
    noise = np.random.default_rng(seed).standard_t(3, (shape[0], shape[1] + 100)) / np.sqrt(3)
    series: Floats = signal.lfilter([1], [1, -0.7], noise * np.sqrt(1 - 0.49), axis=1)
    return series[:, 100:]


ERRORS: dict[str, Errors] = {
    "iid": lambda seed, shape: autoregressive(seed, shape, 0.0),
    "AR(1) .7": lambda seed, shape: autoregressive(seed, shape, 0.7),
    "t3": _heavy,
    "AR(1) .7 of t3": _heavy_dependent,
}
FOUND = (("iid", 0.98, 6), ("AR(1) .7", 0.95, 10))


def decided(
    compare: Callable[..., Evidence], a: Floats, b: Floats, rules: RowRules = WINNER_ALONE
) -> NDArray[np.float64]:
    """Return the look at which each row's winner was declared, or NEVER."""
    won = (Outcome.MODEL_A, Outcome.MODEL_B)
    seen = (compare(x, y, rules=rules) for x, y in zip(a, b, strict=True))
    at = [e.decided_at for e in seen if e.outcome in won]
    looks = [n / LOOK_EVERY for n in at if n is not None]
    return np.array(looks + [NEVER] * (len(a) - len(looks)), dtype=np.float64)


def daily_t(d: Floats) -> float:
    """Return the share of rows in which a paired t test at .05 at every look declares a winner."""
    at = [d[:, :n] for n in range(LOOK_EVERY, ROWS + 1, LOOK_EVERY)]
    p_values = np.array([stats.ttest_1samp(x, 0, axis=1).pvalue for x in at])
    return float(np.mean(np.any(p_values < 0.05, axis=0)))


def daily_welch(a: Floats, b: Floats) -> float:
    """Return the same of Welch's test between arms, NaN where a row went to the other one."""
    at = [(a[:, :n], b[:, :n]) for n in range(LOOK_EVERY, ROWS + 1, LOOK_EVERY)]
    p_values = [
        stats.ttest_ind(x, y, axis=1, equal_var=False, nan_policy="omit").pvalue for x, y in at
    ]
    return float(np.mean(np.any(np.array(p_values) < 0.05, axis=0)))


def squared(errors: Errors, runs: int, *, extra_a: float, extra_b: float) -> tuple[Floats, Floats]:
    """Return squared errors of two models whose own errors come on top of a noise in common."""
    common, own_a, own_b = (errors(seed, (runs, ROWS)) for seed in (21, 22, 23))
    return (common + np.sqrt(extra_a) * own_a) ** 2, (common + np.sqrt(extra_b) * own_b) ** 2


def split(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Give each row to one of the arms by chance."""
    to_a = np.random.default_rng(24).random(a.shape) < 0.5
    return np.where(to_a, a, np.nan), np.where(to_a, np.nan, b)


def _wrong(name: str, at: Floats, usual: str, runs: int, *, full: bool) -> Row:
    share = float(np.mean(at < NEVER))
    return Row(
        name=f"{name}: wrong winner in {LOOKS} looks",
        target="<= 5 %",
        measured=f"{share:.1%} ({usual})",
        met=at_most(share, 0.05, runs, full=full),
    )


def identical_pairs(name: str, runs: int, *, full: bool) -> Row:
    """Count wrong winners where the differences themselves are noise of a kind."""
    d = ERRORS[name](20, (runs, ROWS))
    at = decided(paired_rows, d, np.zeros_like(d))
    usual = f"paired t at every look: {daily_t(d):.0%}"
    return _wrong(f"pairs, differences {name}", at, usual, runs, full=full)


def identical_losses(name: str, runs: int, *, full: bool) -> Row:
    """Count wrong winners between models of equal squared error."""
    a, b = squared(ERRORS[name], runs, extra_a=0.2, extra_b=0.2)
    usual = f"paired t at every look: {daily_t(a - b):.0%}"
    at = decided(paired_rows, a, b)
    return _wrong(f"pairs, squared errors {name}", at, usual, runs, full=full)


def worse_pairs(name: str, found: float, median: int, runs: int, *, full: bool) -> Row:
    """Count how often and how soon a mean squared error of a fifth more is found."""
    a, b = squared(ERRORS[name], runs, extra_a=0.2, extra_b=0.0)
    at = decided(paired_rows, a, b)
    share, soon = float(np.mean(at < NEVER)), float(np.mean(at <= median))
    return Row(
        name=f"pairs, {name}: MSE +20 % found in {LOOKS} looks",
        target=f">= {found:.0%}, median look <= {median}",
        measured=f"{share:.1%}, median look {np.median(at):.0f}",
        met=at_least(share, found, runs, full=full) and at_least(soon, 0.5, runs, full=full),
    )


def identical_arms(name: str, runs: int, *, full: bool) -> Row:
    """Count wrong winners between arms of equal squared error."""
    a, b = split(*squared(ERRORS[name], runs, extra_a=0.2, extra_b=0.2))
    usual = f"Welch at every look: {daily_welch(a, b):.0%}"
    at = decided(two_sample_rows, a, b)
    return _wrong(f"arms, squared errors {name}", at, usual, runs, full=full)


def worse_arms(runs: int, *, full: bool) -> Row:
    """Count how often and how soon a doubled squared error is found between arms."""
    a, b = split(*squared(ERRORS["iid"], runs, extra_a=1.0, extra_b=0.0))
    at = decided(two_sample_rows, a, b)
    fifth = decided(two_sample_rows, *split(*squared(ERRORS["iid"], runs, extra_a=0.2, extra_b=0)))
    share = float(np.mean(at < NEVER))
    return Row(
        name=f"arms, iid: MSE +100 % found in {LOOKS} looks",
        target=">= 98 %",
        measured=(
            f"{share:.1%}, median look {np.median(at):.0f}"
            f" (MSE +20 %, which pairs find in 5: {np.mean(fifth < NEVER):.0%})"
        ),
        met=at_least(share, 0.98, runs, full=full),
    )


def _told_equivalent(a: Floats, b: Floats, margin: float | None) -> float:
    rules = RowRules(margin=margin)
    ends = [paired_rows(x, y, rules=rules).outcome for x, y in zip(a, b, strict=True)]
    return float(np.mean([end is Outcome.EQUIVALENT for end in ends]))


def equivalent_pairs(runs: int, *, full: bool) -> Row:
    """Count how often equal models are told to be equivalent at a margin of a fifth of the loss."""
    share = _told_equivalent(*squared(ERRORS["iid"], runs, extra_a=0.2, extra_b=0.2), margin=0.24)
    return Row(
        name=f"pairs, equal, margin of 20 %: equivalent in {LOOKS} looks",
        target=">= 95 %",
        measured=f"{share:.1%}",
        met=at_least(share, 0.95, runs, full=full),
    )


def never_equivalent(runs: int, *, full: bool) -> Row:
    """Count how often models that differ by exactly the margin are told to be equivalent."""
    a, b = squared(ERRORS["iid"], runs, extra_a=0.2, extra_b=0.0)
    share = _told_equivalent(a, b, margin=0.2)
    return Row(
        name=f"pairs, apart by the margin: equivalent in {LOOKS} looks",
        target="<= 5 %",
        measured=f"{share:.1%}",
        met=at_most(share, 0.05, runs, full=full),
    )


def rare_disagreement(runs: int, *, full: bool) -> Row:
    """Count wrong decisions on 0/1 losses where one model errs on 1 % of the rows more."""
    rng = np.random.default_rng(25)
    b = (rng.random((runs, ROWS)) < 0.1).astype(np.float64)
    a = np.maximum(b, rng.random((runs, ROWS)) < 1 / 90)
    share = _told_equivalent(a, b, margin=None)
    return Row(
        name=f"pairs, 0/1 losses, 10 % and 11 % wrong: equivalent in {LOOKS} looks",
        target="<= 5 %",
        measured=f"{share:.1%}",
        met=at_most(share, 0.05, runs, full=full),
    )
