"""What a message says in words: a subject, and of each condition a headline and its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Final

import msgspec

from modelperf.notifications.base import Envelope, Item, Says
from modelperf.templatetags.presentation import actor, moment, number, whole, words

_MOST_OF_A_SUBJECT: Final = 180
_WIDTH: Final = 78
_RANKS: Final = ("critical", "warning", "normal")
_ROSE: Final = "severity_rose"
_RESOLVED: Final = "resolved"
_GATHERED: Final = "in_fleet_alert"  # how an alert ends whose condition lasts in another
_SIGNS: Final = {"z": "Z ", "ks": "KS "}
_HEADS: Final = {
    "reopened": "{severity}, again",
    _ROSE: "Now {severity}",
    "snooze_over": "{severity}, its snooze is over",
    "silence_over": "{severity}, no longer silenced",
    _RESOLVED: "Over",
    _GATHERED: "Now part of a fleet alert",
}
_COUNTED: Final = {  # in the order in which a subject tells them
    "opened": "opened",
    "reopened": "opened again",
    _ROSE: "got worse",
    "snooze_over": "no longer snoozed",
    "silence_over": "no longer silenced",
    _RESOLVED: "over",
    _GATHERED: "now part of a fleet alert",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is told of one condition; `figures` may be empty, and so may `link`.

    Of what `is_over` here the condition lasts in another alert where it `is_gathered`.
    """

    severity: str
    headline: str
    figures: str
    link: str
    members: tuple[str, ...]
    is_over: bool
    is_gathered: bool = False


