"""What conditions that are raised had before: the alerts that open again instead of new ones."""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models import Q

from modelperf.models import Alert
from modelperf.services.alerts_conditions import JUDGED_TYPES, Wanted
from modelperf.services.alerts_following import FALLS, HISTORY_CHANGED, SYSTEM, Place


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
