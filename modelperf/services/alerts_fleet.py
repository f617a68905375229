"""Fleet alerts: one alert for what machines of a model type have in common, with its members."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Any, Final, NamedTuple

import msgspec

from modelperf.models import Alert
from modelperf.models.keys import uuid7
from modelperf.services.alerts_conditions import (
    METRIC_LABELS,
    OpenAlert,
    Wanted,
    common_key,
    condition_key,
)
from modelperf.services.alerts_following import Changes, Fleet
from modelperf.services.database import execute
from modelperf.services.metrics_rows import Subject
from modelperf.services.policies import PolicyValues

Conditions = dict[str, list[str]]  # the condition keys of each machine, by its member key


class Group(NamedTuple):
    """Conditions that may have one cause: of one model type, one kind and one metric."""

    model_type: str
    alert_type: str
    metric: str

    @property
    def condition_key(self) -> str:
        """Return what makes the group's alert one condition."""
        return f"fleet:{self.model_type}:{self.alert_type}:{self.metric}"

    @classmethod
    def of(cls, key: str) -> Group:
        """Return the group of a condition, of a series or of the fleet."""
        scope, rest = common_key(key).split(":", 1)
        parts = rest.split(":", 2 if scope == "fleet" else 3)
        return cls(*parts[-3:])

    def member_key(self, subject: Subject) -> str:
        """Return what stands for all conditions of a machine that are of this group."""
        return condition_key(subject, self.alert_type, self.metric)


@dataclass(frozen=True, slots=True)
class CommonFall:
    """A fall that the machines of a type share; who fell with it, and who has an own problem."""

    group: Group
    changed_at: str
    statistic: float
    threshold: float
    p_value: float | None
    effect: float
    members: Mapping[uuid.UUID, Subject]
    own: frozenset[uuid.UUID]


@dataclass(slots=True)
class OpenFleetAlert:
    """An unresolved fleet alert with the members that have not left, by condition key."""

    alert: OpenAlert
    n_joined: int
    members: dict[str, Present]


class Present(NamedTuple):
    """A member that has not left; `had_own` where its own series showed the fall as well."""

    machine_id: uuid.UUID
    model_id: uuid.UUID
    had_own: bool


class Member(NamedTuple):
    """A machine that joins or leaves a fleet alert."""

    fleet_key: str
    machine_id: uuid.UUID
    model_id: uuid.UUID
    condition_key: str
    details: dict[str, Any]
    has_left: bool


@dataclass(frozen=True, slots=True)
class Type:
    """A model type of the fleet: its machines in service, and its policy."""

    n_machines: int
    policy: PolicyValues

    @property
    def fewest_in_storm(self) -> int:
        """How many machines at once are one fleet alert."""
        share = ceil(self.policy.fleet_alert_share * self.n_machines)
        return max(self.policy.fleet_alert_machines, share)


def read_open() -> dict[Group, OpenFleetAlert]:
    """Return the unresolved fleet alerts."""
    found = execute(
        """
        SELECT a.id, a.condition_key, a.alert_type, a.severity, a.occurrences, a.alert_details,
            count(m.id),
            jsonb_agg(
                jsonb_build_array(m.condition_key, m.machine_id, m.model_id, m.details <> '{}'))
                FILTER (WHERE m.left_at IS NULL AND m.id IS NOT NULL)
        FROM model_alerts a LEFT JOIN model_alert_members m ON m.alert_id = a.id
        WHERE a.machine_id IS NULL AND NOT a.is_resolved
        GROUP BY a.id
        """
    )
    return {
        Group.of(key): OpenFleetAlert(
            OpenAlert(
                id=alert_id,
                model_id=None,
                condition_key=key,
                alert_type=kind,
                severity=severity,
                occurrences=occurrences,
                details=msgspec.json.decode(details),
            ),
            n_joined,
            _members(members),
        )
        for alert_id, key, kind, severity, occurrences, details, n_joined, members in found
        if key.startswith("fleet:")
    }


