"""What the list of alerts and the page of one say alike: the condition, levels, small chances."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from django.utils.text import capfirst

from modelperf.models import Alert
from modelperf.templatetags.presentation import decimals_for, fixed, number

NBSP: Final = "\N{NO-BREAK SPACE}"
NEVER: Final = 1e-16  # what a p or q below it says is said by this already


@dataclass(frozen=True, slots=True)
class Told:
    """An alert's condition as a sentence, and what it is about: a machine, and which model."""

    where: str
    model: str
    sentence: str

    @property
    def place(self) -> str:
        """The machine and the model in a line."""
        return f"{self.where} · {self.model}"


def condition(alert: Alert) -> Told:
    """Return the condition without the place, which messages begin with.

    A machine may be called otherwise by now than its alert's message says.
    """
    version = f" v{alert.model_version}" if alert.model_version else ""
    model = rf"{re.escape(alert.model_type)}(?: v\d+)?: "
    if alert.machine is None:
        where, start = "Fleet", model
    else:
        where, start = alert.machine.name, rf"(?:{re.escape(alert.machine.name)}|.*?) · {model}"
    found = re.match(start, alert.alert_message, re.DOTALL)
    rest = alert.alert_message[found.end() :] if found else ""
    sentence = capfirst(rest) if rest else alert.alert_message
    return Told(where, f"{alert.model_type}{version}", sentence)


def level(value: float | None) -> str:
    """Return a value of a metric with the digits of its size: −40.0 beside −39.8."""
    if value is None or not math.isfinite(value) or not 1e-4 <= abs(value) < 1e9:
        return number(value)
    return fixed(value, decimals_for([math.nextafter(value, math.inf)]))


def small(name: str, value: float) -> str:
    """Return a p or a q, which is never nothing: q 0.0100, q < 1e−16."""
    return NBSP.join((name, *(("<", "1e−16") if value < NEVER else (number(value),))))
