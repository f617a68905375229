"""Has the version after a fallen one proved better, looked at after each of its evaluations.

Welch's t of the two levels as a t e-process (Wang and Ramdas, arXiv:2310.03722), one-sided. The
old version's noise is that of all it has shown, around its levels before and since the fall: it is
replaced soon after a fall, and a few values say little of their own noise.
`benchmarks/statistics_improvement.py` measures what that costs and finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.orientation import effect, level, orient, winsorised
from modelperf.stats.results import MetricKind
from modelperf.stats.sequential import differences
from modelperf.stats.t_process import LARGEST_PHI, LARGEST_T, Counts, allowance, inflation, log_e

Floats = NDArray[np.float64]

FEWEST_AFTER: Final = 10
FEWEST_OF_OLD: Final = 10
ALPHA: Final = 0.05
# As much as the earlier evaluations weigh in a noise or an autocorrelation that few have shown.
WEIGHT_OF_VARIANCE: Final = 20.0
WEIGHT_OF_PHI: Final = 30.0
_LARGEST_LOG: Final = 690.0  # exp of it is still a finite double


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """What the evaluations of two versions say of the newer one.

    Parameters
    ----------
    is_better : bool
        Whether it has proved better; once it has, later evaluations do not take that back.
    n_before, n_after : int
        Evaluations compared: those of the old version since its fall, and those of the new one up
        to the look that proved it, or all.
    before, after : float or None
        Robust mean levels of them on the metric's own scale; None without any.
    effect : float or None
        By how much the new version is worse than the fallen one, as `orientation.effect`: negative
        where it is better.
    p_value : float
        Any-time-valid, one-sided: the smallest of all looks so far.
    alpha : float
        Proved is ``p_value <= alpha``, with an effect that matters.
    phi : float or None
        Autocorrelation allowed for at that look, the larger of the two versions'.
    needed : int
        Evaluations of the new version still missing before anything is compared.
    """

    is_better: bool
    n_before: int
    n_after: int
    before: float | None
    after: float | None
    effect: float | None
    p_value: float
    alpha: float
    phi: float | None
    needed: int


def proved_better(
    before: ArrayLike,
    after: ArrayLike,
    *,
    kind: MetricKind,
    min_effect: float,
    earlier: ArrayLike = (),
    counts: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    alpha: float = ALPHA,
) -> Improvement:
    """Tell whether a new version has proved better than an old one was since its fall.

    Parameters
    ----------
    before : array_like, shape (evaluations,)
        The old version since its fall, in order. Values that are not finite are left out, here as
        below.
    after : array_like, shape (evaluations,)
        The new version, in order. Each of its evaluations from the tenth on is one look.
    kind : MetricKind
        Direction and scale of the metric.
    min_effect : float
        Smallest change that matters, as in `results.Rules`.
    earlier : array_like, shape (evaluations,), optional
        The old version before its fall, which tells its noise.
    counts : tuple of array_like, optional
        Rows behind each value of `before`, `after` and `earlier`; 0 where not reported.
    alpha : float
        Probability, over all looks together, of proving better what is not; between 0 and 1.

    Returns
    -------
    Improvement
        Nothing is proved with fewer than 10 evaluations of the new version, without any since the
        fall, or with fewer than 10 of the old version altogether. ``TARGET_ZERO``: better is nearer
        to zero, on either side of it.

    Raises
    ------
    ValueError
        If counts differ in shape from their values, or alpha is out of range.

    Notes
    -----
    Values are oriented, and winsorised at 3 MAD/.6745 around their median. With d the rise of the
    level (of ``TARGET_ZERO`` the fall of its absolute value), e_b and e_a the standard errors:
    ``t = (d - e_b) / sqrt(e_b² + e_a²)``. The old level is taken to be better by its own error: the
    fall was found because these very evaluations were bad, which in simulations makes them .6
    (iid) to 1 (AR(1) .5 to .7) errors too low. E is that of `t_process.log_e`; its half for
    positive levels is at least 2E - 1 where t > 0, hence ``p = 1/(2E - 1)``.

    ``e_b² = s²/m (1 + phi)/(1 - phi)``, ``s² = (w s0² + SS)/(w + m - 1)``, w at most 20, s0² the
    variance of `earlier` and SS the squares of `before` around its mean; phi by the allowance
    of decision 0002 from both parts. The new version's is (n r + 30 phi)/(n + 30), and at least r,
    its own r1 freed of bias.
    """
    if not 0 < alpha < 1:
        raise ValueError("alpha lies between 0 and 1")
    arms = _finite((before, after, earlier), counts)
    (old, _), (new, _), (base, _) = arms
    oriented = _oriented(arms, kind)
    if not old.size or old.size + base.size < FEWEST_OF_OLD or new.size < FEWEST_AFTER:
        return _nothing_compared(old, new, kind, alpha)
    fallen = _fallen(oriented[0], oriented[2])
    n = np.arange(FEWEST_AFTER, new.size + 1)
    looks = [_risen(oriented[1][:k], fallen.phi) for k in n]
    p_values = np.minimum.accumulate(_p_values(fallen, looks, n, kind))
    level_before = level(old, np.ones(old.size), kind)
    levels_after = [level(new[:k], np.ones(k), kind) for k in n]
    effects = np.array([effect(level_before, after, kind) for after in levels_after])
    proved = (p_values <= alpha) & (effects < 0) & (effects <= -min_effect)
    at = int(np.argmax(proved)) if proved.any() else n.size - 1
    return Improvement(
        is_better=bool(proved[at]),
        n_before=old.size,
        n_after=int(n[at]),
        before=level_before,
        after=levels_after[at],
        effect=float(effects[at]),
        p_value=float(p_values[at]),
        alpha=alpha,
        phi=max(fallen.phi, looks[at].phi),
        needed=0,
    )


class _Arm(NamedTuple):
    """One version's level on the oriented scale and what is known of it."""

    size: int
    mean: float
    variance: float  # of one evaluation
    df: float
    phi: float

    @property
    def error(self) -> float:
        """Return the standard error of the mean."""
        return float(sqrt(self.variance / self.size) * inflation(np.array(self.phi)))


