"""Have the machines of a type fallen together? The block of their windows, split and judged."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelperf.models import Alert
from modelperf.services.alerts_conditions import Wanted as Alerting
from modelperf.services.alerts_conditions import own_part
from modelperf.services.alerts_fleet import CommonFall, Group
from modelperf.services.drift_history import History, Wanted, read_histories
from modelperf.services.drift_judgement import Judged
from modelperf.stats import common_cause
from modelperf.stats.orientation import orient
from modelperf.stats.results import Condition, Rule, Rules

Floats = NDArray[np.float64]
WINDOWS: Final = 200
# Split only where something happens: more have fallen, or are near it, than do by chance.
_SHARE_FALLEN: Final = 0.1
_NEAR: Final = 0.05
_SHARE_NEAR: Final = 0.2
_SWINGING: Final = 0.3


def common_causes(
    judged: Sequence[Judged], *, cut_off: Callable[[Judged], float]
) -> tuple[dict[Group, CommonFall], dict[uuid.UUID, Alerting]]:
    """Return the falls that machines of a type share, and what one has beside the others.

    The first by the alerts they ask for, the second by model version.
    """
    groups = [members for members in _groups(judged) if _is_worth_splitting(members)]
    wanted = [_wanted(one) for members in groups for one in members]
    histories: dict[int, History] = dict(read_histories(wanted))
    falls: dict[Group, CommonFall] = {}
    own: dict[uuid.UUID, Alerting] = {}
    first = 0
    for members in groups:
        of_group = [histories.pop(first + at) for at in range(len(members))]
        first += len(members)
        fall, of_machines = _split(members, of_group, cut_off)
        own |= of_machines
        if fall is not None:
            falls[fall.group] = fall
    return falls, own


def _groups(judged: Iterable[Judged]) -> Iterator[list[Judged]]:
    """Yield the active versions of each type that are judged by one metric."""
    groups: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for one in judged:
        if one.position.subject.is_active and one.rank is not None and one.verdict["metric"]:
            groups[one.position.subject.model_type, one.verdict["metric"]].append(one)
    for members in groups.values():
        if len(members) >= members[0].position.policy.fleet_alert_machines:
            yield members


def _is_worth_splitting(members: Sequence[Judged]) -> bool:
    fallen = sum(map(_has_fallen, members))
    p_values = (one.verdict["p_value"] for one in members)
    near = sum(p is not None and p <= _NEAR for p in p_values)
    n = len(members)
    # A season that they share shows as autocorrelation, and hides what one does by itself.
    swinging = sum((one.verdict["phi"] or 0.0) >= _SWINGING for one in members)
    if 2 * swinging >= n:
        return True
    return fallen >= max(2, _SHARE_FALLEN * n) or near >= max(4, _SHARE_NEAR * n)


def _has_fallen(one: Judged) -> bool:
    """Whether the series shows a fall by itself: then that is what its alert is about."""
    return any(condition["rule"] != "limit" for condition in one.verdict["conditions"])


def _wanted(one: Judged) -> Wanted:
    if one.rank is None:
        raise AssertionError("only what was judged is split")
    # Where the history ends does not matter here: windows are told apart by their times.
    return Wanted(one.position.subject, one.verdict["metric"], WINDOWS, 0, one.rank)


def _split(
    members: Sequence[Judged], histories: Sequence[History], cut_off: Callable[[Judged], float]
) -> tuple[CommonFall | None, dict[uuid.UUID, Alerting]]:
    each = [_rules(one) for one in members]
    rules = Counter(each).most_common(1)[0][0]
    alike = [at for at, one in enumerate(each) if one.kind is rules.kind]
    members = [members[at] for at in alike]
    starts, values, counts = _block([histories[at] for at in alike])
    oriented = orient(values, counts, rules.kind)
    found = common_cause.split(oriented)
    if found is None:
        return None, {}
    verdicts = common_cause.own_verdicts(found, counts, rules=[each[at] for at in alike])
    own = {
        members[row].position.subject.model_id: own_part(
            members[row].position.subject,
            members[row].verdict["metric"],
            asdict(verdict.conditions[0]),
            changed_at=_moment(
                starts[~np.isnan(found.own[row])][verdict.conditions[0].change_index]
            ),
            seen_through=_seen_through(members[row]),
        )
        for row, verdict in verdicts.items()
        if verdict.conditions
        and not _has_fallen(members[row])
        and _earns_alert(verdict.conditions[0], cut_off(members[row]))
    }
    fall = common_cause.judge(found, oriented, counts, rules=rules)
    if fall is None or not _earns_alert(fall, min(map(cut_off, members))):
        return None, own
    subjects = [one.position.subject for one in members]
    drift, metric = Alert.Type.DRIFT_DETECTED.value, members[0].verdict["metric"]
    return CommonFall(
        group=Group(subjects[0].model_type, drift, metric),
        changed_at=_moment(starts[fall.split]).isoformat().replace("+00:00", "Z"),
        statistic=fall.statistic,
        threshold=fall.threshold,
        p_value=fall.p_value,
        effect=fall.effect,
        members={subjects[at].model_id: subjects[at] for at in fall.members.tolist()},
        own=frozenset(subjects[row].model_id for row in verdicts),
    ), own


def _seen_through(one: Judged) -> datetime:
    if one.rank is None:
        raise AssertionError("only what was judged is split")
    return one.rank[0]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)


def _earns_alert(fall: common_cause.FleetFall | Condition, cut_off: float) -> bool:
    if fall.rule is not Rule.CHANGE_POINT:
        return True
    return fall.confirmed_p is not None and fall.confirmed_p <= cut_off


def _rules(one: Judged) -> Rules:
    rules = one.position.policy.rules(one.verdict["metric"])
    if rules is None:
        raise AssertionError("what was judged was judged by rules")
    return rules


def _block(histories: Sequence[History]) -> tuple[Floats, Floats, Floats]:
    """Return the starts of all windows, and values and counts by machine and window."""
    ends_and_starts = np.concatenate([np.stack([h.ends, h.starts], axis=1) for h in histories])
    windows, n_machines = np.unique(ends_and_starts, axis=0, return_counts=True)
    # What few machines have reported yet says nothing about all of them.
    windows = windows[2 * n_machines >= len(histories)][-2 * WINDOWS :]
    values = np.full((len(histories), len(windows)), np.nan)
    counts = np.zeros_like(values)
    places: dict[Any, int] = {tuple(window): at for at, window in enumerate(windows.tolist())}
    for row, one in enumerate(histories):
        at = [
            places.get(key, -1) for key in zip(one.ends.tolist(), one.starts.tolist(), strict=True)
        ]
        inside = np.array(at) >= 0
        values[row, np.array(at)[inside]] = one.values[inside]
        counts[row, np.array(at)[inside]] = one.counts[inside]
    return windows[:, 1], values, counts
