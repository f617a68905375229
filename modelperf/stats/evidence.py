"""From what each look sees to a decision that does not depend on when one looked."""

from dataclasses import dataclass, field
from enum import StrEnum
from math import sqrt

import numpy as np

from modelperf.stats.t_process import (
    LARGEST_PHI,
    Counts,
    Flags,
    Floats,
    critical_t,
    first_decisive,
    inflation,
    log_e,
)

LARGEST_LOG_E = 690.0  # exp of it is still a finite double


class Outcome(StrEnum):
    """What the evidence says so far."""

    MODEL_A = "model_a"
    MODEL_B = "model_b"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The state of a comparison of two models. Differences are loss_a - loss_b: positive, B leads.

    Attributes
    ----------
    outcome : Outcome
        The first decision reached; later windows do not change it.
    n : int
        Pairs seen (of two samples: windows of the smaller arm).
    mean_difference : float or None
        In the unit of the loss; None without pairs.
    low, high : float or None
        Running intersection of the any-time-valid intervals; None while unbounded.
    e_value : float
        E at the last look; 1 below the minimum number of pairs.
    p_value : float
        Running minimum of 1/E, at most 1. Valid at any time of looking.
    confidence : float
        1 - p_value: that the arms differ at all.
    margin : float
        Differences within +- margin do not matter; the one in force at the decision, 0 without
        pairs.
    phi : float or None
        Allowance for autocorrelation at the last look; None without pairs.
    needed : int or None
        Further windows (an arm) likely needed if things go on as they are; None when decided or
        when no number up to 10,000 would do.
    decided_at : int or None
        Pair number of the decision.
    ns, e_values, lows, highs, means : ndarray, shape (looks,)
        The same over time. The interval is NaN where it is None above.
    """

    outcome: Outcome
    n: int
    mean_difference: float | None
    low: float | None
    high: float | None
    e_value: float
    p_value: float
    confidence: float
    margin: float
    phi: float | None
    needed: int | None
    decided_at: int | None
    ns: Counts = field(compare=False, repr=False)
    e_values: Floats = field(compare=False, repr=False)
    lows: Floats = field(compare=False, repr=False)
    highs: Floats = field(compare=False, repr=False)
    means: Floats = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What each look sees: an estimate of the difference and how precise it is."""

    n: Counts  # pairs
    mean: Floats
    error: Floats  # of the mean, with the allowance for autocorrelation
    size: Floats  # pairs this precision amounts to
    df: Floats
    r1: Floats
    phi: Floats
    margin: Floats


def weigh(looks: Looks, *, confidence_level: float, min_pairs: int) -> Evidence:
    """Decide from `looks`, in order, the first of winner and equivalence that is reached.

    Parameters
    ----------
    looks : Looks
        Aligned arrays, one entry a look; may be empty.
    confidence_level : float
        1 - alpha, between 0 and 1.
    min_pairs : int
        Looks at fewer pairs count for nothing. At least 2.

    Returns
    -------
    Evidence

    Raises
    ------
    ValueError
        `confidence_level` or `min_pairs` out of range.
    """
    if not 0 < confidence_level < 1:
        raise ValueError("confidence_level must lie between 0 and 1")
    if min_pairs < 2:
        raise ValueError("min_pairs must be at least 2")
    if not looks.n.size:
        return _no_evidence(looks)
    alpha = 1 - confidence_level
    counted = looks.n >= min_pairs
    log_es = np.where(counted, log_e(_t(looks), looks.size, looks.df), 0.0)
    e_values = np.exp(np.clip(log_es, -LARGEST_LOG_E, LARGEST_LOG_E))
    p_value = min(1.0, 1 / float(e_values.max()))
    lows, highs = _running_intersection(looks, counted, alpha)
    equivalent = counted & (lows >= -looks.margin) & (highs <= looks.margin)
    decided = _first(equivalent | (log_es >= -np.log(alpha)))
    last = looks.n.size - 1
    return Evidence(
        outcome=_outcome(looks, equivalent, decided),
        n=int(looks.n[-1]),
        mean_difference=float(looks.mean[-1]),
        low=_finite(lows[-1]),
        high=_finite(highs[-1]),
        e_value=float(e_values[-1]),
        p_value=p_value,
        confidence=1 - p_value,
        margin=float(looks.margin[last if decided is None else decided]),
        phi=float(looks.phi[-1]),
        needed=_needed(looks, alpha, min_pairs) if decided is None else None,
        decided_at=None if decided is None else int(looks.n[decided]),
        ns=looks.n,
        e_values=e_values,
        lows=np.where(np.isfinite(lows), lows, np.nan),
        highs=np.where(np.isfinite(highs), highs, np.nan),
        means=looks.mean,
    )


def _no_evidence(looks: Looks) -> Evidence:
    none = np.zeros(0)
    return Evidence(
        outcome=Outcome.UNDECIDED,
        n=0,
        mean_difference=None,
        low=None,
        high=None,
        e_value=1.0,
        p_value=1.0,
        confidence=0.0,
        margin=0.0,
        phi=None,
        needed=None,
        decided_at=None,
        ns=looks.n,
        e_values=none,
        lows=none,
        highs=none,
        means=none,
    )


def _t(looks: Looks) -> Floats:
    """Return t; without any spread it is zero or infinite."""
    flat = np.where(looks.mean == 0, 0.0, np.inf)
    with np.errstate(over="ignore"):
        return np.divide(looks.mean, looks.error, out=flat, where=looks.error > 0)


def _running_intersection(looks: Looks, counted: Flags, alpha: float) -> tuple[Floats, Floats]:
    """Intersect the intervals so far; one that would leave nothing is passed over with the rest."""
    critical = critical_t(looks.size, looks.df, alpha)
    bounded = counted & np.isfinite(critical)
    half = np.multiply(critical, looks.error, out=np.full(critical.shape, np.inf), where=bounded)
    lows = np.maximum.accumulate(looks.mean - half)
    highs = np.minimum.accumulate(looks.mean + half)
    kept = np.maximum.accumulate(np.where(lows <= highs, np.arange(lows.size), 0))
    return lows[kept], highs[kept]


def _first(reached: Flags) -> int | None:
    return int(np.argmax(reached)) if reached.any() else None


def _outcome(looks: Looks, equivalent: Flags, decided: int | None) -> Outcome:
    if decided is None:
        return Outcome.UNDECIDED
    if equivalent[decided]:
        return Outcome.EQUIVALENT
    return Outcome.MODEL_B if looks.mean[decided] > 0 else Outcome.MODEL_A


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _needed(looks: Looks, alpha: float, min_pairs: int) -> int | None:
    """Return the further pairs until the present effect would decide, either way."""
    n = int(looks.n[-1])
    if n < min_pairs:
        return min_pairs - n
    phi, r1 = looks.phi[-1], float(looks.r1[-1])
    total = first_decisive(
        abs(float(looks.mean[-1])),
        min((n * r1 + 1) / max(n - 4, 1), LARGEST_PHI),
        margin=float(looks.margin[-1]),
        alpha=alpha,
        after=n,
        deviation=float(looks.error[-1] / inflation(phi)) * sqrt(float(looks.size[-1])),
    )
    return None if total is None else total - n
