"""Has a feature's distribution changed, told from profiles instead of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelperf.stats import distances
from modelperf.stats.cells import FeatureKind
from modelperf.stats.feature_verdicts import FeatureStatus, FeatureTest, FeatureVerdict, Histogram
from modelperf.stats.histograms import bars as bars_of
from modelperf.stats.histograms import histogram
from modelperf.stats.profile_types import Profile, Reference
from modelperf.stats.profiles import merge
from modelperf.stats.two_samples import (
    Outcome,
    chi_square_test,
    hotelling_test,
    share_test,
    smooth_test,
    spread_test,
)

__all__ = ["FeatureStatus", "FeatureTest", "FeatureVerdict", "Histogram", "compare"]

Counts = NDArray[np.int64]

ALPHA = 0.001
MERGED = (1, 4, 16)
FEWEST = 50  # values, or rows where their missing share is judged
FEWEST_REFERENCE = 100
SMALLEST_DISTANCE = 0.05
SMALLEST_MISSING = 0.01
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class _Look:
    """One test of one merging of the last windows."""

    merged: int
    current: Profile
    test: FeatureTest | None = None
    outcome: Outcome | None = None
    p_value: float = 1.0  # of this test, times the number of tests on the same merging
    matters: bool = False


@dataclass(frozen=True, slots=True)
class _Spread:
    """What the windows of the reference period tell about windows without a change."""

    counts: list[Counts]  # in the reference's bins, or of its categories
    missing: list[tuple[int, int]]  # of how many rows

    @classmethod
    def of(cls, reference: Reference, windows: Sequence[Profile]) -> _Spread:
        return cls(
            [_grouped(reference, window) for window in windows if window.n and reference.n],
            [(window.missing, window.rows) for window in windows if window.rows],
        )


def compare(
    reference: Reference,
    windows: Sequence[Profile],
    *,
    n_features: int,
    reference_windows: Sequence[Profile] = (),
) -> FeatureVerdict:
    """Judge the newest windows of one feature against its reference.

    Parameters
    ----------
    reference : Reference
        What the feature was like when its model was trained.
    windows : sequence of Profile
        Oldest first, newest last; the last 16 are looked at.
    n_features : int
        Features judged together, which share the false alarms.
    reference_windows : sequence of Profile
        Windows of the reference period; 20 or more let rows depend on each other within a window.

    Returns
    -------
    FeatureVerdict
        Of the last 1, 4 and 16 windows merged (or as many as there are), the one with the smallest
        p that is a drift; without a drift the one with the smallest p. Each is tested for

        - its distribution: smooth test, with reference windows Hotelling's T² (numbers), or
          chi-square (categories), where D is at least .05;
        - values that the reference does not have, where each of its values has a cell or a
          category, by the exact test of two shares; without a change they are about as frequent
          as values that occur once in the reference (Good 1953, Biometrika 40, 237-264). D must be
          at least .05 here too;
        - the share of missing values, by the exact test of two shares, with reference windows also
          against its spread over them, where it changes by at least .01.

        The smallest p counts, times the number of tests that apply. Fewer than 50 values, or 100 in
        the reference: insufficient data, with the sizes of the change all the same.

    Raises
    ------
    ValueError
        Without windows, without features, or where profiles belong to another reference.
    """
    if n_features < 1:
        raise ValueError("at least one feature is judged")
    if not windows:
        raise ValueError("at least one window is judged")
    if any(part.reference_digest != reference.digest for part in [*windows, *reference_windows]):
        raise ValueError("a profile was counted in the cells of another reference")
    alpha = ALPHA / (len(MERGED) * n_features)
    latest = list(windows[-max(MERGED) :])
    spread = _Spread.of(reference, reference_windows)
    looks = [
        look
        for size in sorted({min(size, len(latest)) for size in MERGED})
        for look in _looks(reference, merge(latest[-size:]), size, spread)
    ]
    drifted = [look for look in looks if look.matters and look.p_value <= alpha]
    distributions = [look for look in looks if look.test not in {None, FeatureTest.MISSING}]
    best = min(drifted or distributions or looks[-1:], key=lambda look: look.p_value)
    if drifted:
        status = FeatureStatus.DRIFTED
    else:
        status = FeatureStatus.STABLE if distributions else FeatureStatus.INSUFFICIENT_DATA
    return _verdict(reference, best, alpha, status)


def _looks(reference: Reference, current: Profile, size: int, spread: _Spread) -> list[_Look]:
    """Return every test that applies to one merging, or one look without a test."""
    tests = [
        *_distribution_tests(reference, current, spread),
        *_missing_test(reference, current, spread),
    ]
    return [
        _Look(size, current, test, outcome, min(1.0, outcome.p_value * len(tests)), matters)
        for test, outcome, matters in tests
    ] or [_Look(size, current)]


_Tests = Iterator[tuple[FeatureTest, Outcome, bool]]


def _distribution_tests(reference: Reference, current: Profile, spread: _Spread) -> _Tests:
    """Test values that are there; a constant feature only for new values."""
    if reference.n < FEWEST_REFERENCE or current.n < FEWEST:
        return
    matters = (_distance(reference, current) or 0.0) >= SMALLEST_DISTANCE
    own, now = _grouped(reference, reference.profile), _grouped(reference, current)
    if reference.kind is FeatureKind.CATEGORICAL:
        known = slice(-1 if reference.cells.exact else None)  # new categories have their own test
        if outcome := chi_square_test(own[known], now[known], [c[known] for c in spread.counts]):
            yield FeatureTest.CHI_SQUARE, outcome, matters
    elif outcome := hotelling_test(own, spread.counts, now):
        yield FeatureTest.HOTELLING, outcome, matters
    elif outcome := smooth_test(own, now):
        yield FeatureTest.SMOOTH, outcome, matters
    if reference.cells.exact:
        new = current.other + int(current.counts[reference.profile.counts == 0].sum())
        p = share_test(_unseen(reference), reference.n, new, current.n)
        yield FeatureTest.NEW_VALUES, Outcome(new / current.n, (), p), matters


def _unseen(reference: Reference) -> int:
    """Return how many of as many values may be new without a change, at most.

    About as many as occur once in the reference (Good 1953); those that occur twice give the
    variance of that.
    """
    counts = reference.profile.counts
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return min(int(once + 2 * twice), reference.n)


def _missing_test(reference: Reference, current: Profile, spread: _Spread) -> _Tests:
    """Test the share of missing values, where there are any."""
    own = reference.profile
    few = own.rows < FEWEST_REFERENCE or current.rows < FEWEST
    if few or not own.missing + current.missing:
        return
    share, change = _missing(reference, current)
    p = share_test(own.missing, own.rows, current.missing, current.rows)
    p = max(p, spread_test(spread.missing, current.missing, current.rows))
    yield FeatureTest.MISSING, Outcome(share, (), p), abs(change) >= SMALLEST_MISSING


def _grouped(reference: Reference, profile: Profile) -> Counts:
    """Return counts in the reference's bins, or of its categories and all others."""
    if reference.kind is FeatureKind.CATEGORICAL:
        return np.append(profile.counts, profile.other)
    return np.asarray(np.add.reduceat(profile.counts, reference.bins))


