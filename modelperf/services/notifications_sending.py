"""Messages are sent at least once: under a lease, one at a time over a channel, again until taken.

What is sent again has the same ids. Whoever lost his lease changes nothing of a message any more,
but that it was taken: that is so, whoever holds it by now.
"""

from __future__ import annotations

import random
import traceback
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from modelperf.models import Channel, Delivery, Message, Notice
from modelperf.notifications import DeliveryError, SettingsError, find
from modelperf.services import notifications_envelopes
from modelperf.services.notifications_sealing import older, seal

log = structlog.get_logger(__name__)

SHORTEST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=15)
GIVEN_UP_AFTER: Final = timedelta(days=1)
_SHARE_OF_AGE: Final = 8
_JITTER: Final = 0.2
FEWEST_ATTEMPTS: Final = 5  # or whoever was away himself for a day would give up at once
_MOST_LOGGED: Final = 20
_UNHEARD: Final = "Nobody knows: who sent it was not heard of."
_Status = Message.Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an attempt; `said` is what was answered, or why it was not taken."""

    message: Message
    is_sent: bool
    said: str
    is_final: bool = False
    may_have_come: bool = False
    retry_after: float = 0.0


def due_channels(*, now: datetime) -> list[uuid.UUID]:
    """Return the channels that something is to be sent over now, what waits longest first."""
    waiting = Message.objects.filter(status=_Status.WAITING)
    in_flight = waiting.filter(leased_until__gt=now).order_by().values("channel_id")
    due = waiting.filter(due_at__lte=now, channel__is_enabled=True)
    found = due.exclude(channel__in=in_flight).order_by("due_at", "id")
    return list(dict.fromkeys(found.values_list("channel_id", flat=True)))


def send_due(*, channel_id: uuid.UUID, now: datetime | None = None) -> list[Outcome]:
    """Send what is due over a channel, one message after another, until one is not taken."""
    outcomes: list[Outcome] = []
    while message := _claim(channel_id, now or timezone.now()):
        outcome = _sent(message, now or timezone.now())
        outcomes.append(outcome)
        _finish(outcome, now or timezone.now())
        if not outcome.is_sent:
            break
    return outcomes


@transaction.atomic
def _claim(channel_id: uuid.UUID, now: datetime) -> Message | None:
    """Take the message of a channel that is due longest, unless another one is on its way."""
    enabled = Channel.objects.filter(pk=channel_id, is_enabled=True)
    if enabled.select_for_update(no_key=True, skip_locked=True).first() is None:
        return None
    waiting = Message.objects.filter(channel=channel_id, status=_Status.WAITING)
    if waiting.filter(leased_until__gt=now).exists():
        return None
    due = waiting.filter(due_at__lte=now).order_by("due_at", "id")
    locked = due.select_for_update(of=("self",)).select_related("route", "channel")
    while message := locked.first():
        first = older(message)
        if first is not None and _waits_for(message, first, now):
            continue
        chosen = first or message
        if chosen.lease_id is not None and _is_given_up_unheard(chosen, now):
            continue
        sealed = chosen if chosen.sealed_at is not None else seal(chosen, now=now)
        if sealed is not None:
            return _leased(sealed, now)
    return None


def _waits_for(message: Message, first: Message, now: datetime) -> bool:
    """Let a message wait for the one that goes before it, unless that can be sent now."""
    is_here = first.channel_id == message.channel_id
    if is_here and first.due_at <= now:
        return False
    message.due_at = max(first.due_at, first.leased_until or now, now + SHORTEST_PAUSE)
    message.save(update_fields=["due_at"])
    return True


def _is_given_up_unheard(message: Message, now: datetime) -> bool:
    """Note that nobody was heard of who sent a message; whether it is given up by that."""
    unheard = Outcome(message=message, is_sent=False, said=_UNHEARD, may_have_come=True)
    _note(unheard, message.leased_until or now)
    ended = _after(unheard, now)
    if "due_at" in ended:
        return False
    Message.objects.filter(pk=message.pk).update(**ended, attempts_log=message.attempts_log)
    _tell_of_loss(message, _UNHEARD)
    return True


def _leased(message: Message, now: datetime) -> Message:
    message.lease_id = uuid.uuid4()
    message.leased_until = now + timedelta(seconds=settings.NOTIFICATION_LEASE_SECONDS)
    message.attempts += 1
    message.save(update_fields=["lease_id", "leased_until", "attempts", "attempts_log"])
    return message


def _sent(message: Message, now: datetime) -> Outcome:
    """Send a message and return what came of it; whatever breaks is a failure that is kept."""
    try:
        kind = find(message.channel.kind, message.channel.settings)
        answered = kind.send(notifications_envelopes.of_message(message), now)
    except SettingsError as error:  # a person may put them right
        pause = LONGEST_PAUSE.total_seconds()
        return Outcome(message=message, is_sent=False, said=str(error), retry_after=pause)
    except DeliveryError as error:
        return Outcome(
            message=message,
            is_sent=False,
            said=str(error),
            is_final=error.is_final,
            may_have_come=error.may_have_come,
            retry_after=error.retry_after or 0.0,
        )
    except Exception as error:
        said = _broke(error, message)
        return Outcome(message=message, is_sent=False, said=said, may_have_come=True)
    return Outcome(message=message, is_sent=True, said=answered)


def _broke(error: Exception, message: Message) -> str:
    """Return and log what broke and where, without its text: that may hold a secret."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    kind = type(error).__name__
    place = f"{where.name}:{where.lineno}"
    log.error("notification_broke", message_id=str(message.pk), error=kind, where=place)
    return f"Sending broke: {kind} in {place}."


