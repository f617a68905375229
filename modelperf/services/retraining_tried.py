"""What was tried for some series already, and what became of it."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from django.db.models import F, Q, QuerySet

from modelperf.models import ABTest, Alert, ModelActivation, TrainingRun
from modelperf.services.alerts_following import RETRAINED, SYSTEM
from modelperf.services.database import execute

Series = tuple[uuid.UUID, str]

RECENT: Final = timedelta(days=30)
# As many evaluations as a version shows before another one is trained: `retraining_proof` compares
# from the tenth on. A policy's min_evaluations would make a month of each try on daily windows.
TELLING: Final = 15
_ENDED_AT: Final = "condition_ended_at"
_ENDED_BY: Final = "condition_ended_by"
# That a limit is kept again just now proves nothing: where the level is at it, it comes and goes.
_HELPED: Final = Q(alert_details__has_key="proof") | ~Q(resolved_by=SYSTEM)


@dataclass(frozen=True, slots=True)
class Tried:
    """The runs of some series that matter for what is done next, and what came of their versions.

    `opened` says when the alert of each series opened. `tries` are the runs asked for by alerts
    that have not helped, oldest first, and `gave_up` says until when an alert said so. `last` is
    the newest finished run, whoever asked for it, and `last_version` the newest that brought a
    version, by itself or else recently. `activations` are the newest ones; `tests` are those of
    the runs' versions, whoever started them, by version. `n_seen` says how many evaluations those
    have shown that came into service since the alert opened, up to `TELLING`.
    """

    opened: Mapping[Series, datetime]
    unfinished: frozenset[Series]
    tries: Mapping[Series, Sequence[TrainingRun]]
    gave_up: Mapping[Series, datetime]
    last: Mapping[Series, TrainingRun]
    last_version: Mapping[Series, TrainingRun]
    tests: Mapping[uuid.UUID | None, Sequence[ABTest]]
    activations: Mapping[Series, ModelActivation]
    n_seen: Mapping[uuid.UUID, int]

    @classmethod
    def read(cls, opened: Mapping[Series, datetime], now: datetime) -> Self:
        """Read what was tried for series with an alert, by the time it opened."""
        machines = {machine_id for machine_id, _ in opened}
        of_machines = TrainingRun.objects.filter(machine_id__in=machines)
        unfinished = of_machines.unfinished().values_list("machine_id", "model_type")
        recently = {place: min(at, now - RECENT) for place, at in opened.items()}
        runs = [
            run
            for run in _finished(machines, min(recently.values(), default=now))
            if (run.machine_id, run.model_type) in opened
        ]
        began = _began(machines)
        tries: dict[Series, list[TrainingRun]] = defaultdict(list)
        last_version: dict[Series, TrainingRun] = {}
        for run in runs:
            place = run.machine_id, run.model_type
            if _is_try(run) and not (place in began and run.created_at <= began[place]):
                tries[place].append(run)
            by_itself = run.triggered_by == TrainingRun.BY_ITSELF
            if run.model and (by_itself or run.created_at >= recently[place]):
                last_version[place] = run
        activations = _newest_activations(machines)
        since_opened = [
            activation
            for place, activation in activations.items()
            if place in opened and activation.activated_at >= opened[place]
        ]
        return cls(
            opened=opened,
            unfinished=frozenset(unfinished),
            tries=tries,
            gave_up=_gave_up(machines),
            last={(run.machine_id, run.model_type): run for run in runs},
            last_version=last_version,
            tests=_tests_of([run.model_id for run in runs if run.model_id]),
            activations=activations,
            n_seen=_n_seen(since_opened),
        )


def _is_try(run: TrainingRun) -> bool:
    """Whether an alert has asked for a run: anybody may name that as the reason of a run."""
    by_itself = run.triggered_by == TrainingRun.BY_ITSELF
    return by_itself and run.trigger_type != TrainingRun.Trigger.SCHEDULED


def note_what_has_ended() -> int:
    """Keep with the runs that alerts asked for when a new version proved to have ended those.

    An alert that opens again no longer knows that it was resolved.
    """
    ended = (
        TrainingRun.objects.by_alerts()
        .filter(
            alert__in=_ended_by_new_versions(),
            alert__resolved_at__gte=F("created_at"),
        )
        .exclude(metadata__has_key=_ENDED_AT)
    )
    runs = list(ended.exclude(training_status__in=TrainingRun.UNFINISHED).select_related("alert"))
    for run in runs:
        assert run.alert is not None  # noqa: S101 -- it was resolved
        assert run.alert.resolved_at is not None  # noqa: S101 -- the database sees to it
        run.metadata = {
            **run.metadata,
            _ENDED_AT: run.alert.resolved_at.isoformat(),
            _ENDED_BY: _proved(run.alert.alert_details),
        }
    return TrainingRun.objects.bulk_update(runs, ["metadata"])


def _ended_by_new_versions() -> QuerySet[Alert]:
    """Return the alerts whose end a new version has proved, or a person has said so."""
    return Alert.objects.filter(_HELPED, is_resolved=True, resolution_action=RETRAINED)


def _finished(machines: Collection[uuid.UUID], since: datetime) -> list[TrainingRun]:
    """Return the finished runs that may matter, oldest first.

    These are all since then, and from whenever they are: tries, the last run of each series, and
    the last that brought a version by itself, which somebody may still have to look at.
    """
    finished = TrainingRun.objects.filter(machine_id__in=machines).exclude(
        training_status__in=TrainingRun.UNFINISHED
    )
    newest = finished.order_by("machine_id", "model_type", "-created_at", "-id").distinct(
        "machine_id", "model_type"
    )
    brought = newest.filter(triggered_by=TrainingRun.BY_ITSELF, model__isnull=False)
    found = finished.filter(
        Q(created_at__gte=since)
        | Q(pk__in=TrainingRun.objects.by_alerts().filter(machine_id__in=machines).values("pk"))
        | Q(pk__in=newest.values("pk"))
        | Q(pk__in=brought.values("pk"))
    )
    return list(
        found.select_related("model")
        .defer("training_log", "error_traceback")
        .order_by("created_at", "id")
    )


def _tests_of(versions: Collection[uuid.UUID]) -> dict[uuid.UUID | None, list[ABTest]]:
    """Return the tests of some versions against those that served before them."""
    found: dict[uuid.UUID | None, list[ABTest]] = defaultdict(list)
    for test in ABTest.objects.filter(model_b__in=versions).defer("evidence"):
        found[test.model_b_id].append(test)
    return found


def _gave_up(machines: Collection[uuid.UUID]) -> dict[Series, datetime]:
    """Return until when it was said of series that retraining does not help, where it ended."""
    ended = Alert.objects.filter(
        machine_id__in=machines, alert_type=Alert.Type.RETRAINING_NOT_HELPING, is_resolved=True
    )
    found = ended.order_by("resolved_at").values_list("machine_id", "model_type", "resolved_at")
    return {
        (machine_id, model_type): at for machine_id, model_type, at in found if machine_id and at
    }


def _proved(details: Mapping[str, Any]) -> str | None:
    """Return the version that ended an alert, where that was proved."""
    found = details.get("proof", {}).get("new_model_id")
    return str(found) if found else None


def _began(machines: Collection[uuid.UUID]) -> dict[Series, datetime]:
    """Return from when on tries count: a version that helped, or a person, ends a count.

    A version that a person has rolled back since did not help, whatever it won.
    """
    rolled_back = _rolled_back(machines)
    began: dict[Series, datetime] = {}
    for machine_id, model_type, moment, by_version in _ends(machines):
        if not (machine_id and moment):
            continue
        if moment < rolled_back.get(by_version, moment):
            continue
        place = machine_id, model_type
        began[place] = max(moment, began.get(place, moment))
    return began


End = tuple[uuid.UUID | None, str, datetime | None, str | None]


def _ends(machines: Collection[uuid.UUID]) -> Iterator[End]:
    """Yield what may have ended a count of tries: the series, when, and by which version."""
    promoted = ModelActivation.objects.filter(
        machine_id__in=machines, kind=ModelActivation.Kind.PROMOTED
    )
    for one in promoted:
        yield one.machine_id, one.model_type, one.activated_at, str(one.model_id)
    won = ABTest.objects.filter(
        machine_id__in=machines,
        training_run__isnull=False,
        decision=ABTest.Decision.PROMOTE_B,
        winner_model=F("model_b"),
    )
    for test in won.only("machine_id", "model_type", "decided_at", "model_b_id"):
        yield test.machine_id, test.model_type, test.decided_at, str(test.model_b_id)
    allowed = Alert.objects.filter(
        is_resolved=True, alert_type=Alert.Type.RETRAINING_NOT_HELPING
    ).exclude(resolved_by=SYSTEM)
    ended = allowed | _ended_by_new_versions()
    for alert in ended.filter(machine_id__in=machines):
        by_version = _proved(alert.alert_details)
        yield alert.machine_id, alert.model_type, alert.resolved_at, by_version
    noted = TrainingRun.objects.filter(machine_id__in=machines, metadata__has_key=_ENDED_AT)
    for run in noted.only("machine_id", "model_type", "metadata"):
        ended_at = datetime.fromisoformat(run.metadata[_ENDED_AT])
        yield run.machine_id, run.model_type, ended_at, run.metadata.get(_ENDED_BY)


def _rolled_back(machines: Collection[uuid.UUID]) -> dict[str | None, datetime]:
    """Return the versions that were replaced by going back, and when last."""
    found = ModelActivation.objects.filter(
        machine_id__in=machines, kind=ModelActivation.Kind.ROLLED_BACK, previous__isnull=False
    )
    return {str(one.previous_id): one.activated_at for one in found.order_by("activated_at")}


def _newest_activations(machines: Collection[uuid.UUID]) -> dict[Series, ModelActivation]:
    found = ModelActivation.objects.filter(machine_id__in=machines)
    newest = found.order_by("machine_id", "model_type", "-activated_at", "-id")
    return {
        (one.machine_id, one.model_type): one for one in newest.distinct("machine_id", "model_type")
    }


def _n_seen(activations: Collection[ModelActivation]) -> dict[uuid.UUID, int]:
    """Count the evaluations of activated versions on what they were not trained on."""
    if not activations:
        return {}
    of_series = [(one.machine_id, one.model_type, one.model_id) for one in activations]
    found = execute(_N_SEEN, [TELLING, *map(list, zip(*of_series, strict=True))])
    return dict(found.fetchall())


_N_SEEN: Final = """
    SELECT w.model_id, (
        SELECT count(*) FROM (
            SELECT FROM model_performance_metrics e
            WHERE e.machine_id = w.machine_id AND e.model_type = w.model_type
                AND e.model_id = w.model_id AND e.evaluation_start >= trained.until
            LIMIT %b
        ) AS first_ones
    )
    FROM unnest(%b::uuid[], %b::text[], %b::uuid[]) AS w (machine_id, model_type, model_id)
    CROSS JOIN LATERAL (
        SELECT coalesce(max(run.training_data_end), '-infinity') AS until
        FROM model_training_history run WHERE run.model_id = w.model_id
    ) AS trained
"""
