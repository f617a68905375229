"""What a comparison of distributions answers with: frozen, plain values for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FeatureStatus(StrEnum):
    """The verdict on one feature."""

    STABLE = "stable"
    DRIFTED = "drifted"
    INSUFFICIENT_DATA = "insufficient_data"


class FeatureTest(StrEnum):
    """What a feature was tested by, or by what its change was found."""

    SMOOTH = "smooth"
    HOTELLING = "hotelling"
    CHI_SQUARE = "chi_square"
    MISSING = "missing"
    NEW_VALUES = "new_values"


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """At most 32 bars for people to look at.

    Attributes
    ----------
    edges : tuple of float
        Numeric: one more than bars; the outermost are the extremes of both samples.
    categories : tuple of str
        Categorical: the label of each bar; the last may be the rest, named None in `labels`.
    reference, current : tuple of float
        Shares of the values that are there.
    """

    edges: tuple[float, ...] = ()
    categories: tuple[str | None, ...] = ()
    reference: tuple[float, ...] = ()
    current: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureVerdict:
    """The verdict on one feature, in plain values; what is not defined is None, never NaN.

    Attributes
    ----------
    status : FeatureStatus
        Drifted where a test rejects at `alpha` and the change is large enough to matter.
    test : FeatureTest or None
        The test that `statistic`, `df` and `p_value` are of.
    statistic : float or None
        T of the smooth test, F of Hotelling's T², chi-square, or the share of missing or of new
        values.
    df : tuple of float
        Degrees of freedom of the statistic: one of a chi-square, two of an F, none of a share.
    p_value : float or None
        Of the merging that decided, to be compared with `alpha`.
    p_any : float or None
        Of all mergings together (Bonferroni): what `q_values` takes.
    alpha : float
        .001 / (3 x features).
    merged : int
        How many of the last windows were merged for this verdict: 1, 4, 16 or as many as there are.
    n : int
        Their values that are there.
    ks_distance, wasserstein, wasserstein_sigmas, psi, psi_corrected, js_distance : float or None
        Sizes of the change: Kolmogorov-Smirnov D, or the total variation distance of categories;
        Wasserstein-1 in the feature's unit and in standard deviations of the reference (numeric
        only); population stability index, bare and less its mean without a change;
        Jensen-Shannon distance (natural logarithm). The latter three are of the histogram's bars.
    missing_share_reference, missing_share_current, missing_share_change : float or None
        Shares of the rows.
    new_categories : tuple of (str, int)
        Categories that the reference does not have and how often they occur, the most frequent
        first; at most 20.
    histogram : Histogram
        Both distributions in the same bars.
    """

    status: FeatureStatus
    test: FeatureTest | None
    statistic: float | None
    df: tuple[float, ...]
    p_value: float | None
    p_any: float | None
    alpha: float
    merged: int
    n: int
    ks_distance: float | None
    wasserstein: float | None
    wasserstein_sigmas: float | None
    psi: float | None
    psi_corrected: float | None
    js_distance: float | None
    missing_share_reference: float | None
    missing_share_current: float | None
    missing_share_change: float | None
    new_categories: tuple[tuple[str, int], ...]
    histogram: Histogram
