"""Normal quantiles of far tails, finite where the tail itself is no longer a double."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]


def z_from_t(t: Floats, df: Floats) -> Floats:
    """Return the normal quantile of Student's distribution function at ``t``.

    Parameters
    ----------
    t : ndarray
        Student's t.
    df : ndarray
        Degrees of freedom, at least 1; broadcast against `t`.

    Returns
    -------
    ndarray
        ``Phi^-1(F_df(t))``, finite wherever `t` is: from the upper tail, and where that underflows
        from the series of the logarithm of the incomplete beta function.
    """
    size, df = np.broadcast_arrays(np.abs(t), df)
    tail = special.stdtr(df, -size)
    with np.errstate(divide="ignore"):
        z = -special.ndtri(tail)
    far = tail < 1e-280
    if far.any():
        z[far] = -special.ndtri_exp(_log_tail(size[far], df[far]))
    return np.asarray(np.copysign(z, t))


def two_sided(z: Floats) -> Floats:
    """Return the statistic of one direction where both are watched.

    Parameters
    ----------
    z : ndarray
        ``Z`` of one direction.

    Returns
    -------
    ndarray
        The normal quantile at twice the tail of `z` (about ``z - log(2)/z``), so that one threshold
        gives as many false alarms in both directions together as in one alone. 0 where `z` is
        below .67; NaN stays NaN.
    """
    doubled = np.minimum(special.log_ndtr(-z) + np.log(2.0), np.log(0.5))
    return np.asarray(-special.ndtri_exp(doubled) + 0.0)


def _log_tail(t: Floats, df: Floats) -> Floats:
    """Logarithm of the upper tail of Student's t, for tails too small for a double."""
    a = df / 2
    log_x = -2.0 * np.log(np.hypot(1.0, t / np.sqrt(df)))
    x = np.exp(log_x)
    series = np.log(special.hyp2f1(a + 0.5, 1.0, a + 1.0, x))
    ends = a * log_x + 0.5 * np.log1p(-x) - np.log(a) - special.betaln(a, 0.5)
    return np.asarray(np.log(0.5) + ends + series)
