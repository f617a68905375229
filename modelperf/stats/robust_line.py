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

from modelperf.stats.t_process import Counts, Flags, Floats, allowance

HUBER_C = 1.5
STEPS = 4
WINSOR_C = 2.5
MAD_OF_NORMAL = 0.6744897501960817
QUANTILE_80_OF_NORMAL = 1.2815515655446004  # of its absolute value
ROUNDING = 1e-12  # spread below this share of the largest value is taken for rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Fitted lines, arrays of shape (windows,).

    `level` is the fitted value at the mean time of the window, `middle`; `slope` is per unit of
    time. The errors are standard errors, to be judged by Student's t with `df` degrees of freedom;
    `correlation` is that of level and slope.
    """

    slope: Floats
    slope_error: Floats
    level: Floats
    level_error: Floats
    correlation: Floats
    middle: Floats
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

    phi is the allowance of `t_process` for the lag-1 autocorrelation of the m residuals of a row.
    The degrees of freedom are those of as many independent values, max(4, m (1 - phi)/(1 + phi))
    less 2.

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
    rows = _Rows.centred(x, y, inside)
    fitted, scale = _huber(rows)
    winsorised = _winsorised(rows.y - fitted, WINSOR_C * scale[:, None], rows.inside)
    phi = allowance(_r1(winsorised), rows.count)
    return _prais_winsten(rows, fitted + winsorised, phi)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Times about their mean and values about theirs in a row's unit; all 0 outside."""

    x: Floats
    y: Floats
    inside: Floats
    count: Counts
    middle_x: Floats  # what was taken off the times
    middle: Floats  # what was taken off the values
    unit: Floats  # what they were then divided by, a power of two: no square overflows

    @classmethod
    def centred(cls, x: Floats, y: Floats, inside: Flags) -> "_Rows":
        count = np.count_nonzero(inside, axis=1)
        mean_x, mean_y = (np.sum(a, axis=1, where=inside) / count for a in (x, y))
        largest = np.max(np.abs(y), axis=1, where=inside, initial=0.0)
        unit = np.ldexp(1.0, np.frexp(largest)[1] - 1)
        return cls(
            x=np.where(inside, x - mean_x[:, None], 0.0),
            y=np.where(inside, (y - mean_y[:, None]) / unit[:, None], 0.0),
            inside=inside.astype(np.float64),
            count=count,
            middle_x=mean_x,
            middle=mean_y,
            unit=unit,
        )


def _huber(rows: _Rows) -> tuple[Floats, Floats]:
    """Return the fitted values and the scale of the residuals about them."""
    weight = rows.inside
    for _ in range(STEPS):
        fitted, scale = _weighted_fit(rows, weight)
        bound = HUBER_C * scale[:, None]
        weight = rows.inside * bound / np.maximum(np.abs(rows.y - fitted), bound)
    return _weighted_fit(rows, weight)


def _weighted_fit(rows: _Rows, weight: Floats) -> tuple[Floats, Floats]:
    total = np.sum(weight, axis=1)
    mean_x, mean_y = (np.sum(weight * a, axis=1) / total for a in (rows.x, rows.y))
    from_mean = rows.x - mean_x[:, None]
    slope = _ratio(
        np.sum(weight * from_mean * rows.y, axis=1), np.sum(weight * from_mean * rows.x, axis=1)
    )
    fitted = (mean_y[:, None] + slope[:, None] * from_mean) * rows.inside
    size = np.where(rows.inside > 0, np.abs(rows.y - fitted), np.inf)
    return fitted, _scale(size, rows.count)


def _scale(size: Floats, count: Counts) -> Floats:
    """Return the median size as a standard deviation, at least half what the 80 % quantile gives.

    The second keeps the scale where rounding leaves more than half of the residuals at zero.
    """
    ordered, row = np.sort(size, axis=1), np.arange(count.size)
    median = (ordered[row, (count - 1) // 2] + ordered[row, count // 2]) / 2
    upper = ordered[row, 4 * count // 5]
    least = np.maximum(upper / (2 * QUANTILE_80_OF_NORMAL), ROUNDING)
    scale: Floats = np.maximum(median / MAD_OF_NORMAL, least)
    return scale


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, taking a denominator of zero to give zero."""
    out = np.zeros_like(denominator)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _winsorised(residual: Floats, bound: Floats, inside: Floats) -> Floats:
    """Clip, and divide by the share that is left alone, so that the spread is not understated."""
    share = np.sum(inside * (np.abs(residual) <= bound), axis=1) / np.sum(inside, axis=1)
    winsorised: Floats = np.clip(residual, -bound, bound) * inside / share[:, None]
    return winsorised


def _r1(residual: Floats) -> Floats:
    return _ratio(np.sum(residual[:, 1:] * residual[:, :-1], axis=1), np.sum(residual**2, axis=1))


def _prais_winsten(rows: _Rows, y: Floats, phi: Floats) -> Lines:
    """Regress on the differences that leave independent errors; the first value is kept, scaled."""
    one, u, v = (_decorrelated(a, rows, phi) for a in (rows.inside, rows.x, y))
    s11, s1u, suu = (np.sum(a * b, axis=1) for a, b in ((one, one), (one, u), (u, u)))
    s1v, suv = np.sum(one * v, axis=1), np.sum(u * v, axis=1)
    determinant = s11 * suu - s1u**2
    slope = _ratio(s11 * suv - s1u * s1v, determinant)
    level = (s1v - slope * s1u) / s11
    rest = v - level[:, None] * one - slope[:, None] * u
    spread = np.sqrt(np.sum(rest**2, axis=1) / (rows.count - 2))
    spread = np.maximum(spread, ROUNDING)
    return Lines(
        slope=slope * rows.unit,
        slope_error=spread * rows.unit * np.sqrt(_ratio(s11, determinant)),
        level=level * rows.unit + rows.middle,
        level_error=spread
        * rows.unit
        * np.sqrt(np.where(suu > 0, _ratio(suu, determinant), 1 / s11)),
        correlation=-_ratio(s1u, np.sqrt(s11 * suu)),
        middle=rows.middle_x,
        phi=phi,
        df=np.maximum(4, rows.count * (1 - phi) / (1 + phi)) - 2,
    )


def _decorrelated(a: Floats, rows: _Rows, phi: Floats) -> Floats:
    out = a.copy()
    out[:, 1:] -= phi[:, None] * a[:, :-1]  # 0 outside
    row, first = np.arange(phi.size), np.argmax(rows.inside > 0, axis=1)
    out[row, first] = a[row, first] * np.sqrt(1 - phi**2)
    return out
