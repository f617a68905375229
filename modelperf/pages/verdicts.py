"""Verdicts as stored, and the state in which they leave a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.dateparse import parse_datetime

from modelperf.models import DriftState, ModelVersion
from modelperf.models.metrics import Evaluation
from modelperf.services.policies import PolicyValues

LEAST_STALE = timedelta(days=8)  # a weekly job over short windows is not late before
WORDS = {
    "degraded": "Degraded",
    "limit": "Limit crossed",
    "improved": "Improved",
    "improvement_lost": "Improvement lost",
    "stable": "Stable",
    "insufficient": "Not enough data",
    "stale": "Stale",
    "none": "No evaluation",
}
# Which states an old evaluation turns into stale: what was fine is not known to be so any more.
GOES_STALE = frozenset({"stable", "improved", "insufficient", "improvement_lost"})
WORST_FIRST = (
    "degraded",
    "limit",
    "stale",
    "improvement_lost",
    "insufficient",
    "none",
    "improved",
    "stable",
)
COLOURS = {"limit": "degraded", "improvement_lost": "stable"}


@dataclass(frozen=True, slots=True)
class State:
    """How a series stands: `kind` names colour and glyph, `word` is always beside them."""

    kind: str

    @property
    def word(self) -> str:
        """The word that goes with the glyph."""
        return WORDS[self.kind]

    @property
    def css(self) -> str:
        """The class of colour and glyph; a lost improvement is a notice, not an alarm."""
        return COLOURS.get(self.kind, self.kind)

    @property
    def rank(self) -> int:
        """The place when the worst comes first."""
        return WORST_FIRST.index(self.kind)


@dataclass(frozen=True, slots=True)
class Crossing:
    """An absolute limit that is crossed: its value, the newest evaluation's, and since when."""

    limit: float
    value: float
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The newest verdict on one model version, read from what is stored with it."""

    state: State
    metric: str
    kind: str
    rule: str
    statistic: float | None
    threshold: float | None
    p_value: float | None
    effect: float | None
    baseline: float | None
    current: float | None
    changed_at: datetime | None
    changed_low: datetime | None
    changed_high: datetime | None
    n_evaluations: int
    needed: int
    peak: float | None
    fall: float | None
    outlier_window: bool
    crossing: Crossing | None
    version: int
    last_end: datetime

    @property
    def score(self) -> float | None:
        """The evidence to show and to sort by."""
        return self.statistic if self.peak is None else self.peak


def of_version(version: ModelVersion | None) -> Verdict | None:
    """Return the verdict on a version that was loaded with its drift state."""
    drift_state: DriftState | None = getattr(version, "drift_state", None)
    if version is None or drift_state is None:
        return None
    stored: Mapping[str, Any] = drift_state.verdict
    crossing = _crossing(stored)
    return Verdict(
        state=State(_kind(drift_state.status, crossing)),
        metric=drift_state.metric,
        kind=drift_state.rules.get("kind", ""),
        rule=stored.get("rule") or "",
        statistic=stored.get("statistic"),
        threshold=stored.get("threshold"),
        p_value=stored.get("p_value"),
        effect=stored.get("effect"),
        baseline=stored.get("baseline"),
        current=stored.get("current"),
        changed_at=_time(stored.get("changed_at")),
        changed_low=_time(stored.get("changed_after")),
        changed_high=_time(stored.get("changed_before")),
        n_evaluations=stored.get("n_evaluations") or 0,
        needed=stored.get("needed") or 0,
        peak=_peak(stored, "change_point"),
        fall=_peak(stored, "collapse"),
        outlier_window=bool(stored.get("outlier_window")),
        crossing=crossing,
        version=version.model_version,
        last_end=drift_state.last_evaluation_end,
    )


def _kind(status: str, crossing: Crossing | None) -> str:
    if crossing is not None and status != "degraded":
        return "limit"
    return "insufficient" if status == "insufficient_data" else status


def _peak(stored: Mapping[str, Any], rule: str) -> float | None:
    """Return the worst since a condition opened: a degradation outlives its statistic's fall."""
    found = (c for c in stored.get("conditions", ()) if c["rule"] == rule)
    return next((c["peak_statistic"] for c in found), None)


def _crossing(stored: Mapping[str, Any]) -> Crossing | None:
    found = next((c for c in stored.get("conditions", ()) if c["rule"] == "limit"), None)
    if found is None:
        return None
    return Crossing(found["threshold"], found["current"], _time(found.get("changed_at")))


def state_of(verdict: Verdict | None, latest: Evaluation | None, *, is_stale: bool) -> State:
    """Return how a series stands now: what was fine long ago is not known to be fine."""
    if latest is None:
        return State("none")
    state = verdict.state if verdict else State("insufficient")
    return State("stale") if is_stale and state.kind in GOES_STALE else state


def is_stale(
    latest: Evaluation, verdict: Verdict | None, policy: PolicyValues, now: datetime
) -> bool:
    """Whether the next evaluation of the active version should have come long ago.

    Twice the cadence that the policy expects; without one, three times the window's length and
    more than a week, since a window says little of how often it is evaluated.
    """
    if policy.expected_cadence_seconds:
        patience = 2 * timedelta(seconds=policy.expected_cadence_seconds)
    else:
        patience = max(3 * (latest.evaluation_end - latest.evaluation_start), LEAST_STALE)
    return now - last_seen(latest, verdict) > patience


def last_seen(latest: Evaluation, verdict: Verdict | None) -> datetime:
    """Return the end of the active version's newest evaluation; a challenger's does not count."""
    if verdict is None or latest.model_version == verdict.version:
        return latest.evaluation_end
    return verdict.last_end


def _time(value: str | datetime | None) -> datetime | None:
    return parse_datetime(value) if isinstance(value, str) else value
