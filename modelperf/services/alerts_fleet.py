"""Fleet alerts: one alert for what machines of a model type have in common, with its members."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any, Final, NamedTuple

import msgspec

from modelperf.models import Alert
from modelperf.models.keys import uuid7
from modelperf.services.alerts_conditions import (
    METRIC_LABELS,
    OpenAlert,
    common_key,
    condition_key,
)
from modelperf.services.alerts_following import SYSTEM
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
class FleetAlert:
    """A fleet alert, unresolved or resolved by a person, with its present members by key.

    `n_joined` is how many joined since it opened last, those left out that are retired since.
    """

    alert: OpenAlert
    is_resolved: bool
    n_joined: int
    members: dict[str, Present]

    @property
    def is_retired(self) -> bool:
        """Whether it is about no machine any more that is in service."""
        return bool(self.members) and not any(one.in_service for one in self.members.values())


class Present(NamedTuple):
    """A member that has not left, with what its own series showed: nothing, or the fall as well."""

    machine_id: uuid.UUID
    model_id: uuid.UUID
    details: dict[str, Any]
    in_service: bool


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


def read() -> dict[Group, FleetAlert]:
    """Return the fleet alerts that are unresolved, or that a person has resolved."""
    found = execute(
        """
        SELECT a.id, a.condition_key, a.alert_type, a.severity, a.occurrences, a.alert_details,
            a.alert_timestamp, a.seen_through,
            a.is_resolved,
            count(m.id) FILTER (WHERE m.joined_at >= a.alert_timestamp AND s.in_service),
            jsonb_agg(jsonb_build_array(m.condition_key,
                jsonb_build_array(m.machine_id, m.model_id, m.details, s.in_service)))
                FILTER (WHERE m.left_at IS NULL AND m.id IS NOT NULL)
        FROM model_alerts a LEFT JOIN model_alert_members m ON m.alert_id = a.id
        CROSS JOIN LATERAL (
            SELECT EXISTS (
                SELECT FROM model_versions v JOIN machines c ON c.id = v.machine_id
                WHERE v.machine_id = m.machine_id AND v.model_type = a.model_type
                    AND v.is_active AND c.is_active
            ) AS in_service
        ) AS s
        WHERE a.machine_id IS NULL AND a.condition_key LIKE 'fleet:%%'
            AND (NOT a.is_resolved OR a.resolved_by <> %s)
        GROUP BY a.id
        ORDER BY a.is_resolved DESC, a.resolved_at
        """,
        [SYSTEM],
    )
    return {Group.of(row[1]): _fleet_alert(row) for row in found}


def _fleet_alert(row: tuple[Any, ...]) -> FleetAlert:
    alert_id, key, kind, severity, occurrences, details, opened_at, through, *rest = row
    is_resolved, n_joined, members = rest
    alert = OpenAlert(
        id=alert_id,
        model_id=None,
        condition_key=key,
        alert_type=kind,
        severity=severity,
        occurrences=occurrences,
        details=msgspec.json.decode(details),
        opened_at=opened_at,
        seen_through=through,
    )
    return FleetAlert(alert, is_resolved, n_joined, _members(members))


def _members(packed: str | bytes | None) -> dict[str, Present]:
    rows = [] if packed is None else msgspec.json.decode(packed, type=list[_Row])
    return dict(rows)


_Row = tuple[str, Present]


def common_message(group: Group, n: int, n_machines: int, changed_at: str | None) -> str:
    """Return what is said of a fall that the machines share."""
    label = METRIC_LABELS.get(group.metric, group.metric)
    says = _SAYS.get(group.alert_type, f"{label} is worse")
    since = f" since {changed_at:.10}" if changed_at else ""
    return f"{group.model_type}: {says}{since} on {n} of {n_machines} machines together."


def storm_message(group: Group, n: int, n_machines: int, dates: Sequence[str]) -> str:
    """Return what is said of machines that alert at once, from whatever cause."""
    label = METRIC_LABELS.get(group.metric, group.metric)
    says = _SAYS.get(group.alert_type, f"{label} is worse")
    first, last = (f"{dates[0]:.10}", f"{dates[-1]:.10}") if dates else ("", "")
    since = f" since {first}" if first == last else f" since between {first} and {last}"
    return (
        f"{group.model_type}: {n} of {n_machines} machines at once: {says}{since if first else ''}."
    )


_SAYS: Final = {
    Alert.Type.EVALUATION_MISSING.value: "no evaluations",
    Alert.Type.DATA_DRIFT.value: "distributions have moved",
}


def write_members(
    members: Iterable[Member], alert_ids: Mapping[str, uuid.UUID], now: datetime
) -> dict[uuid.UUID, list[uuid.UUID]]:
    """Write who joined and who left; return the machines that joined, by alert.

    A machine that comes again is a member again, from now on.
    """
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
    joined: dict[uuid.UUID, list[uuid.UUID]] = defaultdict(list)
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        for alert_id, machine_id in execute(_WRITE_MEMBERS, columns):
            joined[alert_id].append(machine_id)
    return joined


_WRITE_MEMBERS: Final = """
    WITH written AS (
    INSERT INTO model_alert_members AS m
        (id, alert_id, machine_id, model_id, condition_key, details, joined_at, left_at)
    SELECT w.* FROM unnest(%b::uuid[], %b::uuid[], %b::uuid[], %b::uuid[], %b::text[], %b::jsonb[],
        %b::timestamptz[], %b::timestamptz[])
        AS w (id, alert_id, machine_id, model_id, condition_key, details, joined_at, left_at)
    -- Not where a person has reopened an earlier alert of the fleet a moment ago.
    JOIN model_alerts a ON a.id = w.alert_id
    ON CONFLICT (alert_id, machine_id) DO UPDATE SET left_at = EXCLUDED.left_at,
        model_id = EXCLUDED.model_id,
        joined_at = CASE WHEN EXCLUDED.left_at IS NULL THEN EXCLUDED.joined_at ELSE m.joined_at END,
        details = CASE WHEN EXCLUDED.left_at IS NULL THEN EXCLUDED.details ELSE m.details END
    RETURNING m.alert_id, m.machine_id, m.left_at
    )
    SELECT n.alert_id, n.machine_id FROM written n WHERE n.left_at IS NULL AND NOT EXISTS (
        SELECT FROM model_alert_members b -- as it was before
        WHERE b.alert_id = n.alert_id AND b.machine_id = n.machine_id AND b.left_at IS NULL
    )
"""
