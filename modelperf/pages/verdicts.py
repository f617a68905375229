"""Verdicts as stored, and the state in which they leave a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.dateparse import parse_datetime

from modelperf.models import DriftState, ModelVersion
from modelperf.models.metrics import Evaluation
from modelperf.services.drift_following import missed_since
from modelperf.services.policies import PolicyValues

LEAST_OLD = timedelta(days=8)  # a weekly job over short windows is not late before
WORDS = {
    "degraded": "Degraded",
    "limit": "Limit crossed",
    "improved": "Improved",
    "improvement_lost": "Improvement lost",
    "stable": "Stable",
    "insufficient": "Not enough data",
    "stale": "Stale",
    "old": "Old",
    "none": "No evaluation",
    "data_drift": "Data drift",
    "evaluation_missing": "Evaluations missing",
}
# Which states silence replaces: what was fine is not known to be so any more.
GIVES_WAY = frozenset({"stable", "improved", "insufficient", "improvement_lost"})
WORST_FIRST = (
    "degraded",
    "limit",
    "stale",
    "improvement_lost",
    "old",
    "insufficient",
    "none",
    "improved",
    "stable",
)
COLOURS = {
    "limit": "degraded",
    "improvement_lost": "stable",
    "data_drift": "drift",
    "evaluation_missing": "stale",
}


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


def state_of(verdict: Verdict | None, latest: Evaluation | None, silence: Silence | None) -> State:
    """Return how a series stands now: what was fine long ago is not known to be fine."""
    if latest is None:
        return State("none")
    state = verdict.state if verdict else State("insufficient")
    return silence.state if silence and state.kind in GIVES_WAY else state


@dataclass(frozen=True, slots=True)
class Silence:
    """No evaluation of the active version for long: since when, and by when one was due.

    Only a policy says when one is due, and that a series is stale; without that it is old.
    """

    since: datetime
    due_at: datetime | None

    @property
    def state(self) -> State:
        """Stale where evaluations are missing, old where nobody said how often they come."""
        return State("stale" if self.due_at else "old")


def silence_of(
    version: ModelVersion | None,
    latest: Evaluation | None,
    policy: PolicyValues,
    now: datetime,
) -> Silence | None:
    """Return the silence of a series, by the rule of the check where the policy has a cadence."""
    since = last_seen(version, latest)
    if since is None:
        return None
    if version is not None and policy.expected_cadence_seconds is not None:
        due_at = missed_since(since, policy=policy, now=now)
        return Silence(since, due_at) if due_at else None
    if latest is None:
        return None
    patience = max(3 * (latest.evaluation_end - latest.evaluation_start), LEAST_OLD)
    return Silence(since, None) if now - since > patience else None


def last_seen(version: ModelVersion | None, latest: Evaluation | None) -> datetime | None:
    """Return the end of the active version's newest evaluation; a challenger's does not count.

    A version that has none is waited for since it was registered.
    """
    if version is None:
        return latest.evaluation_end if latest else None
    if latest is not None and latest.model_version == version.model_version:
        return latest.evaluation_end
    drift_state: DriftState | None = getattr(version, "drift_state", None)
    return drift_state.last_evaluation_end if drift_state else version.created_at


def _time(value: str | datetime | None) -> datetime | None:
    return parse_datetime(value) if isinstance(value, str) else value
