"""Silences: set for a while, changed, ended early; what they are for is recorded all the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import structlog
from django.utils import timezone

from modelperf.models import Alert, Silence, SilenceEvent
from modelperf.services import matching
from modelperf.services.errors import ConflictError, FieldError, InvalidError
from modelperf.services.matching import Matched, Matchers
from modelperf.services.recorded import recorded

log = structlog.get_logger(__name__)

LONGEST_OWNER: Final = 200
LONGEST_REASON: Final = 2_000
_DOCUMENTS: Final = ("alert_details", "auto_action_result", "metadata")
_LENGTH_OF_AN_ID: Final = 36


def create(
    *,
    matchers: Mapping[str, Any],
    reason: str,
    owner: str,
    ends_at: datetime,
    by: str,
    starts_at: datetime | None = None,
) -> Silence:
    """Set a silence, from now on unless a later start is given.

    Raises
    ------
    InvalidError
        It matches everything, says no reason or owner, or has no end ahead.
    """
    now = timezone.now()
    silence = Silence(
        matchers=_checked(matchers),
        reason=reason.strip(),
        owner=owner.strip(),
        starts_at=starts_at or now,
        ends_at=ends_at,
        created_by=by,
    )
    _refuse_problems(silence, now)
    with recorded(by=by, verb="create"):
        silence.save(force_insert=True)
    log.info("silence_created", silence_id=str(silence.pk), until=ends_at.isoformat(), by=by)
    return silence


def change(
    *,
    silence: Silence,
    by: str,
    matchers: Mapping[str, Any] | None = None,
    reason: str | None = None,
    owner: str | None = None,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    revision: int | None = None,
) -> Silence:
    """Change what is given of a silence that is not over, at that revision if one is given.

    Raises
    ------
    ConflictError
        It is over, or at another revision.
    InvalidError
        As for a new one.
    """
    now = timezone.now()
    given = {
        "matchers": None if matchers is None else _checked(matchers),
        "reason": None if reason is None else reason.strip(),
        "owner": None if owner is None else owner.strip(),
        "starts_at": starts_at,
        "ends_at": ends_at,
    }
    with recorded(by=by, verb="change"):
        stored = _locked(silence, now, revision)
        for name, value in given.items():
            if value is not None:
                setattr(stored, name, value)
        _refuse_problems(stored, now)
        stored.save(update_fields=list(given))
    log.info("silence_changed", silence_id=str(stored.pk), by=by)
    return stored


def end(*, silence: Silence, by: str, revision: int | None = None) -> Silence:
    """End a silence now, or let one that has not begun never begin.

    Raises
    ------
    ConflictError
        It is over, or at another revision than the one that is given.
    """
    now = timezone.now()
    with recorded(by=by, verb="end"):
        stored = _locked(silence, now, revision)
        stored.starts_at, stored.ends_at = min(stored.starts_at, now), now
        stored.save(update_fields=["starts_at", "ends_at"])
    log.info("silence_ended", silence_id=str(stored.pk), by=by)
    return stored


def preview(
    *, matchers: Mapping[str, Any], machine_ids: frozenset[uuid.UUID] | None = None
) -> list[Alert]:
    """Return the unresolved alerts that a silence would be for, worst first.

    `machine_ids` are those that may be seen, None where all are. Their documents are not read.

    Raises
    ------
    InvalidError
        As for a new one's matchers.
    """
    wanted = matching.read(_checked(matchers))
    found = Alert.objects.unresolved().within(machine_ids).worst_first().defer(*_DOCUMENTS)
    if wanted.alert_type:
        found = found.filter(alert_type__in=wanted.alert_type)
    if wanted.severity:
        found = found.filter(severity__in=wanted.severity)
    return [
        alert
        for alert in matching.load(found).values()
        if matching.matches(wanted, matching.matched(alert), every=True)
    ]


class InForce:
    """The silences in force at a time, read once."""

    def __init__(self, at: datetime) -> None:
        found = Silence.objects.in_force(at).order_by("-ends_at", "id")
        self._silences = [(one, wanted) for one in found if (wanted := _readable(one)) is not None]

    def over(self, matched: Matched) -> Silence | None:
        """Return the silence over an alert that ends last; of a fleet alert, over every machine."""
        for silence, wanted in self._silences:
            if matching.matches(wanted, matched, every=True):
                return silence
        return None


def machine_id(text: str) -> uuid.UUID | None:
    """Return the id that a matcher names a machine by, None where it is a name or a pattern."""
    if len(text) != _LENGTH_OF_AN_ID:  # 32 digits may be the name of a machine
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _readable(silence: Silence) -> Matchers | None:
    """Return a stored silence's matchers; what cannot be read silences nothing."""
    try:
        return matching.read(silence.matchers)
    except InvalidError as error:
        log.warning("silence_unreadable", silence_id=str(silence.pk), reason=error.detail)
        return None


def _checked(matchers: Mapping[str, Any]) -> dict[str, list[str]]:
    document = matching.read(matchers).document()
    if "machine" in document:
        document["machine"] = [str(machine_id(one) or one) for one in document["machine"]]
    if not document:
        raise InvalidError.field(
            "matchers",
            f"A silence names what it is for: one of {', '.join(matching.FIELDS)} at least."
            ' {"machine": ["*"]} is for every machine.',
        )
    return document


def _locked(silence: Silence, now: datetime, revision: int | None) -> Silence:
    """Return a silence as it stands, nobody else changing it; refuse one over, or changed since."""
    stored = Silence.objects.select_for_update().get(pk=silence.pk)
    current = SilenceEvent.objects.filter(pgh_obj_id=stored.pk).count()
    says = ""
    if stored.ends_at <= now:
        says = f"The silence is over since {stored.ends_at:%Y-%m-%d %H:%M} UTC. Set a new one."
    elif revision not in {None, current}:
        says = f"The silence is at revision {current}, not {revision}."
    if says:
        raise ConflictError(says, revision=current, **_state(stored))
    return stored


def _state(silence: Silence) -> dict[str, Any]:
    """Return how a silence stands, for whoever knew it otherwise."""
    return {
        "matchers": silence.matchers,
        "reason": silence.reason,
        "owner": silence.owner,
        "starts_at": silence.starts_at,
        "ends_at": silence.ends_at,
    }


def _refuse_problems(silence: Silence, now: datetime) -> None:
    problems = [FieldError(("body", name), text) for name, text in _problems(silence, now)]
    if problems:
        raise InvalidError(" ".join(problem.msg for problem in problems), problems)


def _problems(silence: Silence, now: datetime) -> Iterable[tuple[str, str]]:
    for name, longest in (("reason", LONGEST_REASON), ("owner", LONGEST_OWNER)):
        text = getattr(silence, name)
        if not text or len(text) > longest or "\x00" in text:
            yield name, f"{name} is a text of 1 to {longest} characters."
    for name in ("starts_at", "ends_at"):
        if timezone.is_naive(getattr(silence, name)):
            yield name, f"{name} needs a time zone, as in 2026-05-01T12:00:00Z."
            return
    if silence.ends_at <= silence.starts_at:
        yield "ends_at", "A silence ends after it starts."
    elif silence.ends_at <= now:
        yield "ends_at", "A silence ends later than now."