def _members(packed: str | bytes | None) -> dict[str, Present]:
    rows = [] if packed is None else msgspec.json.decode(packed, type=list[_Row])
    return {key: Present(machine_id, model_id, had) for key, machine_id, model_id, had in rows}


_Row = tuple[str, uuid.UUID, uuid.UUID, bool]


@dataclass(slots=True)
class Gathering:
    """Moves what has one cause out of the series' own changes into fleet alerts."""

    changes: Changes
    types: Mapping[str, Type]
    falls: Mapping[Group, CommonFall]
    is_known: frozenset[uuid.UUID]
    members: list[Member] = field(default_factory=list)

    def gather(self, open_alerts: Mapping[Group, OpenFleetAlert]) -> None:
        """Open, continue and end fleet alerts; their members get no alert of their own."""
        wanted: dict[Group, Conditions] = defaultdict(lambda: defaultdict(list))
        for key in self.changes.wanted:
            wanted[Group.of(key)][common_key(key)].append(key)
        for group in {*wanted, *open_alerts, *self.falls}:
            if group.model_type not in self.types:
                continue
            if group in open_alerts:
                self._continue(group, open_alerts[group], wanted[group])
            else:
                self._open(group, wanted[group])

    def _open(self, group: Group, wanted: Conditions) -> None:
        fall = self.falls.get(group)
        joining = self._fallen(group) if fall else self._raised(wanted)
        if len(joining) < (1 if fall else self.types[group.model_type].fewest_in_storm):
            return
        says = self._wanted(group, joining, wanted)
        self.changes.raised[group.condition_key] = (says, Fleet(group.model_type))
        for member_key, subject in joining.items():
            self._join(group, member_key, subject, wanted)

    def _fallen(self, group: Group) -> dict[str, Subject]:
        """Return who fell with the others and has no problem of its own beside that."""
        fall = self.falls.get(group)
        if fall is None:
            return {}
        return {
            group.member_key(subject): subject
            for model_id, subject in fall.members.items()
            if model_id not in fall.own and model_id in self.is_known
        }

    def _raised(self, wanted: Conditions) -> dict[str, Subject]:
        """Return whose alerts are new."""
        raised = self.changes.raised
        return {
            member_key: self.changes.wanted[keys[0]][1]
            for member_key, keys in wanted.items()
            if any(key in raised for key in keys)
        }

    def _join(self, group: Group, member_key: str, subject: Subject, wanted: Conditions) -> None:
        details: dict[str, Any] = {}
        for key in wanted.get(member_key, ()):
            details = details or self.changes.wanted[key][0].details
            self.changes.raised.pop(key, None)
            if key in self.changes.kept:
                alert, _, _ = self.changes.kept.pop(key)
                self.changes.cleared[key] = (alert, "in_fleet_alert")
            self.changes.told(subject, key, "in_fleet_alert", fleet=group.condition_key)
        ids = subject.machine_id, subject.model_id
        self.members.append(Member(group.condition_key, *ids, member_key, details, False))

    def _leave(self, group: Group, now_open: OpenFleetAlert, member_key: str) -> None:
        ids = now_open.members[member_key][:2]
        self.members.append(Member(group.condition_key, *ids, member_key, {}, has_left=True))

    def _continue(self, group: Group, now_open: OpenFleetAlert, wanted: Conditions) -> None:
        fall, fallen, members = self.falls.get(group), self._fallen(group), now_open.members
        # Whose own series showed the fall and is well leaves, though the fleet's split stays.
        left = {
            key
            for key, one in members.items()
            if key not in wanted
            and (one.had_own or key not in fallen)
            and one.model_id in self.is_known
        }
        staying = members.keys() - left
        shared = {key: one for key, one in fallen.items() if key in wanted}
        own = fall.own if fall else frozenset()
        joining = {
            key: subject
            for key, subject in (self._raised(wanted) | shared).items()
            if key not in members and subject.model_id not in own
        }
        self.changes.alert_ids[group.condition_key] = now_open.alert.id
        for key in left:
            self._leave(group, now_open, key)
        if fall is None and 2 * (len(staying) + len(joining)) <= now_open.n_joined:
            # The fleet is well again: whoever is not gets an alert of its own.
            self.changes.cleared[group.condition_key] = (now_open.alert, "recovered")
            for key in staying:
                self._leave(group, now_open, key)
            return
        for member_key in staying:
            for key in wanted.get(member_key, ()):
                if (found := self.changes.raised.pop(key, None)) is not None:
                    self.changes.told(found[1], key, "in_fleet_alert", fleet=group.condition_key)
        for member_key, subject in joining.items():
            self._join(group, member_key, subject, wanted)
        says = self._wanted(group, [*staying, *joining], wanted, before=now_open.alert)
        self.changes.kept[group.condition_key] = (now_open.alert, says, Fleet(group.model_type))

    def _wanted(
        self,
        group: Group,
        members: Collection[str],
        wanted: Conditions,
        *,
        before: OpenAlert | None = None,
    ) -> Wanted:
        """Return what a fleet alert says now; it keeps the date it opened with."""
        own = [self.changes.wanted[key][0] for one in members for key in wanted.get(one, ())]
        fall, n_machines = self.falls.get(group), self.types[group.model_type].n_machines
        dates = sorted(date for one in own if (date := one.details.get("changed_at")))
        changed_at = fall.changed_at if fall else (dates[0] if dates else None)
        if before is not None:
            changed_at = before.details.get("changed_at")
        return Wanted(
            condition_key=group.condition_key,
            alert_type=group.alert_type,
            severity="critical" if any(one.severity == "critical" for one in own) else "warning",
            message=_message(group, len(members), n_machines, changed_at),
            occurrences=max([1, *(one.occurrences for one in own)]),
            current=fall.statistic if fall else None,
            threshold=fall.threshold if fall else None,
            baseline=None,
            details={
                "rule": "common_cause" if fall else "storm",
                "metric": group.metric,
                "changed_at": changed_at,
                "n_members": len(members),
                "n_machines": n_machines,
                "statistic": fall.statistic if fall else None,
                "p_value": fall.p_value if fall else None,
                "effect": fall.effect if fall else None,
            },
        )