@transaction.atomic
def _finish(outcome: Outcome, now: datetime) -> None:
    """Keep what came of an attempt, unless somebody else has taken the message over.

    That it was taken is kept all the same: else it would be sent on and on.
    """
    message = outcome.message
    told = {"message_id": str(message.pk), "channel": message.channel.name, "said": outcome.said}
    if not _is_still_ours(outcome):
        log.warning("notification_lease_lost", **told)
        return
    _note(outcome, now)
    ended = _after(outcome, now)
    Message.objects.filter(pk=message.pk).update(**ended, attempts_log=message.attempts_log)
    if outcome.is_sent:
        log.info("notification_sent", attempt=message.attempts, **told)
        _hasten(message, now)
    elif "due_at" in ended:
        again_at = ended["due_at"].isoformat()
        log.warning("notification_failed", attempt=message.attempts, again_at=again_at, **told)
    else:
        _tell_of_loss(message, outcome.said)


def _is_still_ours(outcome: Outcome) -> bool:
    """Lock a message that waits, and read what others noted of it; whether it is ours to end."""
    message = outcome.message
    waiting = Message.objects.select_for_update().filter(pk=message.pk, status=_Status.WAITING)
    held = waiting if outcome.is_sent else waiting.filter(lease_id=message.lease_id)
    stored = held.values_list("attempts_log", flat=True).first()
    message.attempts_log = stored if stored is not None else message.attempts_log
    return stored is not None


def _after(outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return what becomes of a message by an attempt: it has ended, or is due again."""
    free = {"lease_id": None, "leased_until": None}
    if outcome.is_sent:
        return free | {"status": _Status.SENT, "ended_at": now}
    since, n_attempts = _tried(outcome.message, now)
    is_too_old = now - since >= GIVEN_UP_AFTER and n_attempts >= FEWEST_ATTEMPTS
    if outcome.is_final or is_too_old:
        return free | {"status": _Status.FAILED, "ended_at": now}
    return free | {"due_at": now + pause(now - since, outcome.retry_after)}


def _tried(message: Message, now: datetime) -> tuple[datetime, int]:
    """Return since when a message is tried, and how often it was; again after a person said so."""
    tried: list[dict[str, Any]] = []
    since = message.sealed_at or now
    for entry in message.attempts_log:
        if entry.get("is_again"):
            tried, since = [], datetime.fromisoformat(entry["at"])
        else:
            tried.append(entry)
    return since, len(tried)


def pause(age: timedelta, retry_after: float = 0.0) -> timedelta:
    """Return how long a message of an age waits that was not taken: longer the older it is.

    At least as long as its receiver wants to be left alone, up to the longest pause there is.
    """
    usual = min(max(age / _SHARE_OF_AGE, SHORTEST_PAUSE), LONGEST_PAUSE)
    wanted = min(timedelta(seconds=retry_after), LONGEST_PAUSE)
    return max(usual * random.uniform(1 - _JITTER, 1 + _JITTER), wanted)  # noqa: S311


def _hasten(message: Message, now: datetime) -> None:
    """Let what waits to be tried again over a channel go at once: it takes messages."""
    tried = Message.objects.filter(channel=message.channel_id, status=_Status.WAITING)
    tried.filter(sealed_at__isnull=False, due_at__gt=now).update(due_at=now)


def _tell_of_loss(message: Message, said: str) -> None:
    told = Delivery.objects.filter(message=message, decision=Delivery.Decision.TOLD)
    events = list(told.order_by("notice_id").values_list("notice_id", flat=True))
    some = Notice.objects.filter(pk__in=events[:_MOST_LOGGED]).order_by("id")
    log.error(
        "notification_given_up",
        message_id=str(message.pk),
        channel=message.channel.name,
        attempts=message.attempts,
        said=said,
        events=len(events),
        not_told=[f"{notice.kind}: {notice.says.get('message', '')}" for notice in some],
    )


def give_up_what_is_off(*, now: datetime) -> int:
    """Give up what waits for a day over channels that are off; return how many messages."""
    long_ago = now - GIVEN_UP_AFTER
    waiting = Message.objects.filter(status=_Status.WAITING, channel__is_enabled=False)
    given_up = 0
    for message in waiting.filter(due_at__lte=long_ago).select_related("channel"):
        said = f"The channel {message.channel.name} is off."
        _note(Outcome(message=message, is_sent=False, said=said), now)
        ended = {"status": _Status.FAILED, "ended_at": now, "lease_id": None, "leased_until": None}
        still = waiting.filter(pk=message.pk)
        if still.update(**ended, attempts_log=message.attempts_log):
            _tell_of_loss(message, said)
            given_up += 1
    return given_up


def _note(outcome: Outcome, at: datetime) -> None:
    """Note what came of an attempt."""
    entry = {"at": at.isoformat(), "said": outcome.said, "is_sent": outcome.is_sent}
    if outcome.may_have_come:
        entry["may_have_come"] = True
    outcome.message.attempts_log = kept([*outcome.message.attempts_log, entry])


def kept(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is kept of attempts: the last ones, and of earlier ones what still counts."""
    earlier, last = entries[:-_MOST_LOGGED], entries[-_MOST_LOGGED:]
    counting = [
        [entry for entry in earlier if entry.get(name)][-1:]
        for name in ("is_again", "may_have_come")
    ]
    return [*(entry for entry in earlier if [entry] in counting), *last]
