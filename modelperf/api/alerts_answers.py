"""What is told of alerts: in lists, one by one, and after a verb."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from django.db.models import F, QuerySet
from msgspec import Struct, field

from modelperf.api.parameters import Instant
from modelperf.models import Alert
from modelperf.services.alerts_thresholds import threshold_of

AlertType = Literal[
    "drift_detected",
    "performance_degradation",
    "data_drift",
    "training_failed",
    "retraining_not_helping",
    "ab_test_completed",
    "evaluation_missing",
]
Severity = Literal["normal", "warning", "critical"]
ThresholdOf = Literal["metric", "z", "ks", "seconds", "trainings"]
Decision = Literal[
    "",
    "told",
    "not_matched",
    "silenced",
    "snoozed",
    "not_wanted",
    "never_told",
    "over_before",
]
MessageStatus = Literal["waiting", "sent", "failed", "dropped"]
State = Literal["open", "acknowledged", "snoozed", "resolved"]


class ActiveAlert(Struct):
    """An unresolved alert; without a machine it is one of the fleet."""

    id: uuid.UUID
    alert_type: str
    severity: Severity
    model_type: str
    machine_id: uuid.UUID | None
    machine_name: str | None
    alert_message: str
    alert_timestamp: Instant
    is_resolved: bool
    auto_action_taken: bool
    state: State
    count: int
    assignee: str | None
    team: str | None
    revision: int
    snoozed_until: Instant | None
    last_seen_at: Instant


class AlertAnswer(Struct):
    """One alert: a condition from its first sight to its resolution.

    `revision` grows with every step of its life; `assignee` and `team` are names. `threshold_of`
    is what `threshold_value` is one of: the metric, Z, the KS distance, seconds between two
    evaluations, or trainings in vain. Of a fall that machines share the current value is Z, too.
    """

    id: uuid.UUID
    alert_type: str
    condition_key: str
    state: State
    occurrences: int
    severity: Severity
    model_id: uuid.UUID | None
    model_type: str
    machine_id: uuid.UUID | None
    machine_name: str | None
    model_version: int | None
    alert_timestamp: Instant
    alert_message: str
    alert_details: dict[str, Any]
    current_metric_value: float | None
    threshold_value: float | None
    threshold_of: ThresholdOf | None
    baseline_metric_value: float | None
    peak_metric_value: float | None
    last_seen_at: Instant
    seen_through: Instant | None
    revision: int
    assignee_name: str | None = field(name="assignee")
    team_name: str | None = field(name="team")
    acknowledged_at: Instant | None
    acknowledged_by: str
    snoozed_until: Instant | None
    snoozed_until_count: int | None
    snoozed_until_worse: bool
    reopened_at: Instant | None
    reopened_by: str
    is_resolved: bool
    resolved_at: Instant | None
    resolution_action: str
    resolved_by: str | None
    resolution_notes: str
    auto_action_taken: bool
    auto_action_type: str
    auto_action_result: Any
    metadata: dict[str, Any]
    created_at: Instant


class MemberAnswer(Struct):
    """A machine that a fleet alert is about; `left_at` tells when it was no longer."""

    machine_id: uuid.UUID
    machine_name: str
    model_id: uuid.UUID
    model_version: int
    details: dict[str, Any]
    joined_at: Instant
    left_at: Instant | None


class StepAnswer(Struct):
    """Something that happened to an alert, and who did it; `verb` is empty where nobody did."""

    when: Instant
    actor: str
    verb: str
    word: str
    old: str
    new: str
    note: str


class ToldAnswer(Struct):
    """What became of something there was to tell, on a route, in a sentence.

    `decision` is empty where nothing is decided yet or there was no route. `status` is that of the
    message that tells it, and null where none does: waiting, also to be tried again; sent; failed,
    which is given up; dropped.
    """

    notice_id: uuid.UUID
    kind: str
    occurred_at: Instant
    route: str
    decision: Decision
    status: MessageStatus | None
    sentence: str


class AlertDetail(AlertAnswer):
    """One alert with its story, oldest first, and why who was or was not told of it.

    Only alerts of the fleet have `members`; who have left are last.
    """

    members: list[MemberAnswer]
    history: list[StepAnswer]
    deliveries: list[ToldAnswer]


class CommentAnswer(Struct):
    """What somebody said about an alert."""

    id: uuid.UUID
    text: str
    created_by: str
    created_at: Instant


class BulkAlertAnswer(Struct):
    """What became of one alert of several; `detail` says why it was left as it is."""

    id: uuid.UUID
    status: Literal["changed", "conflict", "not_found"]
    detail: str | None = None
    state: State | None = None
    revision: int | None = None


def named(found: QuerySet[Alert]) -> QuerySet[Alert]:
    """Add the names that an answer has of others."""
    return found.annotate(
        machine_name=F("machine__name"),
        assignee_name=F("assignee__username"),
        team_name=F("team__name"),
        threshold_of=threshold_of(),
    )
