"""Alerts of a version that fell are resolved once the version that replaced it has proved better.

A newer version on data that stay degraded is as stable as any other by its own evaluations. So
a fall of the version before is over only where the newer one is better than that was since.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import structlog
from django.db import transaction

from modelperf.models import Alert
from modelperf.services import alerts_writing
from modelperf.services.alerts_conditions import METRIC_LABELS
from modelperf.services.alerts_following import PROVED_RULES, RETRAINED
from modelperf.services.alerts_writing import Ended
from modelperf.services.database import execute, stream
from modelperf.services.drift_history import PACKED, History, unpacked
from modelperf.stats.improvement import Improvement, proved_better
from modelperf.stats.results import MetricKind
from modelperf.templatetags.presentation import number

log = structlog.get_logger(__name__)

EARLIER: Final = 60  # evaluations before the fall, for the noise alone
COMPARED: Final = 400  # of each version, the first since the fall


class Subject(NamedTuple):
    """An unresolved alert of one version, and the active version that replaced it."""

    alert_id: uuid.UUID
    old_id: uuid.UUID
    old_version: int
    new_id: uuid.UUID
    new_version: int
    metric: str
    changed_at: str | None


@dataclass(frozen=True, slots=True)
class Succession:
    """What both versions have shown since the fall, and by what rules the newer one is judged."""

    subject: Subject
    rules: dict[str, Any]
    before: History
    after: History
    earlier: History

    def judged(self) -> Improvement:
        """Compare the active version with the one that fell, by the rules of the active one."""
        return proved_better(
            self.before.values,
            self.after.values,
            earlier=self.earlier.values,
            counts=(self.before.counts, self.after.counts, self.earlier.counts),
            kind=MetricKind(self.rules["kind"]),
            min_effect=self.rules["min_effect"],
        )


@dataclass(frozen=True, slots=True)
class Proof:
    """A newer version that has proved better, and by what."""

    subject: Subject
    found: Improvement

    def document(self) -> dict[str, Any]:
        """Return what was compared, as it is kept with the alert."""
        return {
            **asdict(self.found),
            "metric": self.subject.metric,
            "since": self.subject.changed_at,
            "old_version": self.subject.old_version,
            "new_version": self.subject.new_version,
            "new_model_id": str(self.subject.new_id),
        }

    def sentence(self) -> str:
        """Say it for people."""
        one, found = self.subject, self.found
        return (
            f"Version {one.new_version} has proved better than version {one.old_version} was since"
            f" its fall: {METRIC_LABELS.get(one.metric, one.metric)} {number(found.after)} in"
            f" {found.n_after} evaluations, {number(found.before)} in {found.n_before}"
            f" (p = {found.p_value:.2g})."
        )


def settle(*, now: datetime, by: str) -> list[Alert]:
    """Resolve the alerts of older versions whose active successor has proved better."""
    return resolve(proofs(), now=now, by=by)


def proofs() -> list[Proof]:
    """Return the active versions that have proved better than an alerted one before them.

    One that is degraded itself proves nothing, nor does one whose judgement is out of date. One
    that cannot be compared stops no other.
    """
    proved = []
    for one in _successions():
        try:
            found = one.judged()
        except Exception:  # whatever it is, the other series shall go on
            log.exception("versions_not_compared", alert_id=str(one.subject.alert_id))
            continue
        if found.is_better:
            proved.append(Proof(one.subject, found))
    return proved


def resolve(proved: Sequence[Proof], *, now: datetime, by: str) -> list[Alert]:
    """Resolve alerts by proofs, which are kept with them; return those that were resolved.

    Left alone are alerts that were resolved or opened again by a person meanwhile, or whose
    condition the newer version has taken over, and all where another version has become active.
    """
    if not proved:
        return []
    by_alert = {one.subject.alert_id: one for one in proved}
    with transaction.atomic():
        ended = [
            Ended(
                id=pk,
                action=RETRAINED,
                notes=by_alert[pk].sentence(),
                details={"proof": by_alert[pk].document()},
            )
            for pk in _still_so(proved)
        ]
        resolved = alerts_writing.resolve(ended, now=now)
    alerts = list(Alert.objects.filter(pk__in=resolved).order_by("id"))
    for alert in alerts:
        log.info("alert_proved_over", alert_id=str(alert.pk), by=by)
    return alerts


def _still_so(proved: Sequence[Proof]) -> list[uuid.UUID]:
    """Lock the alerts of which the proof still holds, and return them."""
    subjects = [one.subject for one in proved]
    ids = [[getattr(one, name) for one in subjects] for name in ("alert_id", "old_id", "new_id")]
    return [pk for (pk,) in execute(_STILL_SO, ids)]


def _successions() -> Iterator[Succession]:
    """Yield what is to be compared, as it comes: never all in memory."""
    for *columns, rules, before, after, earlier in stream(_SUCCESSIONS, [sorted(PROVED_RULES)]):
        yield Succession(
            subject=Subject(*columns),
            rules=rules,
            before=unpacked(before, n_total=None),
            after=unpacked(after, n_total=None),
            earlier=unpacked(earlier, n_total=None),
        )


# While the newer version served, a person has opened the alert again: its proof was overruled. Not
# so where the alert has opened by itself since.
_OVERRULED: Final = """
    coalesce(a.reopened_at >= greatest(a.alert_timestamp, (
        SELECT max(done.activated_at) FROM model_activations done WHERE done.model_id = v.id
    )), false)
