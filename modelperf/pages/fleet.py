"""The machines in service, with how each of their series stands.

Every machine is listed, also one without a model or an evaluation.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelperf.drawing.metric_names import MetricName, named
from modelperf.models import (
    Alert,
    AlertMember,
    LatestModelPerformance,
    Machine,
    ModelVersion,
    Series,
)
from modelperf.pages import verdicts
from modelperf.pages.verdicts import Silence, State, Verdict
from modelperf.services.policies import Policies

MOST_MACHINES = 500
# Documents that may be large and are not shown.
UNSHOWN = ("artefact", "hyperparameters", "feature_names", "metadata")
UNSHOWN_STATE = ("drift_state__fold",)
# Alerts of which a series' own verdict says nothing.
NOTED = (Alert.Type.DATA_DRIFT.value, Alert.Type.EVALUATION_MISSING.value)

SeriesKey = tuple[uuid.UUID, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One series, or a machine that has none."""

    machine: Machine
    model_type: str
    version: ModelVersion | None
    verdict: Verdict | None
    latest: LatestModelPerformance | None
    state: State
    silence: Silence | None
    alert_types: frozenset[str]

    @property
    def metric(self) -> MetricName | None:
        """The judged metric, named."""
        return named(self.verdict.metric, self.machine.metadata) if self.verdict else None

    @property
    def beside(self) -> list[State]:
        """What is to be said beside the state: silence, and unresolved alerts of another kind."""
        silence = [self.silence.state] if self.silence else []
        missing = "evaluation_missing" if State("stale") in silence else ""  # the same in a word
        noted = [State(kind) for kind in NOTED if kind in self.alert_types and kind != missing]
        return [one for one in (*silence, *noted) if one != self.state]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines that are listed, the chosen one, and whether there are more."""

    machines: list[Machine]
    chosen: Machine | None
    rows: list[Row]
    policies: Policies
    is_cut: bool

    @property
    def listed(self) -> list[Row]:
        """The rows of machines in service, worst first."""
        return sorted((row for row in self.rows if row.machine.is_active), key=urgency)

    def types_of(self, machine: Machine) -> list[str]:
        """Return the model types that serve a machine."""
        return [r.model_type for r in self.rows if r.machine.pk == machine.pk and r.model_type]


def load(*, find: str, chosen: uuid.UUID | None, now: datetime) -> Fleet:
    """Read the machines in service named like `find`, and the chosen one, in 6 or 7 queries."""
    machines = _machines(find)
    is_cut, machines = len(machines) > MOST_MACHINES, machines[:MOST_MACHINES]
    picked = Machine.objects.filter(pk=chosen).first() if chosen else None
    if picked is not None and picked not in machines:
        machines.append(picked)
    ids = [machine.pk for machine in machines]
    types: dict[uuid.UUID, list[str]] = defaultdict(list)
    for series in Series.objects.filter(machine_id__in=ids).order_by("model_type"):
        types[series.machine_id].append(series.model_type)
    read = _reader(ids, now)
    rows = [read(machine, kind) for machine in machines for kind in types[machine.pk] or [""]]
    return Fleet(machines, picked, rows, read.policies, is_cut)


def worst(rows: Iterable[Row]) -> Row | None:
    """Return the series to look at first."""
    return min(rows, key=urgency, default=None)


def urgency(row: Row) -> tuple[int, float, str, str]:
    """Order rows worst first: by state, then by the strength of the evidence."""
    score = (row.verdict.score if row.verdict else None) or 0.0
    return row.state.rank, -score, row.machine.name, row.model_type


def _machines(find: str) -> list[Machine]:
    in_service = Machine.objects.in_service()
    if find:
        in_service = in_service.filter(name__icontains=find)
    return list(in_service[: MOST_MACHINES + 1])


@dataclass(frozen=True, slots=True)
class _Reader:
    """Puts rows together from what was read for all machines at once."""

    active: dict[SeriesKey, ModelVersion]
    latest: dict[SeriesKey, LatestModelPerformance]
    policies: Policies
    alert_types: Mapping[SeriesKey, frozenset[str]]
    now: datetime

    def __call__(self, machine: Machine, model_type: str) -> Row:
        version = self.active.get((machine.pk, model_type))
        latest = self.latest.get((machine.pk, model_type))
        verdict = verdicts.of_version(version)
        policy = self.policies.of(machine.pk, model_type)
        silence = verdicts.silence_of(version, latest, policy, self.now)
        return Row(
            machine=machine,
            model_type=model_type,
            version=version,
            verdict=verdict,
            latest=latest,
            state=verdicts.state_of(verdict, latest, silence),
            silence=silence,
            alert_types=self.alert_types.get((machine.pk, model_type), frozenset()),
        )


def _reader(ids: list[uuid.UUID], now: datetime) -> _Reader:
    active = (
        ModelVersion.objects.filter(machine_id__in=ids, is_active=True)
        .select_related("drift_state")
        .defer(*UNSHOWN, *UNSHOWN_STATE)
    )
    latest = LatestModelPerformance.objects.filter(machine_id__in=ids)
    return _Reader(
        active={(v.machine_id, v.model_type): v for v in active},
        latest={(e.machine_id, e.model_type): e for e in latest.defer("metadata")},
        policies=Policies.load(),
        alert_types=_alert_types(ids),
        now=now,
    )


def _alert_types(ids: Sequence[uuid.UUID]) -> dict[SeriesKey, frozenset[str]]:
    """Return the noted kinds of unresolved alerts of each series, of its own or of the fleet."""
    own = Alert.objects.filter(machine_id__in=ids, is_resolved=False, alert_type__in=NOTED)
    shared = AlertMember.objects.filter(
        machine_id__in=ids,
        left_at__isnull=True,
        alert__is_resolved=False,
        alert__alert_type__in=NOTED,
    )
    found: dict[SeriesKey, frozenset[str]] = {}
    for machine_id, model_type, kind in own.values_list(
        "machine_id", "model_type", "alert_type"
    ).union(shared.values_list("machine_id", "alert__model_type", "alert__alert_type")):
        key = machine_id, model_type
        found[key] = found.get(key, frozenset()) | {kind}
    return found
