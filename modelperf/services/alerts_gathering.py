"""Gathering: what the series of a check have in common becomes one alert with members."""

from __future__ import annotations

import uuid
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelperf.services.alerts_conditions import JUDGED_TYPES, OpenAlert, Wanted, common_key
from modelperf.services.alerts_earlier import is_another_matter
from modelperf.services.alerts_fleet import (
    CommonFall,
    Conditions,
    FleetAlert,
    Group,
    Member,
    Present,
    Type,
    common_message,
    storm_message,
)
from modelperf.services.alerts_following import RETIRED, Changes, Cleared, Fleet, Place, Span
from modelperf.services.metrics_rows import Subject

Machines = dict[str, Subject]  # by member key


@dataclass(slots=True)
class Gathering:
    """Moves what has one cause out of the series' own changes into fleet alerts.

    `skipped` are versions that changed while the check looked at them: of those nothing is known.
    What opened `since` the check before is as new as what opens now.
    """

    changes: Changes
    types: Mapping[str, Type]
    falls: Mapping[Group, CommonFall]
    skipped: Collection[uuid.UUID]
    since: datetime
    members: list[Member] = field(default_factory=list)

    def gather(self, known: Mapping[Group, FleetAlert]) -> None:
        """Open, continue and end fleet alerts; their members get no alert of their own."""
        wanted: dict[Group, Conditions] = defaultdict(lambda: defaultdict(list))
        for key in self.changes.wanted:
            wanted[Group.of(key)][common_key(key)].append(key)
        for group in {*wanted, *known, *self.falls}:
            alert = known.get(group)
            if group.model_type not in self.types:
                if alert is not None and not alert.is_resolved and alert.is_retired:
                    self._end(group, alert, alert.members)
            elif alert is None:
                self._open(group, wanted[group], None)
            elif alert.is_resolved:
                self._open_again(group, wanted[group], alert)
            else:
                self._continue(group, alert, wanted[group])

    def _open_again(self, group: Group, wanted: Conditions, alert: FleetAlert) -> None:
        """Raise nothing for members of what a person resolved, unless it is another matter.

        Where others bring the alert back, those that are as they were are part of it again.
        """
        settled: dict[str, Place] = {}
        for member_key, member in alert.members.items():
            for key in wanted.get(member_key, ()):
                if key not in self.changes.raised:
                    continue
                says, subject = self.changes.raised[key]
                if not is_another_matter(says.details, member.details or alert.alert.details):
                    del self.changes.raised[key]
                    settled[key] = subject
        self._open(group, wanted, alert)
        if group.condition_key not in self.changes.raised:
            for key, subject in settled.items():
                self.changes.refuse(key, subject, alert.alert.id)

    def _open(self, group: Group, wanted: Conditions, resolved: FleetAlert | None) -> None:
        """Open a fleet alert where machines share a fall, or where enough alert at once."""
        fewest = self.types[group.model_type].fewest_in_storm
        fall = self.falls.get(group)
        if fall and resolved and fall.changed_at <= (resolved.alert.details["changed_at"] or ""):
            fall = None
        joining = self._fallen(group) if fall else {}
        if len(joining) < fewest:
            fall, joining = None, self._at_once(wanted)
        if len(joining) < fewest:
            return
        if resolved is not None:
            joining |= self._lasting(resolved, joining, wanted)
            for member_key in resolved.members.keys() - joining.keys():
                self._leave(group, resolved, member_key)
        says = self._says(group, joining, wanted, fall)
        self.changes.raised[group.condition_key] = (says, Fleet(group.model_type))
        for member_key, subject in joining.items():
            self._join(group, member_key, subject, wanted)

    def _lasting(self, alert: FleetAlert, joining: Machines, wanted: Conditions) -> Machines:
        """Return who else of a resolved alert is still as it was, and has no alert of its own."""
        return {
            key: self._subject(wanted[key])
            for key in alert.members.keys() & wanted.keys() - joining.keys()
            if not any(self._has_alert(one) for one in wanted[key])
        }

    def _has_alert(self, key: str) -> bool:
        return key in self.changes.raised or key in self.changes.kept

    def _fallen(self, group: Group) -> Machines:
        """Return who fell with the others and has no problem of its own beside that."""
        fall = self.falls.get(group)
        if fall is None:
            return {}
        return {
            group.member_key(subject): subject
            for model_id, subject in fall.members.items()
            if model_id not in fall.own and model_id not in self.skipped
        }

    def _at_once(self, wanted: Conditions) -> Machines:
        """Return the most machines with a new alert that may have begun together.

        Whether recording opened it or this check is about to makes no difference.
        """
        spans: dict[str, Span] = {}
        for member_key, keys in wanted.items():
            if alerted := [key for key in keys if self._is_new(key)]:
                spans[member_key] = self.changes.spans[min(alerted)]
        together = _most_overlapping(spans) if spans else []
        return {one: self._subject(wanted[one]) for one in together}

    def _is_new(self, key: str) -> bool:
        kept = self.changes.kept.get(key)
        return key in self.changes.raised or (kept is not None and kept[0].opened_at > self.since)

    def _subject(self, keys: list[str]) -> Subject:
        return self.changes.wanted[keys[0]][1]

    def _join(self, group: Group, member_key: str, subject: Subject, wanted: Conditions) -> None:
        details: dict[str, Any] = {}
        for key in wanted.get(member_key, ()):
            details = details or self.changes.wanted[key][0].details
            self.changes.raised.pop(key, None)
            if key in self.changes.kept:
                alert, _, _ = self.changes.kept.pop(key)
                through = self.changes.wanted[key][0].seen_through
                self.changes.cleared[key] = Cleared(alert, "in_fleet_alert", through)
            self.changes.told(subject, key, "in_fleet_alert", fleet=group.condition_key)
        ids = subject.machine_id, subject.model_id
        self.members.append(Member(group.condition_key, *ids, member_key, details, False))

    def _leave(self, group: Group, alert: FleetAlert, member_key: str) -> None:
        ids = alert.members[member_key][:2]
        self.members.append(Member(group.condition_key, *ids, member_key, {}, has_left=True))

    def _continue(self, group: Group, alert: FleetAlert, wanted: Conditions) -> None:
        fall, members = self.falls.get(group), alert.members
        left = self._left(group, alert, wanted)
        staying = members.keys() - left
        joining = self._joining(group, alert, wanted)
        for key in left:
            self._leave(group, alert, key)
        if fall is None and 2 * (len(staying) + len(joining)) <= alert.n_joined:
            self._end(group, alert, staying)
            return
        for member_key in staying:
            for key in wanted.get(member_key, ()):
                if (found := self.changes.raised.pop(key, None)) is not None:
                    self.changes.told(found[1], key, "in_fleet_alert", fleet=group.condition_key)
        for member_key, subject in joining.items():
            self._join(group, member_key, subject, wanted)
        self.changes.alert_ids[group.condition_key] = alert.alert.id
        present = [*staying, *joining]
        if fall is not None or any(one in wanted for one in present):
            says = self._says(group, present, wanted, fall, before=alert.alert)
            self.changes.kept[group.condition_key] = (alert.alert, says, Fleet(group.model_type))

    def _end(self, group: Group, alert: FleetAlert, staying: Collection[str]) -> None:
        """End what the fleet has no longer: whoever is not well gets an alert of its own."""
        through = self._seen_through(group)
        action = "recovered" if alert.n_joined else RETIRED
        self.changes.cleared[group.condition_key] = Cleared(alert.alert, action, through)
        self.changes.alert_ids[group.condition_key] = alert.alert.id
        for key in staying:
            self._leave(group, alert, key)

    def _left(self, group: Group, alert: FleetAlert, wanted: Conditions) -> set[str]:
        """Return who is well, or no longer in service.

        Whose own series showed the fall and is well leaves, though the fleet's split stays. Of a
        newer version that cannot be judged yet nobody knows that it is well.
        """
        fallen = self._fallen(group)
        return {
            key
            for key, one in alert.members.items()
            if key not in wanted
            and (one.details or key not in fallen)
            and one.model_id not in self.skipped
            and not (one.in_service and self._is_unproved(group, one))
        }

    def _is_unproved(self, group: Group, one: Present) -> bool:
        serves = self.changes.unjudged.get((one.machine_id, group.model_type), one.model_id)
        return group.alert_type in JUDGED_TYPES and serves != one.model_id

    def _joining(self, group: Group, alert: FleetAlert, wanted: Conditions) -> Machines:
        """Return whose alerts, new or not, share the fall, or began when those of members did."""
        fall = self.falls.get(group)
        fallen, own = self._fallen(group), fall.own if fall else frozenset()
        spans = [self.changes.spans[wanted[key][0]] for key in alert.members if key in wanted]
        enough = self.types[group.model_type].fewest_in_storm
        machines: Machines = {}
        for key in wanted.keys() - alert.members.keys():
            subject, span = self._subject(wanted[key]), self.changes.spans[wanted[key][0]]
            has_alert = any(self._has_alert(one) for one in wanted[key])
            is_alike = key in fallen or _overlap(span, spans, enough)
            if has_alert and is_alike and subject.model_id not in own:
                machines[key] = subject
        return machines

    def _says(
        self,
        group: Group,
        members: Collection[str],
        wanted: Conditions,
        fall: CommonFall | None,
        *,
        before: OpenAlert | None = None,
    ) -> Wanted:
        """Return what a fleet alert says now; it keeps the cause and date it opened with."""
        own = [self.changes.wanted[key][0] for one in members for key in wanted.get(one, ())]
        dates = sorted(date for one in own if (date := one.details.get("changed_at")))
        n_machines = self.types[group.model_type].n_machines
        details: dict[str, Any] = {
            "rule": "common_cause" if fall else "storm",
            "changed_at": fall.changed_at if fall else (dates[0] if dates else None),
            "statistic": fall.statistic if fall else None,
            "p_value": fall.p_value if fall else None,
            "effect": fall.effect if fall else None,
        }
        if before is not None and not (fall and before.details["rule"] == "storm"):
            details |= {name: before.details[name] for name in ("rule", "changed_at")}
        is_common = details["rule"] == "common_cause"
        return Wanted(
            condition_key=group.condition_key,
            alert_type=group.alert_type,
            severity="critical" if any(one.severity == "critical" for one in own) else "warning",
            message=common_message(group, len(members), n_machines, details["changed_at"])
            if is_common
            else storm_message(group, len(members), n_machines, dates),
            occurrences=max([1, *(one.occurrences for one in own)]),
            current=fall.statistic if fall else None,
            threshold=fall.threshold if fall else None,
            baseline=None,
            details={
                **details,
                "metric": group.metric,
                "n_members": len(members),
                "n_machines": n_machines,
            },
            seen_through=self._seen_through(group, own),
        )

    def _seen_through(self, group: Group, own: Collection[Wanted] = ()) -> datetime | None:
        """Return how far machines were looked at: their evaluations, or windows of features."""
        if group.alert_type in JUDGED_TYPES:
            return self.changes.seen_through.get(group.model_type)
        return max((one.seen_through for one in own if one.seen_through), default=None)


def _overlap(span: Span, others: Collection[Span], enough: int) -> bool:
    """Whether a span has a moment in common with more than half of some others, or with enough."""
    common = sum(first <= span[1] and span[0] <= last for first, last in others)
    return 2 * common > len(others) or common >= enough


def _most_overlapping(spans: Mapping[str, Span]) -> list[str]:
    """Return the keys of the largest set of spans that have a moment in common."""
    firsts, lasts = (sorted(moments) for moments in zip(*spans.values(), strict=True))
    moment = max(firsts, key=lambda at: bisect_right(firsts, at) - bisect_left(lasts, at))
    return [key for key, (first, last) in spans.items() if first <= moment <= last]
