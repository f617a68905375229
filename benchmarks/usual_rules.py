"""The rules that are usual instead, so that each can be measured on the same simulated series.

Each answers, for rows of series, whether an alarm stands at each evaluation.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BASE = 30


def relative_change(r2: Floats) -> Flags:
    """R² differs by more than a tenth from the mean of its first 30, either way."""
    base = r2[:, :BASE].mean(axis=1, keepdims=True)
    return _after_base(np.abs(r2 - base) / np.abs(base) > 0.1)


def three_sigmas(values: Floats) -> Flags:
    """A value lies three standard deviations of the first 30 from their mean."""
    base = values[:, :BASE]
    spread = base.std(axis=1, ddof=1, keepdims=True)
    return _after_base(np.abs(values - base.mean(axis=1, keepdims=True)) > 3 * spread)


def ks_of_the_last(values: Floats, every: int = 5) -> Flags:
    """A KS test at .05 of the last 30 against the first 30, at every fifth evaluation."""
    alarms = np.zeros(values.shape, bool)
    for end in range(2 * BASE, values.shape[1] + 1, every):
        for row, series in enumerate(values):
            p = stats.ks_2samp(series[:BASE], series[end - BASE : end], method="asymp").pvalue
            alarms[row, end - 1] = p < 0.05
    return alarms


def r_squared(noise: Floats) -> Floats:
    """Return an R² of .85 with a standard deviation of .03."""
    return np.asarray(0.85 + 0.03 * noise)


def _after_base(alarms: Flags) -> Flags:
    alarms[:, :BASE] = False
    return alarms
