"""The change-point model written once more from its formulae, slowly, one number at a time."""

import math
from statistics import NormalDist

import numpy as np
from scipy import stats


def fitted_weights(y: list[float], counts: list[float]) -> list[float]:
    if len(set(counts)) == 1:
        return [1.0] * len(y)
    usual = float(np.median([n for n in counts if n > 0]))
    u = [usual / n if n > 0 else 1.0 for n in counts]
    middle = float(np.median(y))
    squares = [(value - middle) ** 2 for value in y]
    overall = float(np.quantile(squares, 0.95))
    per_u = float(np.quantile([square / ui for square, ui in zip(squares, u, strict=True)], 0.95))
    squares = [min(s, max(overall, ui * per_u)) for s, ui in zip(squares, u, strict=True)]
    mean_u, mean_square = float(np.mean(u)), float(np.mean(squares))
    variance = sum((ui - mean_u) ** 2 for ui in u)
    if variance == 0 or mean_square == 0:
        return [1.0] * len(y)
    slope = sum((ui - mean_u) * s for ui, s in zip(u, squares, strict=True)) / variance
    slope = min(max(slope, 0.0), mean_square / mean_u)
    constant = max(mean_square - slope * mean_u, 0.0)
    raw = [1.0 / (constant + slope * ui) for ui in u]
    return [w * len(y) / sum(raw) for w in raw]


def winsorised(y: list[float], w: list[float]) -> list[float]:
    """Values (not deviations) after winsorising; no ties, so no resolution is needed."""
    middle = float(np.median(y))
    x = [math.sqrt(wi) * (yi - middle) for yi, wi in zip(y, w, strict=True)]
    reach = 2 * float(np.median(np.abs(x))) / 0.6745
    clipped = [min(max(xi, -reach), reach) for xi in x]
    return [middle + xi / math.sqrt(wi) for xi, wi in zip(clipped, w, strict=True)]


def mean(y: list[float], w: list[float]) -> float:
    return sum(yi * wi for yi, wi in zip(y, w, strict=True)) / sum(w)


def sum_of_squares(y: list[float], w: list[float], centre: float) -> float:
    return sum(wi * (yi - centre) ** 2 for yi, wi in zip(y, w, strict=True))


def best_fall(
    y: list[float], counts: list[float], fewest_before: int = 10, fewest_after: int = 4
) -> tuple[float, int, float]:
    """Return Z, the split and phi of the most likely fall."""
    w = fitted_weights(y, counts)
    y = winsorised(y, w)
    t = len(y)
    total = sum_of_squares(y, w, mean(y, w))
    best = (-math.inf, 0)
    for k in range(fewest_before, t - fewest_after + 1):
        d = mean(y[:k], w[:k]) - mean(y[k:], w[k:])
        between = d * d * sum(w[:k]) * sum(w[k:]) / sum(w)
        student = math.copysign(math.sqrt(between / ((total - between) / (t - 2))), d)
        best = max(best, (student, k))
    student, k = best
    phi = autocorrelation(y, w, k)
    z = -NormalDist().inv_cdf(float(stats.t.sf(student, t - 2)))
    return z * math.sqrt((1 - phi) / (1 + phi)), k, phi


def autocorrelation(y: list[float], w: list[float], k: int) -> float:
    levels = [mean(y[:k], w[:k])] * k + [mean(y[k:], w[k:])] * (len(y) - k)
    e = [math.sqrt(wi) * (yi - m) for yi, wi, m in zip(y, w, levels, strict=True)]
    r1 = sum(a * b for a, b in zip(e[1:], e[:-1], strict=True)) / sum(a * a for a in e)
    return min(max(r1 + (2 + 4 * r1) / len(y), 0.0), 0.9)


def tail_p_value(z: float, t: int) -> float:
    e0, e1 = 10 / t, 4 / t
    span = math.log((1 - e0) * (1 - e1) / (e0 * e1))
    return 0.5 * z * NormalDist().pdf(z) * (span * (1 - 1 / z**2) + 4 / z**2)
