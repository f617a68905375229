"""Do two samples of counts come from one distribution: tests that stay right far in the tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from modelperf.stats.exact_sums import Floats

Counts = NDArray[np.int64]

COMPONENTS = 4
FEWEST_WINDOWS = 20  # whose spread can replace the assumption that rows are independent
_RARE = 5.0  # expected count below which categories are pooled
_COMMON = 50.0  # expected count from which chi-square replaces the exact test of two shares


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one test: a chi-square with one number of degrees of freedom, an F with two."""

    statistic: float
    df: tuple[float, ...]
    p_value: float


def components(reference: Counts) -> Floats:
    """Return the orthonormal polynomials of the smooth test.

    Parameters
    ----------
    reference : ndarray of int, shape (B,)
        Counts of the reference in its bins, all positive.

    Returns
    -------
    ndarray, shape (min(4, B - 1), B)
        Legendre polynomials of the bins' mid-ranks, orthonormal under the reference's own shares,
        so that ties and bins of unequal probability change nothing: ``Σ p φ_i φ_j = 1 (i = j)``.
    """
    share = reference / reference.sum()
    middle = 2 * (np.cumsum(share) - share / 2) - 1
    degree = min(COMPONENTS, reference.size - 1)
    weighted = np.polynomial.legendre.legvander(middle, degree) * np.sqrt(share)[:, None]
    orthonormal = np.linalg.qr(weighted)[0]
    return np.asarray((orthonormal / np.sqrt(share)[:, None]).T[1:])


def smooth_test(reference: Counts, current: Counts) -> Outcome | None:
    """Test whether two samples share a distribution, against smooth alternatives.

    Parameters
    ----------
    reference, current : ndarray of int, shape (B,)
        Counts in the same bins; the reference's are positive.

    Returns
    -------
    Outcome or None
        ``T = n m/(n + m) Σ_j (Σ_b (c_b/n - p_b) φ_j(b))²`` ~ chi-square with 4 degrees of freedom,
        fewer with fewer than 5 bins; None with fewer than 2 bins.

    Notes
    -----
    Neyman (1937), "Smooth test" for goodness of fit, Skandinavisk Aktuarietidskrift 20, 149-199.
    """
    if reference.size < 2:
        return None
    n, m = current.sum(), reference.sum()
    theta = components(reference) @ (current / n)
    t = float(n * m / (n + m) * (theta @ theta))
    return Outcome(t, (theta.size,), float(special.chdtrc(theta.size, t)))


def hotelling_test(reference: Counts, windows: Sequence[Counts], current: Counts) -> Outcome | None:
    """Test the smooth components against their spread over the reference's own windows.

    Parameters
    ----------
    reference : ndarray of int, shape (B,)
        Counts of the reference in its bins, positive: they give the polynomials.
    windows : sequence of ndarray of int, shape (B,)
        Counts of windows of the reference period.
    current : ndarray of int, shape (B,)
        Counts of the window, or of merged windows, under test.

    Returns
    -------
    Outcome or None
        ``T²(W0 - 4)/(4 (W0 - 1))`` ~ F(4, W0 - 4), which holds where rows within a window depend
        on each other; None with fewer than 20 windows or where they do not vary in all components.

    Notes
    -----
    Hotelling (1931), Annals of Mathematical Statistics 2, 360-378. A component's variance is taken
    as inverse to the number of rows, with a factor that the windows estimate.
    """
    sizes = np.array([window.sum() for window in windows], dtype=np.float64)
    if sizes.size < FEWEST_WINDOWS or reference.size < 2:
        return None
    polynomials = components(reference)
    thetas = np.array([polynomials @ (window / window.sum()) for window in windows])
    mean = sizes @ thetas / sizes.sum()
    off = (thetas - mean) * np.sqrt(sizes)[:, None]
    k, w = polynomials.shape[0], sizes.size
    spread = off.T @ off / (w - 1)
    if np.linalg.matrix_rank(spread, hermitian=True) < k:
        return None
    n = current.sum()
    difference = polynomials @ (current / n) - mean
    squared = difference @ np.linalg.solve(spread, difference) / (1 / n + 1 / sizes.sum())
    f = float(squared * (w - k) / (k * (w - 1)))
    return Outcome(f, (k, w - k), float(special.fdtrc(k, w - k, f)))