def _fallen(before: Floats, earlier: Floats) -> _Arm:
    """Return the old version since its fall, with the noise of all it has shown."""
    own, base = _sums(before), _sums(earlier)
    weight = min(WEIGHT_OF_VARIANCE, max(earlier.size - 1, 0))
    prior = weight * base.square / max(earlier.size - 1, 1)
    df = max(weight + before.size - 1, 1.0)
    n, square = before.size + earlier.size, own.square + base.square
    r1 = (own.product + base.product) / square if square > 0 else 0.0
    return _Arm(
        size=before.size,
        mean=own.mean,
        variance=(prior + own.square) / df,
        df=df,
        phi=float(allowance(np.array(r1), np.array(n))),
    )


def _risen(after: Floats, phi_before: float) -> _Arm:
    """Return the new version up to one look, its autocorrelation drawn to that of the old one."""
    sums, n = _sums(after), after.size
    r1 = sums.product / sums.square if sums.square > 0 else 0.0
    own = min(max(r1 + (1 + 4 * r1) / n, 0.0), LARGEST_PHI)
    drawn = (n * own + WEIGHT_OF_PHI * phi_before) / (n + WEIGHT_OF_PHI)
    variance = sums.square / (n - 1)
    return _Arm(size=n, mean=sums.mean, variance=variance, df=n - 1.0, phi=max(own, drawn))


def _p_values(fallen: _Arm, looks: Sequence[_Arm], n: Counts, kind: MetricKind) -> Floats:
    """Return 1/(2E - 1) of each look, 1 where the new version is no better."""
    before, after = np.full(n.size, fallen.mean), np.array([one.mean for one in looks])
    if kind is MetricKind.TARGET_ZERO:
        before, after = -np.abs(before), -np.abs(after)
    error = np.array([one.error for one in looks])
    both = np.hypot(fallen.error, error)
    rise = differences(after, before) - fallen.error
    flat = np.where(rise > 0, LARGEST_T, 0.0)
    t = np.divide(rise, both, out=flat, where=both > 0)
    half = np.full_like(both, 0.5)
    share = np.divide(fallen.error, both, out=half, where=both > 0) ** 2
    df = 1 / (share**2 / fallen.df + (1 - share) ** 2 / (n - 1))
    size = share * fallen.size + (1 - share) * n
    e = np.exp(np.minimum(log_e(np.maximum(t, 0.0), size, df), _LARGEST_LOG))
    return np.where(t > 0, 1 / np.maximum(2 * e - 1, 1.0), 1.0)


class _Sums(NamedTuple):
    """Mean of winsorised values, squares and products of neighbours around it."""

    mean: float
    square: float
    product: float


def _sums(values: Floats) -> _Sums:
    if not values.size:
        return _Sums(0.0, 0.0, 0.0)
    y = winsorised(values)
    mean = float(y.mean())
    residual = differences(y, np.full_like(y, mean))
    return _Sums(mean, float(residual @ residual), float(residual[1:] @ residual[:-1]))


def _finite(
    parts: Sequence[ArrayLike], counts: Sequence[ArrayLike] | None
) -> list[tuple[Floats, Floats]]:
    arms = []
    values = [np.asarray(part, np.float64) for part in parts]
    for x, rows in zip(values, counts or [np.zeros_like(x) for x in values], strict=True):
        c = np.asarray(rows, np.float64)
        if x.ndim != 1 or x.shape != c.shape:
            raise ValueError("values and their counts are sequences of one length")
        there = np.isfinite(x)
        arms.append((x[there], c[there]))
    return arms


def _oriented(arms: Sequence[tuple[Floats, Floats]], kind: MetricKind) -> list[Floats]:
    """Orient all evaluations together: zeros have one floor, whichever version they are of."""
    values, counts = (np.concatenate(parts) for parts in zip(*arms, strict=True))
    ends = np.cumsum([arm.size for arm, _ in arms])[:-1]
    return np.split(orient(values, counts, kind), ends)


def _nothing_compared(old: Floats, new: Floats, kind: MetricKind, alpha: float) -> Improvement:
    before, after = (
        level(part, np.ones(part.size), kind) if part.size else None for part in (old, new)
    )
    return Improvement(
        is_better=False,
        n_before=old.size,
        n_after=new.size,
        before=before,
        after=after,
        effect=None if before is None or after is None else effect(before, after, kind),
        p_value=1.0,
        alpha=alpha,
        phi=None,
        needed=max(FEWEST_AFTER - new.size, 0),
    )
