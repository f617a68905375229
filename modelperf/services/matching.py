"""Matchers: which alerts a route tells of, and which a silence is for."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from django.db.models import Prefetch, QuerySet
from msgspec import Struct

from modelperf.models import Alert, AlertMember
from modelperf.services.errors import FieldError, InvalidError

MOST_VALUES: Final = 200
LONGEST_VALUE: Final = 200
_CHOICES: Final = {
    "alert_type": tuple(Alert.Type.values),
    "severity": tuple(Alert.Severity.values),
}


class Matchers(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What alerts have to be like, each field one of its values; a field without any is met.

    In `model_type`, `machine` (a name or an id) and `location` a `*` stands for anything.
    """

    alert_type: tuple[str, ...] = ()
    model_type: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()
    location: tuple[str, ...] = ()
    severity: tuple[str, ...] = ()

    def document(self) -> dict[str, list[str]]:
        """Return them as they are stored and sent."""
        return {
            name: list(values) for name, values in msgspec.structs.asdict(self).items() if values
        }

    def __str__(self) -> str:
        """Return them in words."""
        said = [f"{name} {' or '.join(values)}" for name, values in self.document().items()]
        return ", ".join(said) or "every alert"


FIELDS: Final = Matchers.__struct_fields__


class Place(NamedTuple):
    """A machine that an alert is about."""

    id: uuid.UUID
    name: str
    location: str


class Matched(NamedTuple):
    """What is compared with matchers: an alert, and the machines that it is about now."""

    alert_type: str
    severity: str
    model_type: str
    machines: tuple[Place, ...]


def read(document: Any) -> Matchers:
    """Return the matchers of a document; an InvalidError names each thing that is wrong."""
    try:
        found = msgspec.convert(document, Matchers)
    except msgspec.ValidationError as error:
        said = f"Matchers: {error}. They hold lists of texts, of {', '.join(FIELDS)}."
        raise InvalidError(said, [FieldError(("body", "matchers"), said)]) from None
    problems = [
        FieldError(("body", "matchers", name), problem)
        for name in FIELDS
        for problem in _problems(name, getattr(found, name))
    ]
    if problems:
        raise InvalidError(" ".join(problem.msg for problem in problems), problems)
    return found


def _problems(name: str, values: tuple[str, ...]) -> Iterable[str]:
    if len(values) > MOST_VALUES:
        yield f"{name} takes {MOST_VALUES} values at most; use * to match many."
    if any(not value or len(value) > LONGEST_VALUE or "\x00" in value for value in values):
        yield f"Each value of {name} is a text of 1 to {LONGEST_VALUE} characters."
        return
    known = _CHOICES.get(name)
    unknown = [value for value in values if known and value not in known]
    if known and unknown:
        yield f"{name} is one of {', '.join(known)}, not {', '.join(unknown)[:LONGEST_VALUE]}."


def matches(matchers: Matchers, matched: Matched, *, every: bool) -> bool:
    """Whether matchers are met: by any of an alert's machines, or by every one of them."""
    return why_not(matchers, matched, every=every) is None


def why_not(matchers: Matchers, matched: Matched, *, every: bool) -> str | None:
    """Return what is not met, as part of a sentence; None where everything is."""
    for name in ("alert_type", "severity"):
        wanted, value = getattr(matchers, name), getattr(matched, name)
        if wanted and value not in wanted:
            return f"{name} {value} does not match {' or '.join(wanted)}"
    if matchers.model_type and not _fits(matchers.model_type, matched.model_type):
        return f"model_type {matched.model_type} does not match {' or '.join(matchers.model_type)}"
    return _why_no_place(matchers, matched.machines, every=every)


def _why_no_place(matchers: Matchers, machines: tuple[Place, ...], *, every: bool) -> str | None:
    if not (matchers.machine or matchers.location):
        return None
    wanted = str(Matchers(machine=matchers.machine, location=matchers.location))
    if not machines:
        return f"it is about no machine, and {wanted} is wanted"
    others = [place for place in machines if not _is_at(matchers, place)]
    if not others or (len(others) < len(machines) and not every):
        return None
    if len(machines) == 1:
        place = f" in {others[0].location}" if matchers.location and others[0].location else ""
        return f"machine {others[0].name}{place} does not match {wanted}"
    return f"{len(others)} of its {len(machines)} machines do not match {wanted}"


def _is_at(matchers: Matchers, place: Place) -> bool:
    is_named = not matchers.machine or _fits(matchers.machine, place.name, str(place.id))
    return is_named and (not matchers.location or _fits(matchers.location, place.location))


def _fits(patterns: Iterable[str], *texts: str) -> bool:
    return any(is_like(text, pattern) for pattern in patterns for text in texts)


def is_like(text: str, pattern: str) -> bool:
    """Whether a text is like a pattern, in which `*` stands for anything; nothing else does.

    In time that grows with their lengths only, whatever the pattern.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *between, last = rest
    if len(text) < len(first) + len(last):
        return False
    if not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in between:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def load(alerts: QuerySet[Alert]) -> dict[uuid.UUID, Alert]:
    """Return alerts by id, in their order, with what `matched` needs to know of them."""
    members = AlertMember.objects.order_by().select_related("machine")
    related = Prefetch("members", queryset=members, to_attr="places")
    return {one.pk: one for one in alerts.select_related("machine").prefetch_related(related)}


def matched(alert: Alert, says: Mapping[str, Any] | None = None) -> Matched:
    """Return what a loaded alert is compared by; `says` is what it was like before, if given.

    A fleet alert is about the machines that are in it, and once it is over about those that were.
    """
    said = says or {}
    return Matched(
        alert_type=said.get("alert_type", alert.alert_type),
        severity=said.get("severity", alert.severity),
        model_type=said.get("model_type", alert.model_type),
        machines=tuple(
            Place(machine.pk, machine.name, machine.location) for machine in machines(alert)
        ),
    )


def machines(alert: Any) -> list[Any]:
    """Return the machines that a loaded alert is about, by name."""
    if alert.machine is not None:
        return [alert.machine]
    present = [member for member in alert.places if member.left_at is None]
    return sorted(
        (member.machine for member in present or alert.places),
        key=lambda machine: (machine.name, machine.pk),
    )