def chi_square_test(
    reference: Counts, current: Counts, windows: Sequence[Counts] = ()
) -> Outcome | None:
    """Test whether two samples share the frequencies of categories.

    Parameters
    ----------
    reference, current : ndarray of int, shape (K,)
        Counts of the same categories.
    windows : sequence of ndarray of int, shape (K,)
        Counts of windows of the reference period.

    Returns
    -------
    Outcome or None
        Pearson's chi-square of homogeneity. Categories of which fewer than 5 are expected in
        either sample are pooled. With at least 20 windows that vary more than independent rows
        would, chi-square is divided by their excess, and is an F. None where only one is left.

    Notes
    -----
    Rao & Scott (1981), Journal of the American Statistical Association 76, 221-230.
    """
    pool = _pooled(reference, current)
    if pool is None:
        return None
    statistic, df = _chi_square(pool(reference), pool(current))
    plain = Outcome(statistic, (df,), float(special.chdtrc(df, statistic)))
    if len(windows) < FEWEST_WINDOWS:
        return plain
    shares = pool(reference) / reference.sum()
    excess = sum(
        float(np.sum((pool(window) - window.sum() * shares) ** 2 / (window.sum() * shares)))
        for window in windows
        if window.sum()
    ) / (df * (len(windows) - 1))
    if excess <= 1:
        return plain
    f, df_windows = statistic / df / excess, df * (len(windows) - 1)
    return Outcome(f, (df, df_windows), float(special.fdtrc(df, df_windows, f)))


def _pooled(reference: Counts, current: Counts) -> Any:
    """Return what adds up the rare categories of counts; None where they are all."""
    whole = reference + current
    smaller = min(reference.sum(), current.sum()) / whole.sum()
    expected = whole * smaller
    order = np.argsort(-expected, kind="stable")
    kept = order[expected[order] >= _RARE]
    rest = order[expected[order] < _RARE]
    if 0 < expected[rest].sum() < _RARE:
        kept, rest = kept[:-1], np.append(rest, kept[-1:])
    if kept.size + (whole[rest].sum() > 0) < 2:
        return None
    if not whole[rest].sum():
        return lambda counts: counts[kept]
    return lambda counts: np.append(counts[kept], counts[rest].sum())


def _chi_square(first: Counts, second: Counts) -> tuple[float, int]:
    n, m = first.sum(), second.sum()
    share = (first + second) / (n + m)
    terms = (first - n * share) ** 2 / (n * share) + (second - m * share) ** 2 / (m * share)
    return float(terms.sum()), first.size - 1


def share_test(reference: int, of_reference: int, current: int, of_current: int) -> float:
    """Return the two-sided p of one share in two samples.

    Parameters
    ----------
    reference, current : int
        How many have the property.
    of_reference, of_current : int
        How many there are.

    Returns
    -------
    float
        Fisher's exact test, the smaller tail doubled; where at least 50 are expected everywhere,
        chi-square with Yates's correction. 1 where one sample is empty.
    """
    whole, having = of_reference + of_current, reference + current
    if not of_reference or not of_current or having in (0, whole):
        return 1.0
    expected = having * of_current / whole
    least = min(having, whole - having) * min(of_reference, of_current) / whole
    if least >= _COMMON:
        off = max(abs(current - expected) - 0.5, 0.0)
        lacking = whole - having
        variance = having / whole * (lacking / whole) * of_reference * of_current / whole
        return float(special.chdtrc(1, off * off / variance))
    low, high = max(0, having - of_reference), min(having, of_current)
    k = np.arange(low, high + 1)
    log_p = (
        _log_choose(having, k)
        + _log_choose(whole - having, of_current - k)
        - _log_choose(whole, of_current)
    )
    p = np.exp(log_p)
    tails = p[k <= current].sum(), p[k >= current].sum()
    return float(min(1.0, 2 * min(tails)))


def spread_test(windows: Sequence[tuple[int, int]], current: int, of_current: int) -> float:
    """Return the two-sided p of one share against its spread over windows.

    Parameters
    ----------
    windows : sequence of (int, int)
        How many have the property, of how many, in each window of the reference period.
    current, of_current : int
        The same of the sample under test.

    Returns
    -------
    float
        Of the F of the squared distance from the windows' share over their own mean square, both
        relative to the binomial variance; 0, so that another test decides, with fewer than 20
        windows or where they vary no more than independent rows would.
    """
    if len(windows) < FEWEST_WINDOWS:
        return 0.0
    having, sizes = np.asarray(windows, dtype=np.float64).T
    share = having.sum() / sizes.sum()
    variance = share * (1 - share)
    squares = np.sum((having - share * sizes) ** 2 / sizes) / (sizes.size - 1)
    if squares <= variance:
        return 0.0
    off = (current / of_current - share) ** 2 / (1 / of_current + 1 / sizes.sum())
    return float(special.fdtrc(1, sizes.size - 1, off / squares))


def _log_choose(n: Any, k: Any) -> Any:
    return -special.betaln(n - k + 1, k + 1) - np.log1p(n)
