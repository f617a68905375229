"""The t e-process, its interval and its allowance for autocorrelation, as functions of arrays.

References
----------
Marriott, F. H. C. and Pope, J. A. (1954). "Bias in the estimation of autocorrelations". Biometrika
41, 390-402.
Wang, H. and Ramdas, A. (2023). "Anytime-valid t-tests and confidence sequences for Gaussian means
with unknown variance". arXiv:2310.03722.
"""

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

LARGEST_PHI = 0.95
MOST_PAIRS = 10_000  # as far as planning looks ahead
LARGEST_T = 1e100  # stands for infinity: no spread at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Of every prefix of a series: count, mean, standard deviation, lag-1 autocorrelation."""

    n: Counts
    mean: Floats
    deviation: Floats
    r1: Floats

    def at(self, index: Counts) -> "Moments":
        """Return the chosen prefixes, in that order."""
        return Moments(
            n=self.n[index],
            mean=self.mean[index],
            deviation=self.deviation[index],
            r1=self.r1[index],
        )


def moments(x: Floats) -> Moments:
    """Compute the moments of every prefix of `x`, shape (n,), from running sums.

    The deviation is the root of the unbiased variance, 0 for a single value; without spread r1 is
    0. Values are centred on the first one, so that a large common level costs no digits, and scaled
    by a power of two, so that no square overflows.
    """
    n = np.arange(1, x.size + 1)
    unit = np.ldexp(1.0, int(np.frexp(np.abs(x).max(initial=0.0))[1]) - 1)
    y = x / unit - x[:1] / unit
    total = np.cumsum(y)
    mean = total / n
    squares = np.maximum(np.cumsum(y**2) - n * mean**2, 0.0)
    products = np.cumsum(np.concatenate([np.zeros_like(y[:1]), y[1:] * y[:-1]]))
    lagged = products - mean * (2 * total - y - y[:1]) + (n - 1) * mean**2
    r1 = np.divide(lagged, squares, out=np.zeros_like(mean), where=squares > 0)
    return Moments(
        n=n,
        mean=mean * unit + x[:1],
        deviation=np.sqrt(squares / np.maximum(n - 1, 1)) * unit,
        r1=np.clip(r1, -1, 1),
    )


def allowance(r1: Floats, n: Counts) -> Floats:
    """Return phi = (n r1 + 5)/(n - 5), clipped to [0, .95], and .95 up to five values.

    r1 falls short of the autocorrelation by (1 + 4 phi)/n (Marriott and Pope 1954), about a line by
    (2 + 4 phi)/n; what is added beyond that is the allowance for not knowing it.
    """
    enough = n > 5
    phi = np.divide(n * r1 + 5, n - 5, out=np.full(n.shape, LARGEST_PHI), where=enough)
    clipped: Floats = np.clip(phi, 0.0, LARGEST_PHI)
    return clipped


def inflation(phi: Floats) -> Floats:
    """Return the factor on the standard error of a mean that autocorrelation phi amounts to."""
    factor: Floats = np.sqrt((1 + phi) / (1 - phi))
    return factor


def log_e(t: Floats, n: Floats, df: Floats) -> Floats:
    """Return log E of Student statistics whose precision is that of `n` observations.

    The likelihood ratio of t with `df` degrees of freedom between a standard normal prior on the
    standardised mean and a mean of zero. ``df = n - 1`` gives the process of Wang and Ramdas.
    """
    x = np.minimum(np.abs(t), LARGEST_T) ** 2 / df
    gain: Floats = np.log1p(x) - np.log1p(x / (1 + n))
    log_ratio: Floats = (df + 1) / 2 * gain - np.log1p(n) / 2
    return log_ratio


def critical_t(n: Floats, df: Floats, alpha: float) -> Floats:
    """Return the |t| at which E reaches 1/alpha; infinite where no t does."""
    ratio = np.exp(2 / (df + 1) * (np.log1p(n) / 2 - log(alpha)))
    room = 1 - ratio / (1 + n)
    x = np.divide(ratio - 1, room, out=np.full_like(ratio, np.inf), where=room > 0)
    t: Floats = np.sqrt(df * x)
    return t


def first_decisive(
    effect: float, phi: float, *, margin: float, alpha: float, after: int, deviation: float = 1.0
) -> int | None:
    """Return the smallest n > `after` at which an effect seen at its expected size decides.

    `effect` (>= 0), `margin` and `deviation`, that of one pair, are in one unit; phi is the
    autocorrelation as it is. Decided is E > 1/alpha or an interval inside +- `margin`. None where
    no n up to 10,000 decides.
    """
    n = np.arange(after + 1, MOST_PAIRS + 1)
    size = n.astype(np.float64)
    expected_r1 = phi - (1 + 4 * phi) / size
    error = deviation * inflation(allowance(expected_r1, n)) / np.sqrt(size)
    critical = critical_t(size, size - 1, alpha)
    half = np.full(size.shape, np.inf)
    np.multiply(critical, error, out=half, where=np.isfinite(critical))
    decisive = (effect > half) | (effect + half <= margin)
    return int(n[np.argmax(decisive)]) if decisive.any() else None
