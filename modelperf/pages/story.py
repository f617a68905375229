"""What happened to a series, as its tables tell: alert, training, test, activation, resolution."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, pairwise
from typing import Any, Final

from django.db.models import F, Q, Window
from django.db.models.fields.json import KT
from django.db.models.functions import Lag
from django.urls import reverse
from django.utils.text import capfirst

from modelperf.models import ABTest, Alert, AlertEvent, ModelActivation, TrainingRun
from modelperf.pages.fleet import Row
from modelperf.services.alerts_conditions import JUDGED_TYPES
from modelperf.services.alerts_following import RETRAINED
from modelperf.templatetags.presentation import (
    actor,
    day,
    severity_state,
    span,
    whole,
    window,
    words,
)

MOST_EVENTS: Final = 40
TOLD_TYPES: Final = (
    *JUDGED_TYPES,
    Alert.Type.TRAINING_FAILED.value,
    Alert.Type.RETRAINING_NOT_HELPING.value,
)
# A look at all that is due says when it began; what it decides before it resolves comes later.
ONE_LOOK: Final = timedelta(minutes=1)
_DECISIONS: Final = {
    ABTest.Decision.PROMOTE_A: "version {a} goes on",
    ABTest.Decision.PROMOTE_B: "version {b} is promoted",
    ABTest.Decision.NO_WINNER: "no winner, version {a} goes on",
    ABTest.Decision.MANUAL_REVIEW: "a person has to look",
}
_ACTIVATIONS: Final = {
    ModelActivation.Kind.ACTIVATED: "Version {} activated",
    ModelActivation.Kind.PROMOTED: "Version {} promoted",
    ModelActivation.Kind.ROLLED_BACK: "Rolled back to version {}",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: what in a few words, why, and by whom; `page` is in the admin.

    `problem` is for those alone who may know why trainings failed.
    """

    when: datetime
    glyph: str
    css: str
    word: str
    text: str = ""
    note: str = ""
    by: str = ""
    page: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """What happened, oldest first; `is_cut` where there was more before."""

    events: Sequence[Event]
    is_cut: bool


def story(row: Row, runs: Sequence[TrainingRun], tests: Sequence[ABTest]) -> Story:
    """Return the story of a series, of which the newest runs and tests are given."""
    alerts, activations = _alerts(row), _activations(row)
    turns = _turns(alerts)
    done = [
        *(event for run in runs for event in _of_run(run, {alert.pk for alert in alerts})),
        *(event for test in tests for event in _of_test(test)),
        *(_activated(activation) for activation in activations),
    ]
    times = [event.when for event in done]
    placed = [
        *((event.when, event) for alert in alerts for event in _openings(alert, turns[alert.pk])),
        *((event.when, event) for event in done),
        *(
            (_after(event, times), event)
            for alert in alerts
            for event in _endings(alert, turns[alert.pk])
        ),
    ]
    # Sorting keeps the order of what happened at once, which is the order above.
    events = [event for _, event in sorted(placed, key=lambda pair: pair[0])]
    sources = (runs, tests, activations, alerts, [*chain.from_iterable(turns.values())])
    is_cut = len(events) > MOST_EVENTS or any(len(source) >= MOST_EVENTS for source in sources)
    return Story(events[-MOST_EVENTS:], is_cut)


def _after(resolved: Event, others: Iterable[datetime]) -> datetime:
    """Return where a resolution is told: after what the same look did, whose beginning it bears."""
    same = (when for when in others if timedelta() <= when - resolved.when <= ONE_LOOK)
    return max(same, default=resolved.when)


def _alerts(row: Row) -> list[Alert]:
    found = Alert.objects.filter(machine_id=row.machine.pk, model_type=row.model_type)
    return list(
        found.filter(alert_type__in=TOLD_TYPES)
        .annotate(waits=KT("auto_action_result__waits"))
        .defer("alert_details", "auto_action_result", "metadata")
        .order_by("-alert_timestamp", "-id")[:MOST_EVENTS]
    )


def _activations(row: Row) -> list[ModelActivation]:
    found = ModelActivation.objects.of_series(machine_id=row.machine.pk, model_type=row.model_type)
    return list(found.order_by("-activated_at", "-id")[:MOST_EVENTS])


def _turns(alerts: Sequence[Alert]) -> dict[uuid.UUID, list[Any]]:
    """Return the newest events in which alerts opened or ended, oldest first, by alert.

    An alert from before there were events is its own.
    """
    before = Window(Lag("is_resolved"), partition_by="pgh_obj_id", order_by="pgh_id")
    events = AlertEvent.objects.filter(pgh_obj_id__in=[alert.pk for alert in alerts])
    turns = events.annotate(was_resolved=before).filter(
        Q(was_resolved__isnull=True) | ~Q(was_resolved=F("is_resolved"))
    )
    newest = turns.order_by("-pgh_id")[:MOST_EVENTS]
    of_alert: dict[uuid.UUID, list[Any]] = defaultdict(list)
    for turn in reversed(newest):
        of_alert[turn.pgh_obj_id].append(turn)
    if len(newest) < MOST_EVENTS:
        for alert in alerts:
            of_alert.setdefault(alert.pk, [alert])
    return of_alert


def _openings(alert: Alert, turns: Sequence[Any]) -> Iterator[Event]:
    """Yield each time an alert opened, with what it said when it ended, or says now."""
    for turn, following in pairwise([*turns, alert]):
        was_resolved = getattr(turn, "was_resolved", None)
        if was_resolved and not turn.is_resolved:
            yield _opened(alert, turn, following)
        elif was_resolved is None:
            yield _opened(alert, turn, turn if turn.is_resolved else following, is_first=True)


