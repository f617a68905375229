"""Alerts follow what judging says of a series: raised, kept up to date, and cleared."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final, NamedTuple

from modelperf.models import Alert
from modelperf.services.alerts_conditions import (
    JUDGED_TYPES,
    OWN_PART,
    OpenAlert,
    Wanted,
    common_key,
    condition_key,
    wanted_alerts,
)
from modelperf.services.metrics_rows import END_OF_TIME, START_OF_TIME, Subject
from modelperf.services.policies import PolicyValues

SYSTEM: Final = "system"
_MISSING: Final = Alert.Type.EVALUATION_MISSING.value
_DATA_DRIFT: Final = Alert.Type.DATA_DRIFT.value
RETRAINED: Final = "retrained_model"
RETIRED: Final = "retired"
HISTORY_CHANGED: Final = "history_changed"
# Falls from a level of the version's own, which a newer version does not share.
FALLS: Final = frozenset({"change_point", "collapse"})
PROVED_RULES: Final = FALLS | {OWN_PART}
_TOUCHING: Final = frozenset({"opened", "cleared", "in_fleet_alert"})


@dataclass(frozen=True, slots=True)
class Followed:
    """A series whose alerts follow: the verdict on its active version, and what else was seen.

    `seen_through` is the end of the newest evaluation judged, `window` is how long they last;
    `compares` tells that machines were compared, which only checks do. `seen` are alerts of other
    types that are wanted, `seen_types` the types that were looked for.
    """

    subject: Subject
    verdict: dict[str, Any]
    open_alerts: Sequence[OpenAlert]
    policy: PolicyValues
    replayed: bool = False
    seen_through: datetime | None = None
    window: timedelta = timedelta()
    seen: Mapping[str, Wanted] = field(default_factory=dict)
    seen_types: frozenset[str] = frozenset()
    compares: bool = False


class Fleet(NamedTuple):
    """What an alert is about that is about no single series: all machines of a model type."""

    model_type: str
    machine_id: None = None
    model_id: None = None
    model_version: None = None


class SeriesPlace(NamedTuple):
    """What an alert is about that no verdict asks for: a series, whichever version serves it."""

    machine_id: uuid.UUID
    model_type: str
    model_id: uuid.UUID | None = None
    model_version: int | None = None


Place = Subject | Fleet | SeriesPlace
Span = tuple[datetime, datetime]


class Cleared(NamedTuple):
    """An alert that ends, why, and the end of the newest evaluation that was looked at."""

    alert: OpenAlert
    action: str
    seen_through: datetime | None = None


@dataclass(slots=True)
class Changes:
    """What is to become of alerts, by condition key.

    `wanted` are all conditions there are now, whether they have earned an alert or not, and
    `spans` the times between which each may have begun. `seen_through` says of each model type how
    far its series were looked at, `unjudged` which versions serve that cannot be judged yet, and
    `unmoved` are the conditions of distributions that were found to be as they should.
    """

    raised: dict[str, tuple[Wanted, Place]] = field(default_factory=dict)
    kept: dict[str, tuple[OpenAlert, Wanted, Place]] = field(default_factory=dict)
    cleared: dict[str, Cleared] = field(default_factory=dict)
    wanted: dict[str, tuple[Wanted, Subject]] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    alert_ids: dict[str, uuid.UUID] = field(default_factory=dict)
    reasons: dict[uuid.UUID, list[dict[str, Any]]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    seen_through: dict[str, datetime] = field(default_factory=dict)
    unjudged: dict[tuple[uuid.UUID, str], uuid.UUID] = field(default_factory=dict)
    unmoved: list[str] = field(default_factory=list)

    def told(self, place: Place, key: str, decision: str, **more: Any) -> None:
        """Note why a condition has an alert or none, for the verdict that is stored."""
        if place.model_id is None:
            return
        entry = {"condition_key": key, "decision": decision, **more}
        self.reasons.setdefault(place.model_id, []).append(entry)

    def fleet_keys(self) -> list[str]:
        """Return the conditions of the fleet that have an alert from now on."""
        found = {*self.raised, *self.kept} - self.refused
        return sorted(key for key in found if key.startswith("fleet:"))

    def goes_on(self, key: str) -> OpenAlert | None:
        """Keep, under the name that it has now, the alert that a raised condition had before.

        By more of its history a fall may turn out to be a collapse, or no cliff after all: that is
        one condition, which did not end to begin anew.
        """
        wanted, place = self.raised[key]
        if wanted.details.get("rule") not in FALLS:
            return None
        for before, ended in self.cleared.items():
            is_fall = ended.alert.details.get("rule") in FALLS
            if is_fall and before != key and common_key(before) == common_key(key):
                self.kept[key] = (ended.alert, wanted, place)
                del self.raised[key], self.cleared[before]
                for entry in self.reasons.get(place.model_id, ()) if place.model_id else ():
                    if entry["condition_key"] == before and entry["decision"] == "cleared":
                        entry |= {"condition_key": key, "decision": "kept"}
                return ended.alert
        return None

    def refuse(self, key: str, place: Place, alert_id: uuid.UUID) -> None:
        """Note that a person has resolved a condition, and that its alert stays resolved."""
        self.refused.add(key)
        self.told(place, key, "resolved_by_person", alert_id=str(alert_id))
        for entry in chain.from_iterable(self.reasons.values()):
            if entry.get("fleet") == key:
                entry["decision"] = "resolved_by_person"

    @property
    def touched(self) -> set[uuid.UUID]:
        """The versions for which an alert opened or ended."""
        return {
            model_id
            for model_id, entries in self.reasons.items()
            if any(entry["decision"] in _TOUCHING for entry in entries)
        }

    def documents(self) -> dict[uuid.UUID, dict[str, Any]]:
        """Return the reasons as they are stored with verdicts."""
        touched = self.touched
        return {
            model_id: {"touched": model_id in touched, "decisions": entries}
            for model_id, entries in self.reasons.items()
        }


def decide(followed: Iterable[Followed], *, cut_off: Callable[[Followed], float]) -> Changes:
    """Return what becomes of the alerts of some series.

    What another version was alerted for is not cleared by one that cannot be judged yet. An alert
    stays while its condition does, even where the cut-off has become lower since; only where the
    history or the rules changed (`replayed`) it must be earned anew, so that the order of arrival
    leaves no trace.
    """
    changes = Changes()
    for one in followed:
        if one.seen_through is not None:
            seen, kind = changes.seen_through, one.subject.model_type
            seen[kind] = max(one.seen_through, seen.get(kind, one.seen_through))
        if one.verdict["status"] == "insufficient_data":
            changes.unjudged[one.subject.series] = one.subject.model_id
        if _DATA_DRIFT in one.seen_types:
            key = condition_key(one.subject, _DATA_DRIFT, "")
            changes.unmoved += [] if key in one.seen else [key]
        if one.verdict["conditions"] or one.open_alerts or one.seen:
            _decide(one, cut_off, changes)
    return changes


def _decide(one: Followed, cut_off: Callable[[Followed], float], changes: Changes) -> None:
    unresolved = {alert.condition_key: alert for alert in one.open_alerts}
    limit = cut_off(one) if _has_change_point(one.verdict) else 0.0
    every = _wanted(one, cut_off=1.0)
    earned = _wanted(one, cut_off=limit)
    kept = {**one.seen, **(earned if one.replayed else every)}
    changes.spans |= {
        key: _span(one, wanted.details) for key, wanted in {**one.seen, **every}.items()
    }
    changes.wanted |= {key: (wanted, one.subject) for key, wanted in {**one.seen, **every}.items()}
    for key, wanted in kept.items():
        if key in unresolved:
            changes.kept[key] = (unresolved[key], wanted, one.subject)
            alert_id = str(unresolved[key].id)
            changes.told(one.subject, key, "kept", alert_id=alert_id, cut_off=limit)
        elif key in earned or key in one.seen:
            changes.raised[key] = (wanted, one.subject)
    for key in every.keys() - earned.keys() - (unresolved.keys() & kept.keys()):
        changes.told(one.subject, key, "above_cut_off", cut_off=limit)
    _decide_clearing(one, unresolved, kept, changes)


def _wanted(one: Followed, *, cut_off: float) -> dict[str, Wanted]:
    through = one.seen_through
    return wanted_alerts(one.subject, one.verdict, cut_off=cut_off, seen_through=through)


def _span(one: Followed, details: dict[str, Any]) -> Span:
    """Return between which times a condition may have begun, a window more on either side.

    Machines whose windows do not coincide are then compared fairly.
    """
    at = details.get("changed_at")
    first, last = details.get("changed_after") or at, details.get("changed_before") or at
    if at == one.verdict["changed_at"]:
        first = one.verdict["changed_after"] or first
        last = one.verdict["changed_before"] or last
    if first is None or last is None:
        return START_OF_TIME, END_OF_TIME
    return datetime.fromisoformat(first) - one.window, datetime.fromisoformat(last) + one.window


def _has_change_point(verdict: dict[str, Any]) -> bool:
    return any(condition["rule"] == "change_point" for condition in verdict["conditions"])


def _decide_clearing(
    one: Followed,
    unresolved: Mapping[str, OpenAlert],
    kept: Mapping[str, Wanted],
    changes: Changes,
) -> None:
    """Clear what is gone, except what a newer version has yet to prove (`retraining_proof`).

    A version that is judged by itself alone is as stable on degraded data as on any other.
    """
    judged = one.verdict["status"] != "insufficient_data"
    for key, alert in unresolved.items():
        is_own = judged or alert.model_id == one.subject.model_id
        is_gone = (alert.alert_type in JUDGED_TYPES and is_own) or (
            alert.alert_type in one.seen_types
        )
        if alert.details.get("rule") == OWN_PART and not one.compares:
            continue
        if key not in kept and is_gone and not _awaits_proof(alert, one.subject):
            # Evaluations say nothing of how far features were looked at.
            through = one.seen_through if alert.alert_type in JUDGED_TYPES else None
            changes.cleared[key] = Cleared(alert, _clearing_action(alert, one), through)
            changes.told(one.subject, key, "cleared", alert_id=str(alert.id))


def _awaits_proof(alert: OpenAlert, subject: Subject) -> bool:
    return _is_succeeded(alert, subject) and alert.details.get("rule") in PROVED_RULES


def _is_succeeded(alert: OpenAlert, subject: Subject) -> bool:
    """Whether a newer version serves a series than the one an alert is about."""
    return alert.model_version is not None and alert.model_version < subject.model_version


def _clearing_action(alert: OpenAlert, one: Followed) -> str:
    if alert.alert_type == _MISSING and one.policy.expected_cadence_seconds is None:
        return "no_longer_expected"
    # A limit is the same for every version: to be within it is the proof.
    if alert.details.get("rule") == "limit" and _is_succeeded(alert, one.subject):
        return RETRAINED
    was_judged = alert.alert_type in JUDGED_TYPES
    return HISTORY_CHANGED if one.replayed and was_judged else "recovered"
