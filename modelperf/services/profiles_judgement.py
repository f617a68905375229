"""Judging the latest windows of every feature against its reference, in one statement."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from itertools import groupby
from math import isnan, nan
from typing import Any, Final, NamedTuple

from modelperf.models import FeatureReference
from modelperf.services.database import stream
from modelperf.stats.distributions import FeatureStatus, FeatureVerdict, compare
from modelperf.stats.fleet import q_values
from modelperf.stats.profiles import Profile, Reference, profile_of

MOST_WINDOWS: Final = 16
MOST_REFERENCE_WINDOWS: Final = 64
Features = list[dict[str, Any]]


class _Feature(NamedTuple):
    """A reference with its latest windows, and with those of its own period."""

    model_id: uuid.UUID
    name: str
    role: str
    kind: str
    reference: bytes
    reference_id: uuid.UUID
    windows: list[bytes] | None
    starts: list[datetime] | None
    ends: list[datetime] | None
    reference_windows: list[bytes] | None


_FEATURES: Final = f"""
    SELECT r.model_id, r.name, r.role, r.kind, r.profile, r.id,
        latest.profiles, latest.starts, latest.ends, own.profiles
    FROM model_feature_references r
    JOIN model_versions v ON v.id = r.model_id
    JOIN machines m ON m.id = v.machine_id
    CROSS JOIN LATERAL (
        SELECT array_agg(profile ORDER BY window_end, window_start) AS profiles,
            array_agg(window_start ORDER BY window_end, window_start) AS starts,
            array_agg(window_end ORDER BY window_end, window_start) AS ends
        FROM (
            SELECT p.profile, p.window_start, p.window_end FROM model_profiles p
            WHERE p.reference_id = r.id AND p.machine_id = v.machine_id
                AND (%b::timestamptz IS NULL OR p.window_end <= %b::timestamptz)
                AND (r.window_end IS NULL
                    OR p.window_start < r.window_start OR p.window_end > r.window_end)
            ORDER BY p.window_end DESC, p.window_start DESC LIMIT {MOST_WINDOWS}
        ) AS newest
    ) AS latest
    CROSS JOIN LATERAL (
        SELECT array_agg(profile ORDER BY window_end, window_start) AS profiles
        FROM (
            SELECT p.profile, p.window_start, p.window_end FROM model_profiles p
            WHERE p.reference_id = r.id AND p.machine_id = v.machine_id
                AND p.window_start >= r.window_start AND p.window_end <= r.window_end
            ORDER BY p.window_end DESC, p.window_start DESC LIMIT {MOST_REFERENCE_WINDOWS}
        ) AS newest
    ) AS own
    WHERE r.replaced_at IS NULL
        AND (r.model_id = ANY(%b::uuid[])
            OR (%b::uuid[] IS NULL AND v.is_active AND m.is_active))
    ORDER BY r.model_id, r.name
"""


def judge_features(
    *, model_ids: Sequence[uuid.UUID] | None, as_of: datetime | None = None
) -> dict[uuid.UUID, Features]:
    """Judge the latest windows of model versions; every version asked for is in the answer.

    None means the active versions of machines in service that have references. Windows that end
    after `as_of` are left out.
    """
    asked: dict[uuid.UUID, Features] = {model_id: [] for model_id in model_ids or ()}
    return asked | dict(judged_features(model_ids=model_ids, as_of=as_of))


def judged_features(
    *, model_ids: Sequence[uuid.UUID] | None, as_of: datetime | None = None
) -> Iterator[tuple[uuid.UUID, Features]]:
    """Judge as `judge_features`, a model version at a time: a fleet's are never all in memory.

    One statement, however many they are. Nothing else may be asked of the connection before the
    last one is taken.
    """
    ids = None if model_ids is None else list(model_ids)
    rows = (_Feature._make(row) for row in stream(_FEATURES, [as_of, as_of, ids, ids]))
    for model_id, features in groupby(rows, key=lambda feature: feature.model_id):
        yield model_id, _judged(list(features))


def _judged(features: Sequence[_Feature]) -> Features:
    n_features = max(1, sum(feature.windows is not None for feature in features))
    verdicts = [_verdict(feature, n_features) for feature in features]
    stale = _stale(features)
    p_values = [
        nan if one.p_any is None or is_stale else one.p_any
        for one, is_stale in zip(verdicts, stale, strict=True)
    ]
    return [
        _document(feature, verdict, None if isnan(q) else q, is_stale=is_stale)
        for feature, verdict, q, is_stale in zip(
            features, verdicts, q_values(p_values).tolist(), stale, strict=True
        )
    ]


def _stale(features: Sequence[_Feature]) -> list[bool]:
    """Tell which features have missed a window that others have: they may have vanished.

    Targets come later than all else, and are compared among themselves. A feature has missed a
    window where another's newest ends later by at least the length of its own newest.
    """
    newest: dict[bool, datetime] = {}
    for one in features:
        if one.ends:
            is_target = one.role == FeatureReference.Role.TARGET
            newest[is_target] = max(newest.get(is_target, one.ends[-1]), one.ends[-1])
    return [
        one.starts is not None
        and one.ends is not None
        and one.ends[-1] + (one.ends[-1] - one.starts[-1])
        <= newest[one.role == FeatureReference.Role.TARGET]
        for one in features
    ]


def _verdict(feature: _Feature, n_features: int) -> FeatureVerdict:
    reference = Reference.from_bytes(feature.reference)
    return compare(
        reference,
        _unpacked(feature.windows) or [profile_of([], reference)],
        n_features=n_features,
        reference_windows=_unpacked(feature.reference_windows),
    )


def _unpacked(profiles: Iterable[bytes] | None) -> list[Profile]:
    return [Profile.from_bytes(packed) for packed in profiles or ()]


def _document(
    feature: _Feature, verdict: FeatureVerdict, q_value: float | None, *, is_stale: bool
) -> dict[str, Any]:
    if is_stale:  # what it was like once says nothing of how it is
        verdict = replace(verdict, status=FeatureStatus.INSUFFICIENT_DATA)
    return {
        "name": feature.name,
        "role": feature.role,
        "kind": feature.kind,
        "reference_id": feature.reference_id,
        # Of the newest windows those that decided.
        "window_start": min((feature.starts or [])[-verdict.merged :], default=None),
        "window_end": max((feature.ends or [])[-verdict.merged :], default=None),
        **asdict(verdict),
        "q_value": q_value,
        "is_stale": is_stale,
    }
