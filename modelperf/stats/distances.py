"""How far apart two distributions are, from counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.exact_sums import Floats
from modelperf.stats.profile_types import Profile, Reference

Counts = NDArray[Any]


def ks_distance(reference: Counts, current: Counts) -> float:
    """Return Kolmogorov and Smirnov's D of counts in the same cells, in order.

    From a profile it is too small by at most the share of one cell (1/2,048); it is exact where
    every value has a cell of its own.
    """
    difference = np.cumsum(reference) / reference.sum() - np.cumsum(current) / current.sum()
    return float(np.abs(difference).max())


def total_variation(reference: Counts, current: Counts) -> float:
    """Return half the sum of the absolute differences of shares: what D is for categories."""
    difference = reference / reference.sum() - current / current.sum()
    return float(np.abs(difference).sum() / 2)


def population_stability_index(reference: Counts, current: Counts) -> float:
    """Return PSI, ``Σ (p - q) log(p/q)``; where one sample has none, half a value is put in."""
    p = np.maximum(reference, 0.5) / reference.sum()
    q = np.maximum(current, 0.5) / current.sum()
    either = (reference > 0) | (current > 0)
    return float(np.sum(((p - q) * np.log(p / q))[either]))


def corrected_stability_index(reference: Counts, current: Counts) -> float:
    """Return PSI less its mean over samples of these sizes without a change; around 0 then."""
    bars = np.count_nonzero((reference > 0) | (current > 0))
    mean = (bars - 1) * (1 / reference.sum() + 1 / current.sum())
    return population_stability_index(reference, current) - float(mean)


def jensen_shannon_distance(reference: Counts, current: Counts) -> float:
    """Return the square root of the Jensen-Shannon divergence, in natural units."""
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    divergence = sum(
        np.sum(share[share > 0] * np.log(share[share > 0] / middle[share > 0])) for share in (p, q)
    )
    return float(np.sqrt(max(divergence / 2, 0.0)))


def wasserstein_distance(reference: Reference, current: Profile) -> float | None:
    """Return Wasserstein-1, the area between the distribution functions of the finite values.

    Parameters
    ----------
    reference : Reference
        Numeric.
    current : Profile
        Counted in its cells.

    Returns
    -------
    float or None
        In the feature's own unit; None where one of them has no finite value. Exact where every
        value of both has a cell of its own. Elsewhere values are taken to lie evenly within a cell,
        and the difference of the means is known exactly: ``|P - N|`` for the areas ``P`` and ``N``
        where one function is above and below the other, so only the smaller one is estimated.

    Notes
    -----
    Off by at most 5e-4 standard deviations of the reference for light tails and 20,000 values in
    it, and by 3e-3 for heavy tails (t of 2, lognormal) or 1,500 values, as simulated.
    """
    own = reference.profile
    if not own.finite or not current.finite:
        return None
    cuts = reference.cells.cuts
    curves = [_distribution(profile, cuts) for profile in (own, current)]
    points = np.unique(np.concatenate([places for places, _ in curves]))
    first, second = (np.interp(points, *curve) for curve in curves)
    above = _area(points, first - second)
    below = _area(points, second - first)
    means = own.total.exact / own.finite - current.total.exact / current.finite
    return abs(float(means)) + 2 * min(above, below)


def _distribution(profile: Profile, cuts: Floats) -> tuple[Floats, Floats]:
    """Return the corners of a distribution function that is linear within cells."""
    low, high = profile.minimum, profile.maximum
    assert low is not None and high is not None  # noqa: PT018, S101 - there are finite values
    end = np.nextafter(high, np.inf)
    counts = profile.counts.astype(np.float64)
    counts[0] -= profile.below
    reached = np.cumsum(counts)[:-1] / profile.finite
    inside = (cuts > low) & (cuts < end)
    places = np.concatenate([[low], cuts[inside], [end]])
    return places, np.concatenate([[0.0], reached[inside], [1.0]])


def _area(points: Floats, height: Floats) -> float:
    """Return the area under the positive part of a broken line."""
    width, left, right = np.diff(points), height[:-1], height[1:]
    both = (np.maximum(left, 0) + np.maximum(right, 0)) / 2
    crossing = left * right < 0
    up = np.maximum(left, right)
    part = up / np.where(crossing, np.abs(left - right), 1.0)
    return float(np.sum(width * np.where(crossing, up * part / 2, both)))
