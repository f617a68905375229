"""What follows from judging: alerts, and the verdicts that are worth keeping."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from modelperf.models import Alert
from modelperf.services import alerts_following, alerts_writing, drift_store
from modelperf.services.alerts_conditions import (
    Wanted,
    drifted_features,
    missing_evaluations,
    outlier_window,
)
from modelperf.services.alerts_following import Changes, Followed
from modelperf.services.database import execute
from modelperf.services.drift_judgement import (
    Judged,
    is_detected,
    judge_stored,
    standing,
    standing_verdict,
)
from modelperf.services.drift_positions import Position
from modelperf.services.policies import PolicyValues
from modelperf.stats.fleet import CutOff

MISSED_CADENCES: Final = 2  # one evaluation may be late; two in a row have stopped
Features = Sequence[dict[str, Any]]


def settle(
    positions: Sequence[Position],
    *,
    now: datetime,
    features: Mapping[uuid.UUID, Features] | None = None,
    keep: bool = False,
) -> dict[uuid.UUID, dict[str, Any]]:
    """Judge what is not judged yet of locked series, store it, and let alerts follow.

    Returns the verdicts by model version. With `keep` every verdict is stored for good; otherwise
    those that changed, or that are about something wrong.
    """
    judged = list(judge_stored(positions))
    results = drift_store.Results()
    for one in judged:
        results.add(one)
    results.save(now=now)
    known = {one.position.subject.model_id for one in judged}
    rest = [one for one in positions if one.subject.model_id not in known]
    judged += list(standing([one for one in rest if keep and not _is_kept(one)]))
    known = {one.position.subject.model_id for one in judged}
    judged += [standing_verdict(one) for one in rest if one.subject.model_id not in known]
    follow(judged, now=now, features=features or {}, keep=keep)
    return {one.position.subject.model_id: one.verdict for one in judged}


def _is_kept(position: Position) -> bool:
    return position.state is not None and position.state.stored_verdict_id is not None


def follow(
    judged: Sequence[Judged],
    *,
    now: datetime,
    features: Mapping[uuid.UUID, Features] = MappingProxyType({}),
    keep: bool = False,
) -> None:
    """Let alerts follow verdicts between two checks of the fleet, and keep what changed."""
    cut_off = _LastCutOff()
    changes = alerts_following.decide(
        (
            _followed(one, features.get(one.position.subject.model_id, ()), now)
            for one in judged
            if one.position.subject.is_active and one.position.subject.in_service
        ),
        cut_off=cut_off,
    )
    alerts_writing.apply(changes, now=now)
    kept = [
        drift_store.kept(one, one.folded)
        for one in judged
        if one.folded is not None and (keep or _is_worth_keeping(one, changes))
    ]
    _tell(judged, kept, changes.documents(), cut_off, now)


def _tell(
    judged: Sequence[Judged],
    kept: Sequence[drift_store.Kept],
    told: Mapping[uuid.UUID, dict[str, Any]],
    cut_off: _LastCutOff,
    now: datetime,
) -> None:
    """Store why there is an alert or none: with new verdicts, and with those that still hold."""
    new = {one.model_id for one in kept}
    reasons: dict[uuid.UUID, dict[str, Any]] = {}
    standing_ids: dict[uuid.UUID, dict[str, Any]] = {}
    for one in judged:
        model_id, state = one.position.subject.model_id, one.position.state
        if model_id in new:
            rationed = cut_off.document(one.position.policy.q)
            reasons[model_id] = {**rationed, "q_value": None, **told.get(model_id, {})}
        elif model_id in told and one.folded is None and state and state.stored_verdict_id:
            # Not its q-value: that is of the check that judged it, if one did.
            rationed = cut_off.document(one.position.policy.q)
            standing_ids[state.stored_verdict_id] = {**rationed, **told[model_id]}
    drift_store.store_verdicts(kept, reasons, check_run_id=None, now=now)
    drift_store.tell_reasons(standing_ids)


def _is_worth_keeping(one: Judged, changes: Changes) -> bool:
    is_touched = one.position.subject.model_id in changes.touched
    return is_touched or drift_store.changed(one) or is_detected(one.verdict)


def _followed(one: Judged, features: Features, now: datetime) -> Followed:
    """Return a series as its alerts follow: by its active version, on a machine in service.

    That evaluations are missing is found by checks; what arrives late can only end it.
    """
    missing = overdue(one, now)
    known = {alert.condition_key for alert in one.position.open_alerts}
    is_known = missing is not None and missing.condition_key in known
    return followed_with(one, missing=missing if is_known else None, features=features)


def followed_with(
    one: Judged,
    *,
    missing: Wanted | None,
    features: Features,
    own_part: Wanted | None = None,
    compares: bool = False,
) -> Followed:
    """Return a series as its alerts follow, with what else was seen of it.

    `compares` says that it was looked at beside the other machines, too, where `own_part` may be.
    """
    moved = [feature for feature in features if feature["status"] == "drifted"]
    seen = [wanted for wanted in (missing, own_part) if wanted]
    if one.position.policy.alert_on_outlier and one.verdict["outlier_window"] and one.rank:
        seen.append(outlier_window(one.position.subject, one.verdict, newest_end=one.rank[0]))
    if moved:
        seen.append(drifted_features(one.position.subject, moved))
    return Followed(
        subject=one.position.subject,
        verdict=one.verdict,
        open_alerts=one.position.open_alerts,
        policy=one.position.policy,
        replayed=one.replayed,
        seen_through=one.rank[0] if one.rank else None,
        window=one.rank[0] - one.rank[1] if one.rank else timedelta(),
        seen={wanted.condition_key: wanted for wanted in seen},
        seen_types=_MISSING | _DATA_DRIFT if features else _MISSING,
        compares=compares,
    )


_MISSING: Final = frozenset({Alert.Type.EVALUATION_MISSING.value})
_DATA_DRIFT: Final = frozenset({Alert.Type.DATA_DRIFT.value})


def overdue(one: Judged, now: datetime) -> Wanted | None:
    """Return the alert that is wanted where a series' next evaluations should be here by now."""
    position = one.position
    newest = one.rank or (position.newest.rank if position.newest else None)
    newest_end = newest[0] if newest else position.registered_at
    due_at = missed_since(newest_end, policy=position.policy, now=now)
    if due_at is None:
        return None
    cadence = timedelta(seconds=position.policy.expected_cadence_seconds or 0)
    return missing_evaluations(
        position.subject, newest_end=newest_end, due_at=due_at, cadence=cadence
    )


