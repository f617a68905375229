"""An alert in short: how it stands, and its figures with their units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from modelperf.admin.alerts_words import level
from modelperf.drawing.metric_names import named
from modelperf.models import Alert
from modelperf.templatetags.presentation import actor, ago, moment, number, span, whole, words

_GLYPHS = {"open": "open", "acknowledged": "ack", "snoozed": "snooze", "resolved": "ok"}
IN_FLEET_ALERT: Final = "in_fleet_alert"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an alert stands in its life, who has it, and the rest in a sentence."""

    glyph: str
    word: str
    holder: str
    rest: str


class Fact(NamedTuple):
    """A name and what it is."""

    name: str
    value: str
    title: str = ""


def standing(alert: Alert) -> Standing:
    """Return state, holder, and what there is to say of both."""
    return Standing(_GLYPHS[alert.state], words(alert.state), _holder(alert), _rest(alert))


def _holder(alert: Alert) -> str:
    people = [alert.assignee.get_username()] if alert.assignee else []
    people += [f"team {alert.team.name}"] if alert.team else []
    if people:
        verb = "had" if alert.is_resolved else "has" if len(people) == 1 else "have"
        return f"{' and '.join(people)} {verb} it."
    return "" if alert.is_resolved else "Nobody has it yet."


def _rest(alert: Alert) -> str:
    if alert.resolution_action == IN_FLEET_ALERT:
        return f"A fleet alert took it over {ago(alert.resolved_at)}."
    if alert.is_resolved:
        done = words(alert.resolution_action)
        return f"{done}, by {actor(alert.resolved_by or '')} {ago(alert.resolved_at)}."
    if alert.state == Alert.State.SNOOZED:
        return f"Snoozed {' or '.join(_ends(alert))}."
    if alert.acknowledged_at is not None:
        return f"Acknowledged by {actor(alert.acknowledged_by)} {ago(alert.acknowledged_at)}."
    if alert.reopened_at is not None:
        return f"Reopened by {actor(alert.reopened_by)} {ago(alert.reopened_at)}."
    return ""


def _ends(alert: Alert) -> Iterator[str]:
    if alert.snoozed_until is not None:
        yield f"until {moment(alert.snoozed_until)}"
    if alert.snoozed_until_count is not None:
        yield f"until seen {whole(alert.snoozed_until_count)} times"
    if alert.snoozed_until_worse:
        yield "until it is worse"


def facts(alert: Alert, metric: str) -> list[Fact]:
    """Return the alert's figures and times."""
    return [*_figures(alert, metric), *_times(alert)]


def _figures(alert: Alert, metric: str) -> Iterator[Fact]:
    now, before, limit = (
        alert.current_metric_value,
        alert.baseline_metric_value,
        alert.threshold_value,
    )
    if alert.alert_type == Alert.Type.EVALUATION_MISSING:
        yield Fact("Expected", f"one each {span(limit)}")
        return
    if alert.alert_type == Alert.Type.DATA_DRIFT:
        yield from _told({"KS distance": now, "Limit": limit}, "")
        return
    if alert.machine_id is None:
        yield from _told({"Z": now, "Limit of Z": limit}, "")
        return
    unit = named(metric, alert.machine.metadata if alert.machine else None).unit
    is_limit = alert.alert_details.get("rule") == "limit"
    worst = alert.peak_metric_value
    levels = {"Now": now, "Before": before, "Worst": worst, "Limit": limit if is_limit else None}
    yield from _told(levels, unit, written=level)


def _told(
    figures: dict[str, float | None], unit: str, *, written: Callable[[float], str] = number
) -> Iterator[Fact]:
    for name, value in figures.items():
        if value is not None:
            yield Fact(name, f"{written(value)} {unit}".rstrip(), repr(value))


def _times(alert: Alert) -> Iterator[Fact]:
    yield Fact("Seen", f"{whole(alert.occurrences)} time{'' if alert.occurrences == 1 else 's'}")
    for name, when in (
        ("First seen", alert.created_at),
        ("Opened", alert.alert_timestamp),
        ("Last seen", alert.last_seen_at),
    ):
        yield Fact(name, ago(when), moment(when))
