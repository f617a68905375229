"""How well predictions met what was measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def regression_metrics(measured: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Compare predictions with measurements of a quantity that is not negative.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,)
        In the same unit; n at least 1.

    Returns
    -------
    dict of str to float
        Only what is defined for these values:

        - ``rmse``, ``mae``: in the unit; always.
        - ``r_squared``: 1 - SSE/SST; left out where the measurements do not vary. Far below zero
          where they hardly do.
        - ``mape``: mean of |error| / measured in percent over the readings that are not zero; left
          out where all are.
        - ``cv_rmse``: rmse in percent of the mean measurement; left out where that is zero.
        - ``nmbe``: signed bias, total of predicted - measured in percent of the total predicted;
          left out where nothing is predicted. +10 means that 10 % less was measured than expected.

    Notes
    -----
    ASHRAE Guideline 14 divides the bias by the mean *measurement*. Over a short window that mean is
    itself noise and may be zero, so that an unbiased model shows a positive, skewed bias; the
    prediction is neither.
    """
    y, p = np.asarray(measured, float), np.asarray(predicted, float)
    error = p - y
    rmse = float(np.sqrt(np.mean(error**2)))
    metrics = {"rmse": rmse, "mae": float(np.mean(np.abs(error)))}
    spread = float(np.sum((y - y.mean()) ** 2))
    if spread > 0 and np.ptp(y) > 0:
        metrics["r_squared"] = 1.0 - float(np.sum(error**2)) / spread
    used = y != 0
    if used.any():
        metrics["mape"] = 100.0 * float(np.mean(np.abs(error[used] / y[used])))
    if y.mean() > 0:
        metrics["cv_rmse"] = 100.0 * rmse / float(y.mean())
    if p.sum() > 0:
        metrics["nmbe"] = 100.0 * float(error.sum()) / float(p.sum())
    return metrics
