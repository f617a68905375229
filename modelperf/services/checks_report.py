"""What a check of the fleet reports: a line on each version, and the counts."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.utils import timezone

from modelperf.services.alerts_following import Changes
from modelperf.services.checks_seeing import Seen
from modelperf.services.drift_judgement import Judged

_EARNED: Final = frozenset({"opened", "kept", "would_open", "in_fleet_alert"})


class Look(NamedTuple):
    """What a check says of one model version."""

    model_id: uuid.UUID
    machine_id: uuid.UUID
    machine_name: str
    model_type: str
    model_version: int
    is_active: bool
    status: str
    is_stale: bool
    metric: str | None
    statistic: float | None
    p_value: float | None
    q_value: float | None
    effect: float | None
    changed_at: str | None
    conditions: list[str]
    drifted_features: list[str]
    decisions: list[str]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check; `check_run_id` is None where nothing was stored."""

    check_run_id: uuid.UUID | None
    started_at: datetime
    finished_at: datetime
    n_series: int
    n_rejected: int
    n_judged: int
    n_skipped: int
    summary: dict[str, Any]
    looks: list[Look]

    @property
    def has_drift(self) -> bool:
        """Whether something drifts that has earned an alert."""
        return bool(self.summary["fleet_alerts"]) or any(
            (look.conditions or look.drifted_features) and _EARNED.intersection(look.decisions)
            for look in self.looks
        )


def report_on(
    seen: Seen,
    changes: Changes,
    skipped: Collection[uuid.UUID],
    started_at: datetime,
    run_id: uuid.UUID | None,
) -> Report:
    """Return the report on what was seen and what became of the alerts."""
    looks = [_look(one, seen, changes) for one in seen.judged]
    active = [look for look in looks if look.is_active]
    opened = [key for key in changes.fleet_keys() if key not in changes.kept]
    ended = [key for key in changes.cleared if key.startswith("fleet:")]
    summary = {
        "by_status": dict(Counter("stale" if one.is_stale else one.status for one in active)),
        "opened": _count(changes, "opened") + len(opened),
        "cleared": _count(changes, "cleared") + len(ended),
        "above_cut_off": _count(changes, "above_cut_off"),
        "in_fleet_alerts": _count(changes, "in_fleet_alert"),
        "fleet_alerts": changes.fleet_keys(),
        "drifted_features": sum(bool(one.drifted_features) for one in active),
    }
    return Report(
        check_run_id=run_id,
        started_at=started_at,
        finished_at=max(timezone.now(), started_at),
        n_series=seen.cut_off.n_judged,
        n_rejected=seen.cut_off.n_rejected,
        n_judged=seen.n_judged,
        n_skipped=len(skipped),
        summary=summary,
        looks=looks,
    )


def _count(changes: Changes, decision: str) -> int:
    entries = (entry for told in changes.reasons.values() for entry in told)
    return sum(entry["decision"] == decision for entry in entries)


def _look(one: Judged, seen: Seen, changes: Changes) -> Look:
    subject, verdict = one.position.subject, one.verdict
    decisions = changes.reasons.get(subject.model_id, [])
    features = seen.features.get(subject.model_id, [])
    return Look(
        model_id=subject.model_id,
        machine_id=subject.machine_id,
        machine_name=subject.machine_name,
        model_type=subject.model_type,
        model_version=subject.model_version,
        is_active=subject.is_active,
        status=verdict["status"],
        is_stale=subject.model_id in seen.overdue,
        metric=verdict["metric"],
        statistic=verdict["statistic"],
        p_value=verdict["p_value"],
        q_value=seen.q_values.get(subject.model_id),
        effect=verdict["effect"],
        changed_at=verdict["changed_at"],
        conditions=[condition["rule"] for condition in verdict["conditions"]],
        drifted_features=[one["name"] for one in features if one["status"] == "drifted"],
        decisions=[entry["decision"] for entry in decisions],
    )