def line(text: str) -> str:
    """Return a text as one line of printable signs: what came with it can start no other."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(shown.split())


def news(envelope: Envelope) -> list[Item]:
    """Return the last there is of each alert, the ends last.

    What opened and got worse since has opened.
    """
    last: dict[object, Item] = {}
    for item in envelope.items:
        before = last.pop(item.alert_id, None)
        was = _ROSE if before is None or before.kind == _RESOLVED else before.kind
        last[item.alert_id] = (
            msgspec.structs.replace(item, kind=was) if item.kind == _ROSE else item
        )
    return sorted(last.values(), key=_order)


def _order(item: Item) -> tuple[bool, int]:
    return item.kind == _RESOLVED, _rank(item.read().severity)


def _rank(severity: str) -> int:
    return _RANKS.index(severity) if severity in _RANKS else len(_RANKS)


def conditions(envelope: Envelope) -> list[Condition]:
    """Return what is told, worst first and the ends last."""
    return [_condition(item) for item in news(envelope)]


def _condition(item: Item) -> Condition:
    says = item.read()
    return Condition(
        severity=says.severity,
        headline=headline(item),
        figures=" · ".join(_figures(item, says)),
        link=item.link,
        members=tuple(line(name) for name in item.members),
        is_over=item.kind == _RESOLVED,
        is_gathered=_became(item) == _GATHERED,
    )


def _became(item: Item) -> str:
    """Return the kind of what is told, where the end of an alert may be no end of its condition."""
    is_gathered = item.kind == _RESOLVED and item.read().resolution_action == _GATHERED
    return _GATHERED if is_gathered else item.kind


def headline(item: Item) -> str:
    """Return what happened to what, in a line: Critical: il-gas · baseline: bias is worse."""
    says = item.read()
    head = _HEADS.get(_became(item), "{severity}").format(severity=says.severity)
    return f"{head[:1].upper()}{head[1:]}: {line(says.message)}"


def _figures(item: Item, says: Says) -> Iterable[str]:
    if says.metric or says.threshold_of in _SIGNS:
        yield from _levels(says)
    since = says.changed_at or says.opened_at
    if since is not None:
        yield f"since {moment(since)}"
    if says.count > 1:
        yield f"seen {whole(says.count)} times"
    if says.model_version is not None:
        yield f"version {says.model_version}"
    if item.kind == _RESOLVED:
        became = "over at" if _became(item) == _RESOLVED else "in a fleet alert since"
        yield f"{became} {moment(item.occurred_at)}{_by(says)}"


def _levels(says: Says) -> Iterable[str]:
    sign = _SIGNS.get(says.threshold_of or "", "")
    if _is_of_its_limit(says):
        yield f"{sign}{number(says.current)} (limit {sign}{number(says.threshold)})"
        return
    if says.baseline is not None and says.current is not None:
        yield f"{number(says.baseline)} → {number(says.current)}"
    elif says.current is not None:
        yield f"now {number(says.current)}"
    if says.threshold is not None:
        yield f"limit {sign}{number(says.threshold)}"


def _is_of_its_limit(says: Says) -> bool:
    """Whether the level is a Z or a KS distance as its limit is, and not one of the metric.

    Machines share no level of the metric: theirs is the Z of their fall.
    """
    if says.current is None or says.threshold is None:
        return False
    is_of_machines = says.threshold_of == "z" and says.n_members is not None
    return is_of_machines or says.threshold_of == "ks"


def _by(says: Says) -> str:
    shown = "" if says.resolution_action == _GATHERED else says.resolution_action
    action = f" ({words(shown).lower()})" if shown else ""
    return f", by {line(actor(says.resolved_by))}{action}" if says.resolved_by else action


def subject(envelope: Envelope) -> str:
    """Return a line for a whole message: the worst severity and what, or how many of what."""
    if envelope.is_test:
        return _cut(f"Test of {line(envelope.route)}: nothing happened")
    told = news(envelope)
    if len(told) == 1:
        return _cut(headline(told[0]).removesuffix("."))
    counts = Counter(map(_became, told))
    parts = [f"{counts[kind]} {said}" for kind, said in _COUNTED.items() if counts[kind]]
    if parts:
        count, _, said = parts[0].partition(" ")
        parts[0] = f"{count} condition{'' if count == '1' else 's'} {said}"
    lasting = [item.read().severity for item in told if item.kind != _RESOLVED]
    head = f"{min(lasting, key=_rank).capitalize()}: " if lasting else ""
    return _cut(head + ", ".join(parts))


def _cut(text: str) -> str:
    return (
        text if len(text) <= _MOST_OF_A_SUBJECT else f"{text[: _MOST_OF_A_SUBJECT - 1].rstrip()}…"
    )


def parts(envelope: Envelope) -> list[tuple[str, list[Condition]]]:
    """Return what is told under its headings, which are empty where one would say nothing."""
    told = conditions(envelope)
    headed = [
        ("Now", [one for one in told if not one.is_over]),
        ("Part of a fleet alert", [one for one in told if one.is_gathered]),
        ("Over", [one for one in told if one.is_over and not one.is_gathered]),
    ]
    some = [(heading, those) for heading, those in headed if those]
    return some if len(some) > 1 else [("", those) for _, those in some]


def foot(envelope: Envelope) -> str:
    """Return why this came, in a sentence."""
    if envelope.is_test:
        return f'This is a test of "{line(envelope.route)}". Nothing happened.'
    return f'Sent by modelperf, since the route "{line(envelope.route)}" tells of it.'


def members(condition: Condition) -> str:
    """Return the machines that a fleet alert is about, by name."""
    return f"{whole(len(condition.members))} machines: {', '.join(condition.members)}"


def text(envelope: Envelope) -> str:
    """Return the whole message as plain text."""
    blocks: list[str] = []
    for heading, some in parts(envelope):
        if heading:
            blocks.append(heading)
        blocks.extend("\n".join(_lines(one)) for one in some)
    return "\n\n".join([*blocks, _signature(envelope)]) + "\n"


def _lines(condition: Condition) -> Sequence[str]:
    lines = [condition.headline]
    if condition.figures:
        lines.append(f"  {condition.figures}")
    if condition.members:
        lines.append(
            fill(
                members(condition),
                _WIDTH,
                initial_indent="  ",
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    if condition.link:
        lines.append(f"  {condition.link}")
    return lines


def _signature(envelope: Envelope) -> str:
    where = f"\n{envelope.public_url}" if envelope.public_url else ""
    return f"--\n{foot(envelope)}{where}"
