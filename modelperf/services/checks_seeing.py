"""What a check of the fleet sees: everything read and judged, before anything is written."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from modelperf.models import CheckRun
from modelperf.services import drift_store
from modelperf.services.alerts_conditions import Wanted
from modelperf.services.alerts_fleet import CommonFall, Group, Type
from modelperf.services.checks_common_cause import common_causes
from modelperf.services.drift_judgement import Judged, judge_stored, standing, standing_verdict
from modelperf.services.drift_positions import Position, positions_in_service
from modelperf.services.metrics_rows import START_OF_TIME
from modelperf.services.policies import PolicyValues
from modelperf.services.profiles_judgement import judged_features
from modelperf.stats import fleet
from modelperf.stats.fleet import CutOff

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which series a check is about."""

    model_type: str
    machine_id: uuid.UUID | None

    @property
    def is_fleet(self) -> bool:
        """Whether it is about every series there is."""
        return not self.model_type and self.machine_id is None

    def has(self, position: Position) -> bool:
        """Whether a version is to be judged."""
        subject = position.subject
        return self.model_type in {"", subject.model_type} and (
            self.machine_id in {None, subject.machine_id}
        )


@dataclass(slots=True)
class Seen:
    """Everything that a check has read and judged, before anything is written."""

    judged: list[Judged]
    n_judged: int
    results: drift_store.Results
    kept: dict[uuid.UUID, drift_store.Kept]
    features: dict[uuid.UUID, list[dict[str, Any]]]
    cut_off: CutOff
    q_values: dict[uuid.UUID, float]
    types: dict[str, Type] = field(default_factory=dict)
    falls: dict[Group, CommonFall] = field(default_factory=dict)
    own_parts: dict[uuid.UUID, Wanted] = field(default_factory=dict)
    overdue: set[uuid.UUID] = field(default_factory=set)
    since: datetime = START_OF_TIME


def see(scope: Scope, *, now: datetime, as_of: datetime | None, progress: Progress) -> Seen:
    """Read and judge what is in scope; `as_of` leaves out what ended later."""
    everything = positions_in_service(now=now, as_of=as_of)
    positions = [one for one in everything if scope.has(one)]
    results, kept = drift_store.Results(), dict[uuid.UUID, drift_store.Kept]()
    judged: list[Judged] = []
    n_judged = 0
    for one in _judge(positions):
        model_id = one.position.subject.model_id
        if one.is_new:
            n_judged += 1
            results.add(one)
        if one.folded is not None:
            kept[model_id] = drift_store.kept(one, one.folded)
        judged.append(one.without_history())
        progress(len(judged), len(positions))
    cut_off, q_values = _ration(everything, judged)
    features = {
        model_id: [_brief(one) for one in found]
        for model_id, found in judged_features(
            model_ids=[one.subject.model_id for one in positions if one.subject.is_active],
            as_of=as_of,
        )
    }
    seen = Seen(
        judged=judged,
        n_judged=n_judged,
        results=results,
        kept=kept,
        features=features,
        cut_off=cut_off,
        q_values=q_values,
        since=CheckRun.objects.newest_end() or START_OF_TIME,
    )
    if scope.machine_id is None:
        seen.types = _types(positions)
        seen.falls, seen.own_parts = common_causes(
            judged, cut_off=lambda one: cut_off.of(one.position.policy.q)
        )
    return seen


def _judge(positions: Sequence[Position]) -> Iterator[Judged]:
    """Yield every version: newly judged, or with the verdict that still holds."""
    known: set[uuid.UUID] = set()
    for one in judge_stored(positions):
        known.add(one.position.subject.model_id)
        yield one
    rest = [one for one in positions if one.subject.model_id not in known]
    unkept = [one for one in rest if one.state and one.state.stored_verdict_id is None]
    for one in standing(unkept):
        known.add(one.position.subject.model_id)
        yield one
    for position in rest:
        if position.subject.model_id not in known:
            yield standing_verdict(position)


def _ration(
    everything: Sequence[Position], judged: Sequence[Judged]
) -> tuple[CutOff, dict[uuid.UUID, float]]:
    """Return the cut-off of p over all active versions, and the q-value of each."""
    now = {one.position.subject.model_id: one.verdict for one in judged}
    p_values: dict[uuid.UUID, float] = {}
    q: list[float] = []
    for position in everything:
        model_id = position.subject.model_id
        verdict = now.get(model_id) or (position.state.verdict if position.state else None)
        if position.subject.is_active and verdict and verdict["p_value"] is not None:
            p_values[model_id] = verdict["p_value"]
            q.append(position.policy.q)
    found = list(p_values.values())
    adjusted = fleet.q_values(found).tolist() if found else []
    cut_off = fleet.cut_off(found, q)
    if len(judged) < len(everything):
        # What is out of scope may not have been judged yet, and has a share of the budget, too.
        n_active = sum(position.subject.is_active for position in everything)
        cut_off = replace(cut_off, n_judged=max(cut_off.n_judged, n_active))
    return cut_off, dict(zip(p_values, adjusted, strict=True))


_BRIEF: Final = (
    *("name", "role", "status", "statistic", "p_value", "q_value", "ks_distance", "psi"),
    *("alpha", "window_start", "window_end"),
)


def _brief(feature: Mapping[str, Any]) -> dict[str, Any]:
    """Return a feature's verdict without its histograms."""
    return {name: feature.get(name) for name in _BRIEF}


def _types(positions: Sequence[Position]) -> dict[str, Type]:
    policies: dict[str, list[PolicyValues]] = defaultdict(list)
    for one in positions:
        if one.subject.is_active:
            policies[one.subject.model_type].append(one.policy)
    return {
        name: Type(len(found), Counter(found).most_common(1)[0][0])
        for name, found in policies.items()
    }