def _opened(alert: Alert, turn: Any, says: Any, *, is_first: bool = False) -> Event:
    by = "" if is_first else str((turn.pgh_context or {}).get("actor", ""))
    is_now = says is alert and not alert.is_resolved
    waits = getattr(alert, "waits", None) if is_now else None
    return Event(
        when=turn.pgh_created_at if by else turn.alert_timestamp,
        glyph=says.severity if says.severity != Alert.Severity.NORMAL else "open",
        css=severity_state(says.severity),
        word="Alert reopened" if by else "Alert opened" if is_first else "Alert opened again",
        text=says.alert_message,
        note=f"Automatic retraining waits: {waits}" if waits else "",
        by=actor(by) if by else "",
        page=_page("alert", alert.pk),
    )


def _endings(alert: Alert, turns: Sequence[Any]) -> Iterator[Event]:
    """Yield each time an alert ended."""
    for turn in turns:
        if turn.is_resolved:
            yield Event(
                when=turn.resolved_at,
                glyph="ok",
                css="improved" if turn.resolution_action == RETRAINED else "stable",
                word="Alert resolved",
                text=f"{words(turn.resolution_action)}: {words(alert.alert_type).lower()}"
                f"{_of_version(turn.model_version)}.",
                note=turn.resolution_notes,
                by=actor(turn.resolved_by or ""),
                page=_page("alert", alert.pk),
            )


def _of_run(run: TrainingRun, told: Container[uuid.UUID | None]) -> Iterator[Event]:
    """Yield how a run was asked for and how it ended; what its alert tells is not told again."""
    page = _page("trainingrun", run.pk)
    asked = words(run.trigger_type)
    yield Event(
        when=run.created_at,
        glyph="training",
        css="running",
        word="Training asked for",
        text=f"For the alert: {asked.lower()}."
        if run.alert_id in told
        else f"{asked}: {run.reason}",
        by=actor(run.triggered_by),
        page=page,
    )
    if run.training_end is None:
        return
    yield _ended(run, run.training_end, page)


def _ended(run: TrainingRun, when: datetime, page: str) -> Event:
    if run.training_status == TrainingRun.Status.COMPLETED:
        word = f"Version {run.model_version} trained"
        return Event(when, "ok", "stable", word, _trained(run), page=page)
    if run.training_status == TrainingRun.Status.FAILED:
        problem = run.error_message
        return Event(when, "alert", "degraded", "Training failed", page=page, problem=problem)
    reason, by = (str(run.metadata.get(name, "")) for name in ("cancel_reason", "cancelled_by"))
    word = "Training cancelled"
    return Event(when, "none", "stable", word, note=reason, by=actor(by), page=page)


def _trained(run: TrainingRun) -> str:
    samples = f" on {whole(run.training_samples)} samples" if run.training_samples else ""
    trainer = f" by {run.trainer}" if run.trainer else ""
    took = _took(run.training_duration_seconds)
    data = window(run.training_data_start, run.training_data_end)
    return f"Trained{trainer}{samples} of {data}{took}."


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f", in {span(seconds)}" if seconds >= 1 else ", in less than a second"


def _of_test(test: ABTest) -> Iterator[Event]:
    page = _page("abtest", test.pk)
    versions = {"a": test.model_a_version, "b": test.model_b_version}
    until = f" until {day(test.test_end)}" if test.test_end else ""
    cancelled = test.test_status == ABTest.Status.CANCELLED
    yield Event(
        when=test.created_at,
        glyph="ab",
        css="stable" if cancelled else "running",
        word="A/B test started",
        text="Version {b} against version {a}".format(**versions)
        + f", on windows from {day(test.test_start)}{until}.",
        note=f"Cancelled by {actor(str(test.metadata.get('cancelled_by', '')))}."
        if cancelled
        else "",
        by=actor(test.created_by),
        page=page,
    )
    if test.decision is None or test.decided_at is None:
        return
    yield Event(
        when=test.decided_at,
        glyph="ab",
        css="improved" if test.decision == ABTest.Decision.PROMOTE_B else "stable",
        word="A/B test decided",
        text=capfirst(_DECISIONS[ABTest.Decision(test.decision)].format(**versions)) + ".",
        note=test.decision_notes,
        by=actor(test.decided_by or ""),
        page=page,
    )


def _activated(activation: ModelActivation) -> Event:
    before = activation.previous_version
    is_promoted = activation.kind == ModelActivation.Kind.PROMOTED
    is_back = activation.kind == ModelActivation.Kind.ROLLED_BACK
    word = _ACTIVATIONS[ModelActivation.Kind(activation.kind)]
    return Event(
        when=activation.activated_at,
        glyph="degraded" if is_back else "improved" if is_promoted else "own",
        css="improved" if is_promoted else "drift" if is_back else "stable",
        word=word.format(activation.model_version),
        text=f"It serves in place of version {before}." if before else "It is the first to serve.",
        # The reason of a promotion is the decision of its test, told right above.
        note="" if is_promoted else activation.reason,
        by=actor(activation.activated_by),
        page=_page("modelversion", activation.model_id),
    )


def _of_version(version: int | None) -> str:
    return f" of version {version}" if version else ""


def _page(name: str, key: uuid.UUID) -> str:
    return reverse(f"admin:modelperf_{name}_change", args=[key])