def _distance(reference: Reference, current: Profile) -> float | None:
    if not reference.n or not current.n:
        return None
    if reference.kind is FeatureKind.CATEGORICAL:
        pair = _grouped(reference, reference.profile), _grouped(reference, current)
        return distances.total_variation(*pair)
    return distances.ks_distance(reference.profile.counts, current.counts)


def _missing(reference: Reference, current: Profile) -> tuple[float, float]:
    now = current.missing / current.rows
    return now, now - reference.missing / reference.profile.rows


def _verdict(
    reference: Reference, look: _Look, alpha: float, status: FeatureStatus
) -> FeatureVerdict:
    own, current, outcome = reference.profile, look.current, look.outcome
    both = bool(own.n and current.n)
    bars = bars_of(reference, current) if both else None
    wasserstein = None
    if both and reference.kind is FeatureKind.NUMERIC:
        wasserstein = distances.wasserstein_distance(reference, current)
    new = current.new if reference.cells.exact else {}
    return FeatureVerdict(
        status=status,
        test=look.test,
        statistic=outcome.statistic if outcome else None,
        df=outcome.df if outcome else (),
        p_value=look.p_value if outcome else None,
        p_any=min(1.0, len(MERGED) * look.p_value) if outcome else None,
        alpha=alpha,
        merged=look.merged,
        n=current.n,
        ks_distance=_distance(reference, current),
        wasserstein=wasserstein,
        wasserstein_sigmas=_in_sigmas(wasserstein, reference.deviation),
        psi=distances.population_stability_index(*bars) if bars else None,
        psi_corrected=distances.corrected_stability_index(*bars) if bars else None,
        js_distance=distances.jensen_shannon_distance(*bars) if bars else None,
        missing_share_reference=own.missing / own.rows if own.rows else None,
        missing_share_current=current.missing / current.rows if current.rows else None,
        missing_share_change=_missing(reference, current)[1] if own.rows and current.rows else None,
        new_categories=tuple(sorted(new.items(), key=lambda c: (-c[1], c[0]))[:_MOST_NAMED]),
        histogram=histogram(reference, current),
    )


def _in_sigmas(distance: float | None, deviation: float | None) -> float | None:
    return distance / deviation if distance is not None and deviation else None
