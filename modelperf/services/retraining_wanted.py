"""Retrainings that alerts ask for, where policies allow them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import Exists, Max, OuterRef, QuerySet

from modelperf.models import (
    Alert,
    AlertMember,
    ModelPerformanceMetric,
    Series,
    TrainingRun,
)
from modelperf.services import training
from modelperf.services.alerts_conditions import JUDGED_TYPES, OWN_PART, Wanted
from modelperf.services.alerts_following import SeriesPlace
from modelperf.services.alerts_raising import end_alert, raise_alert, series_key
from modelperf.services.errors import DomainError
from modelperf.services.policies import Policies, PolicyValues
from modelperf.services.retraining_guards import Caps, Refusal, refusal
from modelperf.services.retraining_tried import Series as Place
from modelperf.services.retraining_tried import Tried, note_what_has_ended
from modelperf.services.training_after import ACTOR

log = structlog.get_logger(__name__)

_NOT_HELPING: Final = Alert.Type.RETRAINING_NOT_HELPING.value


def trigger(*, now: datetime) -> tuple[list[TrainingRun], list[Refusal]]:
    """Trigger what alerts ask for and nothing speaks against; return that, and what waits.

    Only what a check of the whole fleet has looked at counts: what machines have in common is an
    alert of the fleet by then, and trains none of them.
    """
    note_what_has_ended()
    _end_what_is_over(now)
    policies = Policies.load()
    alerts = [
        alert
        for alert in _checked_alerts()
        if policies.of(alert.machine_id, alert.model_type).retrain_automatically
    ]
    if not alerts:
        return [], []
    worst, shared = _worst_of_each(alerts)
    opened = {place: alert.alert_timestamp for place, alert in worst.items()}
    look = _Look(policies, Tried.read(opened, now), Caps.read(now), _blocked(alerts), now)
    for alert in shared:
        look.refuse(alert, Refusal(*_place(alert), "The machine has it in common with others."))
    for alert in worst.values():
        look.at(alert)
    return look.triggered, look.waiting


def _checked_alerts() -> QuerySet[Alert]:
    """Return the unresolved degradations of single series that a check has looked at since.

    A series that a check left out, for what was recorded meanwhile, waits for the next one.
    """
    looked_at = Series.objects.filter(
        machine=OuterRef("machine"),
        model_type=OuterRef("model_type"),
        checked_at__gte=OuterRef("alert_timestamp"),
    )
    found = Alert.objects.unresolved().filter(
        Exists(looked_at), alert_type__in=JUDGED_TYPES, machine__is_active=True
    )
    # One window that alone lies far off is nothing to learn from.
    found = found.exclude(alert_details__contains={"rule": "outlier"})
    return found.select_related("machine").worst_first()


def _place(alert: Alert) -> Place:
    assert alert.machine_id is not None  # noqa: S101 -- alerts of the fleet are filtered out
    return alert.machine_id, alert.model_type


def _blocked(alerts: Collection[Alert]) -> set[Place]:
    """Return the series of which it is known that retraining does not help."""
    found = Alert.objects.unresolved().filter(
        alert_type=_NOT_HELPING, machine_id__in={alert.machine_id for alert in alerts}
    )
    return set(found.order_by().values_list("machine_id", "model_type"))


def _worst_of_each(alerts: Sequence[Alert]) -> tuple[dict[Place, Alert], list[Alert]]:
    """Return the worst alert of each series, and those that are about what machines share."""
    members = AlertMember.objects.present().filter(
        machine_id__in={alert.machine_id for alert in alerts},
        alert__is_resolved=False,
        alert__alert_type__in=JUDGED_TYPES,
    )
    common = set(members.order_by().values_list("machine_id", "alert__model_type"))
    worst: dict[Place, Alert] = {}
    shared = []
    for alert in alerts:
        if _place(alert) in common and alert.alert_details.get("rule") != OWN_PART:
            shared.append(alert)
        else:
            worst.setdefault(_place(alert), alert)
    return worst, shared


@dataclass(slots=True)
class _Look:
    """What is known when alerts are looked at, one a series, and what has come of them."""

    policies: Policies
    tried: Tried
    caps: Caps
    blocked: set[Place]
    now: datetime
    triggered: list[TrainingRun] = field(default_factory=list)
    waiting: list[Refusal] = field(default_factory=list)

    def at(self, alert: Alert) -> None:
        """Trigger a run for an alert, or note why not; one that cannot be stops no other."""
        policy = self.policies.of(*_place(alert))
        try:
            found = self._refusal(alert, policy) or _try(alert, policy, self.now)
            if isinstance(found, Refusal) and found.is_exhausted:
                self._raise_not_helping(alert, found, policy)
        except Exception:  # whatever it is, the other series shall go on
            log.exception("retraining_not_triggered", alert_id=str(alert.pk))
            found = Refusal(*_place(alert), "It could not be asked for: the log says why.")
        if isinstance(found, TrainingRun):
            self.triggered.append(found)
            self.caps.count(alert.model_type)
        else:
            self.refuse(alert, found)

    def _raise_not_helping(self, alert: Alert, found: Refusal, policy: PolicyValues) -> None:
        wanted = _not_helping(alert, found, policy, self.tried.tries[_place(alert)][-1])
        with transaction.atomic():
            raise_alert(wanted, SeriesPlace(*_place(alert)), now=self.now)

    def refuse(self, alert: Alert, refused: Refusal) -> None:
        """Let the alert say why nothing is done."""
        self.waiting.append(refused)
        said = alert.auto_action_result or {}
        if said.get("waits") != refused.reason:
            result = {**said, "waits": refused.reason}
            _say(alert, taken=alert.auto_action_taken, result=result)

    def _refusal(self, alert: Alert, policy: PolicyValues) -> Refusal | None:
        place = _place(alert)
        if place in self.blocked:
            return Refusal(*place, "Retraining has not helped; a person has to look.")
        found = refusal(place, self.tried, policy, self.now)
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


def _say(alert: Alert, *, taken: bool, result: dict[str, Any]) -> None:
    Alert.objects.filter(pk=alert.pk).update(
        auto_action_taken=taken, auto_action_type="retrain", auto_action_result=result
    )


def _not_helping(
    alert: Alert, refused: Refusal, policy: PolicyValues, last_try: TrainingRun
) -> Wanted:
    """Return the alert of tries that are used up; after more of them it is another incident."""
    machine = alert.machine.name if alert.machine else ""
    return Wanted(
        condition_key=series_key(*_place(alert), _NOT_HELPING),
        alert_type=_NOT_HELPING,
        severity=Alert.Severity.CRITICAL.value,
        message=f"{machine} · {alert.model_type}: retraining is not helping. {refused.reason}"
        " No more is tried until this is resolved.",
        occurrences=1,
        current=alert.current_metric_value,
        threshold=float(policy.retrain_tries),
        baseline=alert.baseline_metric_value,
        details={
            "rule": _NOT_HELPING,
            "changed_at": last_try.created_at.isoformat(),
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
