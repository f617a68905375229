"""Sums over losses in order, from which mean and long-run variance follow; batches add up.

References
----------
Newey, W. K. and West, K. D. (1987). "A simple, positive semi-definite, heteroskedasticity and
autocorrelation consistent covariance matrix". Econometrica 55, 703-708.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LARGEST_LAG = 64  # what the rule of the lag asks for up to 28 million rows
LARGEST_LOSS = 1e100  # its square and the sum of many are finite doubles
LARGEST_PHI = 0.95


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSums:
    """What is kept of values x_1 .. x_n in their order, whatever n is.

    All but `n` and `differing` are of the values less `origin`, so that a large common level costs
    no digits.

    Attributes
    ----------
    n : int
        Values so far.
    origin : float
        A value near the others.
    total : float
        Their sum.
    products : ndarray, shape (65,)
        Sums of x_t x_(t-l) for the lags l = 0 .. 64.
    head, tail : ndarray, at most 64 values
        The first and the last ones, which the mean is taken out of the products with.
    differing : int
        How many differ from the origin.
    """

    n: int = 0
    origin: float = 0.0
    total: float = 0.0
    products: Floats = field(default_factory=lambda: np.zeros(LARGEST_LAG + 1))
    head: Floats = field(default_factory=_none)
    tail: Floats = field(default_factory=_none)
    differing: int = 0

    def followed_by(self, values: Floats) -> "RowSums":
        """Return the sums with more values after these.

        Parameters
        ----------
        values : ndarray, shape (rows,)
            Finite and at most 1e100 in size; none at all is allowed.

        Returns
        -------
        RowSums
            Equal, but for rounding, however the same values are cut into batches.
        """
        if not values.size:
            return self
        x = values - self.origin
        before = np.zeros(LARGEST_LAG)
        before[LARGEST_LAG - self.tail.size :] = self.tail
        lagged = np.correlate(np.concatenate([before, x]), x, "valid")[::-1]
        return RowSums(
            n=self.n + x.size,
            origin=self.origin,
            total=self.total + float(x.sum()),
            products=self.products + lagged,
            head=np.concatenate([self.head, x[: LARGEST_LAG - self.head.size]]),
            tail=np.concatenate([self.tail, x])[-LARGEST_LAG:],
            differing=self.differing + int(np.count_nonzero(x)),
        )

    @property
    def mean(self) -> float:
        """The mean of the values; of none, the origin."""
        return self.origin + self.total / max(self.n, 1)

    def autocovariances(self, lag: int) -> Floats:
        """Return those of lag 0 to `lag`, each divided by n, of at least `lag` + 1 values."""
        n, mean, lags = self.n, self.total / self.n, np.arange(lag + 1)
        first = np.concatenate([[0.0], np.cumsum(self.head)])[lags]
        last = np.concatenate([[0.0], np.cumsum(self.tail[::-1])])[lags]
        centred = self.products[lags] - mean * (2 * self.total - first - last)
        found: Floats = (centred + (n - lags) * mean**2) / n
        return found

    def newey_west(self) -> float:
        """Return the Newey-West variance: Bartlett weights up to `newey_west_lag` of n values."""
        lag = newey_west_lag(self.n)
        weights = 2 * (1 - np.arange(lag + 1) / (lag + 1))
        weights[0] = 1.0
        return max(float(weights @ self.autocovariances(lag)), 0.0)

    def long_run_variance(self) -> float:
        """Return what n times the variance of the mean tends to, autocorrelation allowed for.

        The larger of Newey and West's and that of an AR(1) with the same lag-1 autocorrelation:
        the few lags of the former see half of the variance at .7. Of fewer than two values 0.
        """
        if self.n < 2:
            return 0.0
        variance, lagged = (max(float(value), 0.0) for value in self.autocovariances(1))
        phi = min(lagged / variance, LARGEST_PHI) if variance > 0 else 0.0
        return max(self.newey_west(), variance * (1 + phi) / (1 - phi))

    def document(self) -> dict[str, Any]:
        """Return the sums as plain values."""
        return {
            "n": self.n,
            "origin": self.origin,
            "total": self.total,
            "products": self.products.tolist(),
            "head": self.head.tolist(),
            "tail": self.tail.tolist(),
            "differing": self.differing,
        }

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> "RowSums":
        """Return the sums a document was made of."""
        arrays = {name: np.array(document[name], dtype=np.float64) for name in _ARRAYS}
        return cls(**{**document, **arrays})


_ARRAYS = ("products", "head", "tail")


def newey_west_lag(n: int) -> int:
    """Return floor(4 (n/100)^(2/9)), at most 64 and at most n - 1."""
    return min(int(4 * (n / 100) ** (2 / 9)), LARGEST_LAG, n - 1)
