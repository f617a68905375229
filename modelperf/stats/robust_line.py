"""Straight lines through many windows at once, robust and with autocorrelated residuals.

References
----------
Huber, P. J. (1964). "Robust estimation of a location parameter". Ann. Math. Statist. 35, 73-101.
Prais, S. J. and Winsten, C. B. (1954). "Trend estimators and serial correlation". Cowles Commission
Discussion Paper 383.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from modelperf.stats.t_process import Counts, Flags, Floats

HUBER_C = 1.5
STEPS = 4
WINSOR_C = 2.5
MAD_OF_NORMAL = 0.6745
LARGEST_PHI = 0.95
ROUNDING = 1e-12  # of the largest value: spread below it is taken for rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Fitted lines, arrays of shape (windows,).

    `level` is the fitted value at the mean time of the window; `slope` is per unit of time. The
    errors are standard errors, to be judged by Student's t with `df` degrees of freedom.
    """

    slope: Floats
    slope_error: Floats
    level: Floats
    level_error: Floats
    phi: Floats
    df: Floats

    @property
    def p_value(self) -> Floats:
        """Two-sided p of a slope of zero; 1 where slope and error are both zero."""
        t = np.divide(
            np.abs(self.slope),
            self.slope_error,
            out=np.where(self.slope == 0, 0.0, np.inf),
            where=self.slope_error > 0,
        )
        p: Floats = 2 * special.stdtr(self.df, -t)
        return p


def fit_lines(x: Floats, y: Floats, inside: Flags) -> Lines:
    """Fit a line to every row: Huber's weights, winsorised residuals, then Prais-Winsten.

    phi = (m r1 + 2)/(m - 4), clipped to [0, .95], with r1 the lag-1 autocorrelation of the
    residuals of the m values of a row: an estimate freed of its bias. The degrees of freedom are
    those of as many independent values, max(4, m (1 - phi)/(1 + phi)) - 2.

    Parameters
    ----------
    x, y : ndarray, shape (windows, width)
        Times and values; anything finite where not `inside`.
    inside : ndarray of bool, shape (windows, width)
        The values that belong to a row: its last ones, at least 5.

    Returns
    -------
    Lines
        Constant values: slope 0. Times without spread: slope 0 with an error of 0.
    """
    weight = inside.astype(np.float64)
    count = np.count_nonzero(inside, axis=1)
    x = _centred(x, weight)
    middle = np.sum(y * weight, axis=1) / count
    z = (y - middle[:, None]) * weight
    floor = ROUNDING * np.max(np.abs(y) * weight, axis=1)
    fitted, scale = _huber(x, z, weight, count, floor)
    bound = WINSOR_C * scale[:, None]
    residual = np.clip(z - fitted, -bound, bound) * weight
    phi = _phi(residual, count)
    return _prais_winsten(x, fitted + residual, inside, phi, middle, floor)


def _centred(x: Floats, weight: Floats) -> Floats:
    mean = np.sum(x * weight, axis=1) / np.sum(weight, axis=1)
    centred: Floats = (x - mean[:, None]) * weight
    return centred


def _huber(
    x: Floats, y: Floats, inside: Floats, count: Counts, floor: Floats
) -> tuple[Floats, Floats]:
    """Return the fitted values and the scale of the residuals about them."""
    weight = inside
    for _ in range(STEPS):
        fitted, scale = _weighted_fit(x, y, weight, inside, count, floor)
        bound = HUBER_C * scale[:, None]
        weight = inside * bound / np.maximum(np.abs(y - fitted), bound)
    return _weighted_fit(x, y, weight, inside, count, floor)


def _weighted_fit(
    x: Floats, y: Floats, weight: Floats, inside: Floats, count: Counts, floor: Floats
) -> tuple[Floats, Floats]:
    total = np.sum(weight, axis=1)
    mean_x, mean_y = np.sum(weight * x, axis=1) / total, np.sum(weight * y, axis=1) / total
    from_mean = weight * (x - mean_x[:, None])
    spread = np.sum(from_mean * x, axis=1)
    slope = _ratio(np.sum(from_mean * y, axis=1), spread)
    fitted = (mean_y[:, None] + slope[:, None] * (x - mean_x[:, None])) * inside
    outside = np.where(inside > 0, 0.0, np.inf)
    scale = _median(np.abs(y - fitted) + outside, count) / MAD_OF_NORMAL
    return fitted, np.maximum(scale, np.maximum(floor, np.finfo(np.float64).tiny))


def _median(values: Floats, count: Counts) -> Floats:
    """Return the median of the `count` smallest of each row (the rest being infinite)."""
    ordered = np.sort(values, axis=1)
    row = np.arange(count.size)
    median: Floats = (ordered[row, (count - 1) // 2] + ordered[row, count // 2]) / 2
    return median


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, taking a denominator of zero to give zero."""
    out = np.zeros_like(denominator)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _phi(residual: Floats, count: Counts) -> Floats:
    r1 = _ratio(np.sum(residual[:, 1:] * residual[:, :-1], axis=1), np.sum(residual**2, axis=1))
    phi: Floats = np.clip((count * r1 + 2) / (count - 4), 0.0, LARGEST_PHI)
    return phi


def _prais_winsten(
    x: Floats, y: Floats, inside: Flags, phi: Floats, middle: Floats, floor: Floats
) -> Lines:
    """Regress on the differences that leave independent errors; the first value is kept, scaled."""
    one, u, v = (_decorrelated(a, inside, phi) for a in (inside.astype(np.float64), x, y))
    s11, s1u, suu = (np.sum(a * b, axis=1) for a, b in ((one, one), (one, u), (u, u)))
    s1v, suv = np.sum(one * v, axis=1), np.sum(u * v, axis=1)
    determinant = s11 * suu - s1u**2
    slope = _ratio(s11 * suv - s1u * s1v, determinant)
    level = (s1v - slope * s1u) / s11
    rest = v - level[:, None] * one - slope[:, None] * u
    count = np.count_nonzero(inside, axis=1)
    variance = np.maximum(np.sum(rest**2, axis=1) / (count - 2), floor**2)
    return Lines(
        slope=slope,
        slope_error=np.sqrt(variance * _ratio(s11, determinant)),
        level=level + middle,
        level_error=np.sqrt(
            variance * np.where(determinant > 0, _ratio(suu, determinant), 1 / s11)
        ),
        phi=phi,
        df=np.maximum(4, count * (1 - phi) / (1 + phi)) - 2,
    )


def _decorrelated(a: Floats, inside: Flags, phi: Floats) -> Floats:
    out = a.copy()
    out[:, 1:] -= np.where(inside[:, :-1], phi[:, None] * a[:, :-1], 0.0)
    row = np.arange(phi.size)
    first = np.argmax(inside, axis=1)
    out[row, first] = a[row, first] * np.sqrt(1 - phi**2)
    decorrelated: Floats = out
    return decorrelated
