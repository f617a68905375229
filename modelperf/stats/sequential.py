"""Which of two models is better, from window losses, looked at as often as one likes.

The evidence is a t e-process. Window losses are autocorrelated, so t is first shrunk to the t of
as many independent windows. Everything at pair number n is computed from the first n pairs alone:
a decision once made stays made, however many windows follow.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats.evidence import Evidence, Looks, Outcome, weigh
from modelperf.stats.t_process import (
    MOST_PAIRS,
    Counts,
    Floats,
    Moments,
    allowance,
    first_decisive,
    inflation,
    moments,
)

__all__ = ["Evidence", "Outcome", "differences", "expected_pairs", "paired", "two_sample"]

DEFAULT_MARGIN = 0.01  # of the mean absolute loss
ROUNDING = 4 * float(np.finfo(np.float64).eps)


def paired(
    loss_a: ArrayLike,
    loss_b: ArrayLike,
    *,
    confidence_level: float = 0.95,
    margin: float | None = None,
    min_pairs: int = 8,
) -> Evidence:
    """Compare two models evaluated on the same windows.

    With t the Student statistic of the first n differences, shrunk by ``sqrt((1-phi)/(1+phi))``,
    ``E = (1+n)^(-1/2) [(1 + t²/(n-1)) / (1 + t²/((n-1)(1+n)))]^(n/2)`` (Wang and Ramdas,
    arXiv:2310.03722, g = 1). phi = (n r1 + 5)/(n - 5), clipped to [0, .95], is the allowance for
    their lag-1 autocorrelation r1. A winner is declared at E >= 1/alpha, equivalence where the
    running intersection of the intervals lies inside +- margin; where both happen at the same pair
    the arms are equivalent.

    Parameters
    ----------
    loss_a, loss_b : array_like, shape (windows,)
        Losses in one unit, lower is better, in order of time. Pairs with a value that is not
        finite are left out; differences at the level of rounding are zero.
    confidence_level : float
        1 - alpha, between 0 and 1.
    margin : float, optional
        Largest difference that does not matter, in the unit of the loss. Default: 1 % of the mean
        absolute loss so far.
    min_pairs : int
        Pairs before any decision, at least 2.

    Returns
    -------
    Evidence
        All differences zero: equivalent at `min_pairs`. All equal and beyond the margin: decided
        at `min_pairs`. No pairs: undecided, what is estimated is None.

    Raises
    ------
    ValueError
        Different lengths, more than one dimension, a negative margin, a confidence level outside
        (0, 1) or `min_pairs` below 2.
    """
    a, b = _series(loss_a), _series(loss_b)
    if a.size != b.size:
        raise ValueError(f"paired losses must have equal lengths, got {a.size} and {b.size}")
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    pairs = moments(differences(a, b))
    phi = allowance(pairs.r1, pairs.n)
    looks = Looks(
        n=pairs.n,
        mean=pairs.mean,
        error=pairs.deviation / np.sqrt(pairs.n) * inflation(phi),
        size=pairs.n.astype(np.float64),
        df=np.maximum(pairs.n - 1.0, 1.0),
        r1=pairs.r1,
        phi=phi,
        margin=_margins(margin, moments(np.abs(a)).mean, moments(np.abs(b)).mean),
    )
    return weigh(looks, confidence_level=confidence_level, min_pairs=min_pairs)


def two_sample(
    loss_a: ArrayLike,
    loss_b: ArrayLike,
    *,
    arrived_a: ArrayLike | None = None,
    arrived_b: ArrayLike | None = None,
    confidence_level: float = 0.95,
    margin: float | None = None,
    min_pairs: int = 8,
) -> Evidence:
    """Compare two models evaluated on different windows.

    As `paired`, on Welch's t with its degrees of freedom nu: each arm's standard error is widened
    by its own allowance for autocorrelation, the exponent n/2 becomes (nu + 1)/2, and n the number
    of pairs of the same precision, ``w n_a + (1 - w) n_b`` with w the share of A in the squared
    error. The phi that is reported is the larger of the two arms'.

    The arms are interleaved in order of arrival, with a look after each moment at which something
    arrived. Without times of arrival they take turns, one window each, then the rest of the longer.

    Parameters
    ----------
    loss_a, loss_b : array_like, shapes (windows_a,) and (windows_b,)
        Losses in one unit, lower is better, in order of time. Values that are not finite are left
        out.
    arrived_a, arrived_b : array_like, optional
        Times of arrival of the same shapes (numbers or datetime64), ascending; both or neither.
    confidence_level, margin
        As in `paired`.
    min_pairs : int
        Windows of each arm before any decision, at least 2.

    Returns
    -------
    Evidence
        `n`, `ns`, `decided_at` and `needed` count windows of the smaller arm. Both arms constant:
        decided or equivalent at `min_pairs`. An empty arm: undecided.

    Raises
    ------
    ValueError
        As in `paired`; times of one arm only, of another length, or descending.
    """
    if (arrived_a is None) != (arrived_b is None):
        raise ValueError("times of arrival are needed for both arms or for neither")
    a, when_a = _arm(loss_a, arrived_a)
    b, when_b = _arm(loss_b, arrived_b)
    seen_a, seen_b = _arrivals(when_a, when_b)
    level_a, level_b = moments(np.abs(a)).mean[seen_a], moments(np.abs(b)).mean[seen_b]
    looks = _welch(moments(a).at(seen_a), moments(b).at(seen_b), _margins(margin, level_a, level_b))
    return weigh(looks, confidence_level=confidence_level, min_pairs=min_pairs)


def expected_pairs(effect_in_sd: float, *, confidence_level: float = 0.95, phi: float = 0.0) -> int:
    """Plan how many pairs of windows a decision is likely to need.

    The smallest n >= 8 at which a difference seen at exactly its expected size decides.

    Parameters
    ----------
    effect_in_sd : float
        Mean difference in standard deviations of the window differences, of either sign.
    confidence_level : float
        1 - alpha, between 0 and 1.
    phi : float
        Lag-1 autocorrelation of the window differences, between -1 and 1.

    Returns
    -------
    int
        At most 10,000, which is also the answer for an effect of zero.

    Raises
    ------
    ValueError
        An effect that is not a number, phi or the confidence level out of range.
    """
    if np.isnan(effect_in_sd) or not -1 < phi < 1 or not 0 < confidence_level < 1:
        raise ValueError("need an effect, -1 < phi < 1 and 0 < confidence_level < 1")
    alpha = 1 - confidence_level
    planned = first_decisive(abs(effect_in_sd), phi, margin=0.0, alpha=alpha, after=7)
    return planned or MOST_PAIRS


def _series(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError("losses must be one-dimensional")
    return x


def differences(a: Floats, b: Floats) -> Floats:
    """Subtract, taking what rounding alone can make for zero."""
    d = a - b
    return np.where(np.abs(d) <= ROUNDING * np.maximum(np.abs(a), np.abs(b)), 0.0, d)


def _margins(margin: float | None, level_a: Floats, level_b: Floats) -> Floats:
    if margin is None:
        return DEFAULT_MARGIN * (level_a + level_b) / 2
    if not margin >= 0:
        raise ValueError("margin must not be negative")
    return np.full(level_a.shape, float(margin))


def _arm(losses: ArrayLike, arrived: ArrayLike | None) -> tuple[Floats, NDArray[np.generic]]:
    x = _series(losses)
    finite = np.isfinite(x)
    if arrived is None:
        return x[finite], np.arange(np.count_nonzero(finite))
    when = np.asarray(arrived)
    if when.shape != x.shape or np.any(when[1:] < when[:-1]):
        raise ValueError("times of arrival must be ascending, one for each loss")
    return x[finite], when[finite]


def _arrivals(when_a: NDArray[np.generic], when_b: NDArray[np.generic]) -> tuple[Counts, Counts]:
    """Return, for each moment since both arms began, the newest index of each arm."""
    if not when_a.size or not when_b.size:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    moment = np.unique(np.concatenate([when_a, when_b]))
    seen_a = np.searchsorted(when_a, moment, side="right") - 1
    seen_b = np.searchsorted(when_b, moment, side="right") - 1
    begun = (seen_a >= 0) & (seen_b >= 0)
    return seen_a[begun], seen_b[begun]


def _welch(a: Moments, b: Moments, margin: Floats) -> Looks:
    mean = differences(a.mean, b.mean)
    phi_a, phi_b = allowance(a.r1, a.n), allowance(b.r1, b.n)
    error_a = a.deviation / np.sqrt(a.n) * inflation(phi_a)
    error_b = b.deviation / np.sqrt(b.n) * inflation(phi_b)
    error = np.hypot(error_a, error_b)
    spread = error > 0
    share_a = np.divide(error_a, error, out=np.zeros_like(error), where=spread) ** 2
    share_b = np.divide(error_b, error, out=np.zeros_like(error), where=spread) ** 2
    rest = share_a**2 / np.maximum(a.n - 1, 1) + share_b**2 / np.maximum(b.n - 1, 1)
    return Looks(
        n=np.minimum(a.n, b.n),
        mean=mean,
        error=error,
        size=np.where(spread, share_a * a.n + share_b * b.n, 2.0 * a.n * b.n / (a.n + b.n)),
        df=np.divide(1.0, rest, out=np.maximum(a.n + b.n - 2.0, 1.0), where=spread),
        r1=np.maximum(a.r1, b.r1),
        phi=np.maximum(phi_a, phi_b),
        margin=margin,
    )
