"""Retrainings that alerts ask for, where policies allow them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import Max, QuerySet

from modelperf.models import (
    Alert,
    AlertMember,
    CheckRun,
    ModelPerformanceMetric,
    TrainingRun,
)
from modelperf.services import training
from modelperf.services.alerts_conditions import JUDGED_TYPES, OWN_PART, Wanted
from modelperf.services.alerts_following import SeriesPlace
from modelperf.services.alerts_raising import end_alert, raise_alert, series_key
from modelperf.services.errors import DomainError
from modelperf.services.policies import Policies, PolicyValues
from modelperf.services.retraining_guards import Caps, Refusal, Series, Tried
from modelperf.services.training_after import ACTOR

log = structlog.get_logger(__name__)

_NOT_HELPING: Final = Alert.Type.RETRAINING_NOT_HELPING.value


def trigger(*, now: datetime) -> tuple[list[TrainingRun], list[Refusal]]:
    """Trigger what alerts ask for and nothing speaks against; return that, and what waits.

    Only what a check of the whole fleet has looked at counts: what machines have in common is an
    alert of the fleet by then, and trains none of them.
    """
    policies = Policies.load()
    _end_what_is_over(now)
    alerts = [
        alert
        for alert in _checked_alerts()
        if policies.of(alert.machine_id, alert.model_type).retrain_automatically
    ]
    if not alerts:
        return [], []
    look = _Look(policies, Tried.read(map(_place, alerts), now), Caps.read(now), now)
    look.blocked |= _blocked(alerts)
    look.shared |= _shared(alerts)
    worst: dict[Series, Alert] = {}
    for alert in alerts:
        worst.setdefault(_place(alert), alert)
    for alert in worst.values():
        look.at(alert)
    return look.triggered, look.waiting


def _checked_alerts() -> QuerySet[Alert]:
    """Return the unresolved degradations of single series that the last check looked at."""
    checks = CheckRun.objects.filter(model_type="", machine_id__isnull=True)
    last = checks.aggregate(at=Max("started_at"))["at"]
    found = Alert.objects.unresolved().filter(alert_type__in=JUDGED_TYPES, machine__is_active=True)
    if last is None:
        return found.none()
    return found.filter(alert_timestamp__lte=last).select_related("machine").worst_first()


def _place(alert: Alert) -> Series:
    assert alert.machine_id is not None  # noqa: S101 -- alerts of the fleet are filtered out
    return alert.machine_id, alert.model_type


def _blocked(alerts: Collection[Alert]) -> set[Series]:
    """Return the series of which it is known that retraining does not help."""
    found = Alert.objects.unresolved().filter(
        alert_type=_NOT_HELPING, machine_id__in={alert.machine_id for alert in alerts}
    )
    return set(found.order_by().values_list("machine_id", "model_type"))


def _shared(alerts: Collection[Alert]) -> set[Series]:
    """Return the series that are members of an unresolved alert of the fleet."""
    members = AlertMember.objects.present().filter(
        machine_id__in={alert.machine_id for alert in alerts}, alert__is_resolved=False
    )
    return set(members.order_by().values_list("machine_id", "alert__model_type"))


@dataclass(slots=True)
class _Look:
    """What is known when alerts are looked at, one a series, and what has come of them."""

    policies: Policies
    tried: Tried
    caps: Caps
    now: datetime
    blocked: set[Series] = field(default_factory=set)
    shared: set[Series] = field(default_factory=set)
    triggered: list[TrainingRun] = field(default_factory=list)
    waiting: list[Refusal] = field(default_factory=list)

    def at(self, alert: Alert) -> None:
        """Trigger a run for an alert, or note why not."""
        policy = self.policies.of(*_place(alert))
        found = self._refusal(alert, policy) or _try(alert, policy, self.now)
        if isinstance(found, Refusal):
            self.waiting.append(found)
            _note(alert, found, policy, self.now)
        else:
            self.triggered.append(found)
            self.caps.count(alert.model_type)

    def _refusal(self, alert: Alert, policy: PolicyValues) -> Refusal | None:
        place = _place(alert)
        if place in self.blocked:
            return Refusal(*place, "Retraining has not helped; a person has to look.")
        if place in self.shared and alert.alert_details.get("rule") != OWN_PART:
            return Refusal(*place, "The machine has it in common with others.")
        found = self.tried.refusal(place, policy, self.now)
        full = None if found else self.caps.refusal(alert.model_type, policy)
        return Refusal(*place, full) if full else found


def _try(alert: Alert, policy: PolicyValues, now: datetime) -> TrainingRun | Refusal:
    """Trigger a run for an alert, and say so with the alert, both or neither."""
    assert alert.machine is not None  # noqa: S101 -- as above
    data_end = _newest_end(alert, now)
    try:
        with transaction.atomic():
            answer = training.trigger(
                machine=alert.machine,
                model_type=alert.model_type,
                reason=alert.alert_message,
                trigger_type=alert.alert_type,
                data_start=_data_start(alert, policy, data_end),
                data_end=data_end,
                alert=alert,
                now=now,
                by=ACTOR,
            )
            if answer.training_job_id is None:
                return Refusal(*_place(alert), answer.reason)
            _say(alert, taken=True, result={"training_run": str(answer.training_job_id)})
    except DomainError as error:
        return Refusal(*_place(alert), error.detail)
    return TrainingRun.objects.get(pk=answer.training_job_id)


def _newest_end(alert: Alert, now: datetime) -> datetime:
    """Return until when there are evaluations: what came after may be needed to judge by."""
    of_series = ModelPerformanceMetric.objects.of_series(
        machine_id=_place(alert)[0], model_type=alert.model_type
    )
    newest: datetime | None = of_series.aggregate(at=Max("evaluation_end"))["at"]
    return min(newest, now) if newest else now


def _data_start(alert: Alert, policy: PolicyValues, data_end: datetime) -> datetime:
    start = data_end - timedelta(days=policy.training_window_days)
    changed_at = alert.alert_details.get("changed_at")
    if not (policy.train_since_change and changed_at):
        return start
    changed = datetime.fromisoformat(changed_at)
    return max(start, changed) if changed < data_end else start


def _note(alert: Alert, refusal: Refusal, policy: PolicyValues, now: datetime) -> None:
    """Let the alert say why nothing is done; after the last try another one says it for good."""
    if refusal.is_exhausted:
        raise_alert(_not_helping(alert, refusal, policy), SeriesPlace(*_place(alert)), now=now)
    said = alert.auto_action_result or {}
    if said.get("waits") != refusal.reason:
        _say(alert, taken=alert.auto_action_taken, result={**said, "waits": refusal.reason})


def _say(alert: Alert, *, taken: bool, result: dict[str, Any]) -> None:
    Alert.objects.filter(pk=alert.pk).update(
        auto_action_taken=taken, auto_action_type="retrain", auto_action_result=result
    )


def _not_helping(alert: Alert, refusal: Refusal, policy: PolicyValues) -> Wanted:
    machine = alert.machine.name if alert.machine else ""
    return Wanted(
        condition_key=series_key(*_place(alert), _NOT_HELPING),
        alert_type=_NOT_HELPING,
        severity=Alert.Severity.CRITICAL.value,
        message=f"{machine} · {alert.model_type}: retraining is not helping. {refusal.reason}"
        " No more is tried until this is resolved.",
        occurrences=1,
        current=alert.current_metric_value,
        threshold=float(policy.retrain_tries),
        baseline=alert.baseline_metric_value,
        details={
            "rule": _NOT_HELPING,
            "changed_at": alert.alert_timestamp.isoformat(),
            "alert": str(alert.pk),
        },
    )


def _end_what_is_over(now: datetime) -> None:
    """End the alerts that retraining does not help, where nothing is wrong any more."""
    open_ones = Alert.objects.unresolved().filter(alert_type=_NOT_HELPING)
    wrong = Alert.objects.unresolved().filter(alert_type__in=JUDGED_TYPES)
    still = set(wrong.order_by().values_list("machine_id", "model_type")) if open_ones else set()
    for key, machine_id, model_type in open_ones.order_by().values_list(
        "condition_key", "machine_id", "model_type"
    ):
        if (machine_id, model_type) not in still:
            end_alert(key, action="recovered", now=now)
