"""What the statistics answer with: frozen, plain values that can be stored and recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self


class MetricKind(StrEnum):
    """How a metric is read: its direction and the scale on which its noise is near normal."""

    R_SQUARED = "r_squared"
    LOSS = "loss"
    PROPORTION = "proportion"
    HIGHER = "higher"
    LOWER = "lower"
    TARGET_ZERO = "target_zero"


class Status(StrEnum):
    """The verdict on one series at its newest evaluation."""

    INSUFFICIENT_DATA = "insufficient_data"
    STABLE = "stable"
    DEGRADED = "degraded"
    IMPROVED = "improved"
    IMPROVEMENT_LOST = "improvement_lost"


class Rule(StrEnum):
    """What made a condition: a fitted change, a fall off a cliff, a crossed limit."""

    CHANGE_POINT = "change_point"
    COLLAPSE = "collapse"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules by which one series is judged.

    Parameters
    ----------
    kind : MetricKind
        Direction and scale of the metric.
    min_effect : float
        Smallest change that matters: relative to the level before (``0.02`` is 2 %), or, for
        ``TARGET_ZERO``, growth of the absolute level in the metric's own unit.
    threshold : float
        ``h``: a fall is a change point where its statistic ``Z`` exceeds this.
    clear_threshold : float
        The statistic of the recovery that ends a degradation must exceed this (at 3.9 twice as
        many ends are false, for half an evaluation less).
    min_evaluations : int
        With fewer retained evaluations no change point is looked for, but falls from ten on where
        the noise of the version before is known (`warm_start`); at least 15.
    window : int
        Number of retained evaluations a prefix is judged on.
    limit, clear_limit : float or None
        Absolute limit of the metric and the (better) limit within which it counts as well again;
        without a second one that lies a margin within the first (`limits.clear_level`). Crossed
        above for losses, below where higher is better, and by the absolute value for
        ``TARGET_ZERO``.
    limit_hits, limit_windows : int
        The limit holds where ``limit_hits`` of the last ``limit_windows`` evaluations cross it.
    limit_clear_windows : int or None
        How many evaluations in a row must be well for the limit to be no longer crossed. None, as
        in what was judged before this was a rule: ``limit_hits`` of the last ``limit_windows``
        within ``clear_limit``, or within the limit itself.
    season_period_days : float or None
        Length of a season that is taken out of the values before they are judged
        (`season.values_without_season`); None for none. `fold.judge` takes them without it.
    season_harmonics : int
        Pairs of sine and cosine of the season.

    Raises
    ------
    ValueError
        If a number is out of its range or ``clear_limit`` is worse than ``limit``.
    """

    kind: MetricKind
    min_effect: float = 0.02
    threshold: float = 3.9
    clear_threshold: float = 4.0
    min_evaluations: int = 30
    window: int = 400
    limit: float | None = None
    clear_limit: float | None = None
    limit_hits: int = 2
    limit_windows: int = 3
    limit_clear_windows: int | None = 5
    season_period_days: float | None = None
    season_harmonics: int = 2

    def __post_init__(self) -> None:
        if self.min_evaluations < 15:
            raise ValueError("min_evaluations is at least 15: ten before and four after a change")
        if self.window < self.min_evaluations:
            raise ValueError("window is at least min_evaluations")
        if not 1 <= self.limit_hits <= self.limit_windows:
            raise ValueError("limit_hits lies between 1 and limit_windows")
        if self.limit_clear_windows is not None and self.limit_clear_windows < 1:
            raise ValueError("limit_clear_windows is at least 1")
        if self.min_effect < 0:
            raise ValueError("min_effect is not negative")
        self._check_clear_limit()

    def _check_clear_limit(self) -> None:
        if self.clear_limit is None:
            return
        if self.limit is None:
            raise ValueError("clear_limit needs a limit")
        higher_is_better = self.kind in HIGHER_IS_BETTER
        if (self.clear_limit < self.limit) if higher_is_better else (self.clear_limit > self.limit):
            raise ValueError("clear_limit lies on the better side of limit")