"""
# Windows by which the new version was trained are no evidence for it. Of either version counts
# what its newest verdict knows of: other windows may still lack labels.
_WAITING: Final = f"""
    SELECT a.id, a.model_id AS old_id, a.model_version AS old_version,
        v.id AS new_id, v.model_version AS new_version, a.machine_id, a.model_type,
        a.alert_details ->> 'metric' AS metric, a.alert_details ->> 'changed_at' AS changed_at,
        coalesce((a.alert_details ->> 'changed_at')::timestamptz, '-infinity') AS fell_at,
        coalesce((
            SELECT max(run.training_data_end) FROM model_training_history run
            WHERE run.model_id = v.id
        ), '-infinity') AS trained_until,
        new.rules, new.last_evaluation_end AS new_end, new.last_evaluation_start AS new_start,
        old.last_evaluation_end AS old_end, old.last_evaluation_start AS old_start
    FROM model_alerts a
    JOIN machines m ON m.id = a.machine_id AND m.is_active
    JOIN model_versions v ON v.machine_id = a.machine_id AND v.model_type = a.model_type
        AND v.is_active AND v.model_version > a.model_version
    JOIN model_drift_states new ON new.model_id = v.id AND NOT new.is_stale
        AND new.metric = a.alert_details ->> 'metric' AND new.status <> 'degraded'
    JOIN model_drift_states old ON old.model_id = a.model_id
    WHERE NOT a.is_resolved AND a.alert_details ->> 'rule' = ANY(%b::text[]) AND NOT {_OVERRULED}
"""
_EVALUATIONS: Final = f"""
    (SELECT {PACKED} FROM (
        SELECT coalesce((chosen.metrics ->> w.metric)::float8, 'NaN') AS value, chosen.*
        FROM (
            SELECT metrics, sample_count, evaluation_start, evaluation_end, id
            FROM model_performance_metrics
            WHERE machine_id = w.machine_id AND model_type = w.model_type
                AND model_id = w.{{version}}_id
                AND (evaluation_end, evaluation_start) <= (w.{{version}}_end, w.{{version}}_start)
                AND {{which}}
            ORDER BY evaluation_end {{order}}, evaluation_start {{order}} LIMIT {{limit}}
        ) AS chosen
        ORDER BY evaluation_end DESC, evaluation_start DESC
    ) AS newest_first)
"""
_BEFORE: Final = _EVALUATIONS.format(
    version="old", which="evaluation_start >= w.fell_at", order="ASC", limit=COMPARED
)
_AFTER: Final = _EVALUATIONS.format(
    version="new",
    which="evaluation_start >= greatest(w.fell_at, w.trained_until)",
    order="ASC",
    limit=COMPARED,
)
_EARLIER: Final = _EVALUATIONS.format(
    version="old", which="evaluation_start < w.fell_at", order="DESC", limit=EARLIER
)
_SUCCESSIONS: Final = f"""
    WITH waiting AS ({_WAITING})
    SELECT w.id, w.old_id, w.old_version, w.new_id, w.new_version, w.metric, w.changed_at, w.rules,
        {_BEFORE}, {_AFTER}, {_EARLIER}
    FROM waiting w ORDER BY w.id
"""
_STILL_SO: Final = f"""
    SELECT a.id
    FROM model_alerts a
    JOIN unnest(%b::uuid[], %b::uuid[], %b::uuid[]) AS w (id, old_id, new_id) ON a.id = w.id
    WHERE a.model_id = w.old_id AND NOT a.is_resolved
        AND EXISTS (
            SELECT FROM model_versions v
            WHERE v.id = w.new_id AND v.is_active AND NOT {_OVERRULED}
        )
    ORDER BY a.id
    FOR NO KEY UPDATE OF a
"""