def missed_since(newest_end: datetime, *, policy: PolicyValues, now: datetime) -> datetime | None:
    """Return when the next evaluation was due, where two are missing: the series is stale.

    Without an expected cadence nothing is ever missing.
    """
    if policy.expected_cadence_seconds is None:
        return None
    cadence = timedelta(seconds=policy.expected_cadence_seconds)
    due_at = newest_end + cadence + timedelta(seconds=policy.label_delay_seconds)
    return due_at if now > due_at + (MISSED_CADENCES - 1) * cadence else None


class _LastCutOff:
    """The cut-off that the last check of the fleet stored, read when it is first asked for."""

    def __init__(self) -> None:
        self._found: CutOff | None = None

    def __call__(self, one: Followed) -> float:
        return self._read().of(one.policy.q)

    def document(self, q: float) -> dict[str, Any]:
        """Return what rations alerts now, as it is stored with verdicts."""
        found = self._read()
        return {
            "n_series": found.n_judged,
            "n_rejected": found.n_rejected,
            "cut_off": found.of(q),
        }

    def _read(self) -> CutOff:
        if self._found is None:
            self._found = last_cut_off()
        return self._found


def last_cut_off() -> CutOff:
    """Return the cut-off of the last check; before the first, for all series that are in service.

    That number is fixed by the registry: the order in which evaluations arrive cannot move it.
    """
    found = execute(
        """
        SELECT run.n_series, run.n_rejected, (
            SELECT count(*) FROM model_versions v JOIN machines m ON m.id = v.machine_id
            WHERE v.is_active AND m.is_active)
        FROM (VALUES (1)) AS one
        LEFT JOIN LATERAL (
            SELECT n_series, n_rejected FROM model_check_runs
            WHERE model_type = '' AND machine_id IS NULL
            ORDER BY finished_at DESC LIMIT 1
        ) AS run ON true
        """
    ).fetchone()
    n_series, n_rejected, n_in_service = found or (None, None, 1)
    return CutOff(n_judged=n_series or n_in_service, n_rejected=n_rejected or 0)