HIGHER_IS_BETTER = frozenset({MetricKind.R_SQUARED, MetricKind.PROPORTION, MetricKind.HIGHER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is wrong with a series now; an alert is about exactly one condition.

    Parameters
    ----------
    rule : Rule
        What made it.
    change_index : int
        Absolute position of the first evaluation after the change.
    n_since : int
        Evaluations since the change, the newest included.
    baseline : float or None
        Level before the change on the metric's own scale; None for a limit.
    current : float
        Level since the change (over the last ``window`` evaluations at most).
    threshold : float
        ``h`` for a change point, the limit, or the bound of the robust z of a collapse.
    statistic : float
        At the newest evaluation: ``Z``, the value itself for a limit, the robust z of a collapse.
    peak_statistic : float
        The worst statistic since the condition opened.
    confirmed_p : float or None
        Change point: the smallest p that held at two consecutive prefixes since it opened. An
        alert opens where it is at or below the fleet's cut-off. None for collapse and limit,
        which alert at once.
    worst : float or None
        The worst value since the change, in the metric's own unit; None in what was stored before
        it was kept.
    """

    rule: Rule
    change_index: int
    n_since: int
    baseline: float | None
    current: float
    threshold: float
    statistic: float
    peak_statistic: float
    confirmed_p: float | None
    worst: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of one series at one prefix.

    Parameters
    ----------
    status : Status
        What is the case.
    rule : Rule or None
        The rule that opened the incident while ``degraded``.
    statistic : float or None
        ``Z``, the drift score, of falls; for ``TARGET_ZERO`` the larger of both directions, allowed
        for two. None where too few evaluations are retained.
    threshold : float
        ``h``.
    p_value : float or None
        Tail probability of ``Z`` on an unchanged series of this length.
    phi : float or None
        Lag-1 autocorrelation allowed for.
    effect : float or None
        Relative change, positive is worse; for ``TARGET_ZERO`` growth of the absolute level.
    baseline, current : float or None
        Levels before and since the change, on the metric's own scale.
    change_index : int or None
        Absolute position of the first evaluation after the change (degraded, improved,
        improvement lost).
    change_low, change_high : int or None
        Approximate 95 % range of ``change_index``: the splits whose likelihood ratio against the
        best is below the critical value 7.35 of Hansen (2000, Econometrica 68, 575-603), widened
        for autocorrelation.
    n_evaluations : int
        Retained evaluations the verdict rests on.
    needed : int
        Evaluations still missing before a fall can be judged: up to ten where the noise of the
        version before is known, else up to ``min_evaluations``.
    outlier_window : bool
        The newest evaluation alone lies more than 8 robust sigmas of at least 40 before it on the
        worse side.
    conditions : tuple of Condition
        What an alert may be about; empty when nothing is wrong.
    """

    status: Status
    rule: Rule | None
    statistic: float | None
    threshold: float
    p_value: float | None
    phi: float | None
    effect: float | None
    baseline: float | None
    current: float | None
    change_index: int | None
    change_low: int | None
    change_high: int | None
    n_evaluations: int
    needed: int
    outlier_window: bool
    conditions: tuple[Condition, ...]

    @property
    def is_degraded(self) -> bool:
        """Whether the series is degraded (an absolute limit is told by its condition)."""
        return self.status is Status.DEGRADED


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An open degradation: everything that later steps need to know of its opening.

    ``direction`` is -1 only for a ``TARGET_ZERO`` metric that rose; ``before`` and ``scale`` are
    on the oriented scale times ``direction``, ``baseline`` on the metric's own. ``reach_from`` is
    the position of the earliest evaluation in view when it opened, which stays in view. ``worst``
    is the worst value since the change, on the metric's own scale.
    """

    rule: Rule
    change: int
    change_low: int
    change_high: int
    reach_from: int
    n_since: int
    direction: int
    before: float
    scale: float
    baseline: float
    threshold: float
    statistic: float
    peak: float
    confirmed_p: float | None
    worst: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A limit that is crossed: since when, by how many evaluations, the newest and worst value."""

    since: int
    n_since: int
    value: float
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldState:
    """All that must be remembered between two evaluations of a series.

    Parameters
    ----------
    n_seen : int
        Evaluations folded so far; also the absolute position of the next one.
    needs_from : int
        Absolute position of the earliest evaluation the next step looks at.
    last_p : float or None
        p of the newest judged prefix.
    dropped : tuple of (int, int)
        Half-open ranges of positions that belong to closed incidents, as far as still in reach.
    incident : Incident or None
        The open degradation.
    crossing : Crossing or None
        The crossed limit.
    prior_variance, prior_phi : float or None
        Noise of the version before on the oriented scale, taken once, before the first evaluation
        (`warm_start.first_state`); None where it is not known.
    """

    n_seen: int = 0
    needs_from: int = 0
    last_p: float | None = None
    dropped: tuple[tuple[int, int], ...] = ()
    incident: Incident | None = None
    crossing: Crossing | None = None
    prior_variance: float | None = None
    prior_phi: float | None = None

    def at_first(self) -> Self:
        """Return the state before the first evaluation, which is what the version before left."""
        return type(self)(prior_variance=self.prior_variance, prior_phi=self.prior_phi)

    def to_document(self) -> dict[str, Any]:
        """Return the state as plain JSON types; floats survive the round trip exactly."""
        return asdict(self) | {"dropped": [list(span) for span in self.dropped]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild a state from `to_document`; older ones have no prior, or no worst value.

        Raises
        ------
        KeyError
            If another field is missing.
        """
        incident, crossing = document["incident"], document["crossing"]
        return cls(
            n_seen=document["n_seen"],
            needs_from=document["needs_from"],
            last_p=document["last_p"],
            dropped=tuple((low, high) for low, high in document["dropped"]),
            incident=None if incident is None else _incident(incident),
            crossing=None if crossing is None else Crossing(**crossing),
            prior_variance=document.get("prior_variance"),
            prior_phi=document.get("prior_phi"),
        )


def _incident(document: Mapping[str, Any]) -> Incident:
    known = [field.name for field in fields(Incident) if field.name in document]
    values = {name: document[name] for name in known}
    return Incident(**values | {"rule": Rule(values["rule"])})