def _message(group: Group, n: int, n_machines: int, changed_at: str | None) -> str:
    label = METRIC_LABELS.get(group.metric, group.metric)
    says = _SAYS.get(group.alert_type, f"{label} is worse")
    since = f" since {changed_at:.10}" if changed_at else ""
    return f"{group.model_type}: {says}{since} on {n} of {n_machines} machines together."


_SAYS: Final = {
    Alert.Type.EVALUATION_MISSING.value: "no evaluations",
    Alert.Type.DATA_DRIFT.value: "distributions have moved",
}


def write_members(
    members: Iterable[Member], alert_ids: Mapping[str, uuid.UUID], now: datetime
) -> None:
    """Write who joined and who left; a machine that comes again is a member again."""
    rows = [
        (
            uuid7(),
            alert_ids[one.fleet_key],
            one.machine_id,
            one.model_id,
            one.condition_key,
            msgspec.json.encode(one.details).decode(),
            now,
            now if one.has_left else None,
        )
        for one in members
        if one.fleet_key in alert_ids
    ]
    if rows:
        execute(_WRITE_MEMBERS, [list(column) for column in zip(*rows, strict=True)])


_WRITE_MEMBERS: Final = """
    INSERT INTO model_alert_members AS m
        (id, alert_id, machine_id, model_id, condition_key, details, joined_at, left_at)
    SELECT w.* FROM unnest(%b::uuid[], %b::uuid[], %b::uuid[], %b::uuid[], %b::text[], %b::jsonb[],
        %b::timestamptz[], %b::timestamptz[])
        AS w (id, alert_id, machine_id, model_id, condition_key, details, joined_at, left_at)
    -- Not where a person has reopened an earlier alert of the fleet a moment ago.
    JOIN model_alerts a ON a.id = w.alert_id
    ON CONFLICT (alert_id, machine_id) DO UPDATE SET left_at = EXCLUDED.left_at,
        model_id = EXCLUDED.model_id,
        details = CASE WHEN EXCLUDED.left_at IS NULL THEN EXCLUDED.details ELSE m.details END
"""
