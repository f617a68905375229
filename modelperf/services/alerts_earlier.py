"""What conditions that are raised had before: the alerts that open again instead of new ones."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db.models import Max, Q

from modelperf.models import Alert, ModelActivation
from modelperf.services.alerts_conditions import JUDGED_TYPES, Wanted, is_later
from modelperf.services.alerts_following import FALLS, HISTORY_CHANGED, RETRAINED, SYSTEM, Place
from modelperf.services.database import execute

MUCH_WORSE: Final = 2.0  # times as far from the level before


def is_another_matter(details: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Whether a condition is not what a person has resolved: a later change, or far more of it.

    Whoever accepts a loss of a third has not accepted ten times as much, though it is all dated
    to the same day: a series that goes on to fall shows its first fall as the change. What was over
    since is there anew.
    """
    is_over = bool(earlier.get(_OVER))
    return is_over or is_later(details, earlier) or _is_much_worse(details, earlier)


def note_over(condition_keys: Sequence[str]) -> None:
    """Note that distributions are as they should, in what a person resolved about them.

    Their windows have no date of a change by which to tell a later one from the same.
    """
    if condition_keys:
        execute(_NOTE_OVER, [list(condition_keys), list(condition_keys), SYSTEM])


_OVER: Final = "is_over"
_NOTE_OVER: Final = f"""
    WITH members AS (
        UPDATE model_alert_members m SET details = m.details || '{{"{_OVER}": true}}'
        FROM model_alerts a
        WHERE a.id = m.alert_id AND a.is_resolved AND m.left_at IS NULL
            AND m.condition_key = ANY(%b::text[]) AND NOT m.details ? '{_OVER}'
    )
    UPDATE model_alerts SET alert_details = alert_details || '{{"{_OVER}": true}}'
    WHERE condition_key = ANY(%b::text[]) AND is_resolved AND resolved_by <> %b
        AND NOT alert_details ? '{_OVER}'
"""


def _is_much_worse(details: dict[str, Any], earlier: dict[str, Any]) -> bool:
    now, then = _distance(details), _distance(earlier)
    return now is not None and then is not None and now > MUCH_WORSE * then > 0


def _distance(details: dict[str, Any]) -> float | None:
    """Return how far a fall has led; a single window that lies far off changes it little."""
    before, since = details.get("baseline"), details.get("current")
    if details.get("rule") not in FALLS or before is None or since is None:
        return None
    return abs(float(since) - float(before))


def undone(
    raised: Mapping[str, tuple[Wanted, Place]], earlier: Mapping[str, Alert]
) -> frozenset[str]:
    """Return which conditions a person resolved by a retraining that was taken back since.

    The version that the alert was about serves again, and shows what it showed then.
    """
    doubted: dict[uuid.UUID, list[tuple[str, datetime]]] = {}
    for key, before in earlier.items():
        model_id = raised[key][1].model_id
        if before.resolution_action == RETRAINED and model_id and before.model_id == model_id:
            assert before.resolved_at is not None  # noqa: S101 -- it is resolved
            doubted.setdefault(model_id, []).append((key, before.resolved_at))
    if not doubted:
        return frozenset()
    found = ModelActivation.objects.filter(model_id__in=doubted).order_by().values_list("model_id")
    return frozenset(
        key
        for model_id, activated_at in found.annotate(Max("activated_at"))
        for key, resolved_at in doubted[model_id]
        if activated_at > resolved_at
    )


def newest_resolved(raised: Mapping[str, tuple[Wanted, Place]]) -> dict[str, Alert]:
    """Return the newest resolved alert of each condition, by the condition's key.

    It may have been the other kind of a fall: so long as evaluations come in disorder one may be
    taken for a collapse, then for nothing, and at last for a change.
    """
    others = {
        other: key
        for key, (wanted, _) in raised.items()
        if wanted.details.get("rule") in FALLS and (other := _other_kind(key)) not in raised
    }
    corrected = Q(resolved_by=SYSTEM, resolution_action=HISTORY_CHANGED)
    found = Alert.objects.filter(
        Q(condition_key__in=list(raised)) | Q(corrected, condition_key__in=list(others)),
        is_resolved=True,
    )
    # What a condition was by its own name counts before what it was by another.
    newest_last = sorted(
        found, key=lambda one: (one.condition_key in raised, one.resolved_at, one.pk)
    )
    return {
        others.get(one.condition_key, one.condition_key): one
        for one in newest_last
        if one.condition_key in raised or one.alert_details.get("rule") in FALLS
    }


def _other_kind(key: str) -> str:
    drift, degradation = (f":{kind}:" for kind in JUDGED_TYPES)
    if drift in key:
        return key.replace(drift, degradation, 1)
    return key.replace(degradation, drift, 1)
