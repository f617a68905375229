"""A verdict in a sentence: what happened, since when, how much, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

from modelperf.drawing.metric_names import MetricName
from modelperf.models import ModelVersion
from modelperf.models.metrics import Evaluation
from modelperf.pages.verdicts import GIVES_WAY, Silence, Verdict
from modelperf.stats.results import MetricKind
from modelperf.templatetags.presentation import ago, day, last_day, moment, number


@dataclass(frozen=True, slots=True)
class Sentence:
    """A bold beginning and the rest."""

    lead: str
    rest: str


def sentence(
    verdict: Verdict | None,
    *,
    version: ModelVersion | None,
    metric: MetricName,
    latest: Evaluation | None,
    silence: Silence | None,
    mean: float | None,
) -> Sentence:
    """Return the verdict in one or two sentences; `mean` is the metric's over the period."""
    if latest is None:
        return Sentence("No evaluation yet.", "Record the first one to see its trend here.")
    said = _said(verdict, version, metric, mean)
    if silence is None:
        return said
    old = _silent(silence)
    if verdict is not None and verdict.state.kind not in GIVES_WAY:
        return Sentence(said.lead, f"{said.rest} {old}")
    return Sentence(old, f"Before that: {_lower(said.lead)} {said.rest}")


def _silent(silence: Silence) -> str:
    told = f"{last_day(silence.since)} ({ago(silence.since)})"
    if silence.due_at is None:
        return f"The last evaluation is of {told}."
    return f"Nothing has arrived since {told}; an evaluation was due by {moment(silence.due_at)}."


def _said(
    verdict: Verdict | None, version: ModelVersion | None, metric: MetricName, mean: float | None
) -> Sentence:
    if version is None:
        return Sentence(
            "No version is active.", "Activate one, so that its evaluations are judged."
        )
    if verdict is None:
        return Sentence("Not judged yet.", f"No evaluation of v{version.model_version} was judged.")
    name = f"{metric.label} of v{version.model_version}"
    if verdict.state.kind == "stable":
        return _stable(verdict, name, metric, mean)
    teller = {
        "degraded": _degraded,
        "limit": _limit,
        "improved": _improved,
        "improvement_lost": _lost,
    }.get(verdict.state.kind, _insufficient)
    return teller(verdict, name, metric)


def _degraded(verdict: Verdict, name: str, metric: MetricName) -> Sentence:
    went = f"{name} went from {_levels(verdict, metric)}"
    if verdict.rule == "collapse":
        return Sentence(f"Collapsed{_since(verdict)}.", f"{went}; {_score(verdict)}.")
    return Sentence(
        f"Degraded{_since(verdict)}",
        f"{_uncertain(verdict)}. {went}{_size(verdict)}; {_evidence(verdict)}.",
    )


def _limit(verdict: Verdict, name: str, metric: MetricName) -> Sentence:
    crossing = verdict.crossing
    if crossing is None:
        raise AssertionError("a state of a crossed limit has one")
    since = f" since {day(crossing.since)}" if crossing.since else ""
    rest = (
        f"{name} is {_with_unit(crossing.value, metric)}, the limit"
        f" {_with_unit(crossing.limit, metric)}; {_evidence(verdict)}."
    )
    return Sentence(f"Limit crossed{since}.", rest)


def _improved(verdict: Verdict, name: str, metric: MetricName) -> Sentence:
    rest = f"{_uncertain(verdict)}. {name} went from {_levels(verdict, metric)}; "
    return Sentence(f"Improved{_since(verdict)}", rest + f"{_evidence(verdict)}.")


def _lost(verdict: Verdict, name: str, metric: MetricName) -> Sentence:
    rest = f"{name} went from {_levels(verdict, metric)}, which is not worse than it was at first."
    return Sentence(f"An earlier improvement is lost{_since(verdict)}.", rest)


def _stable(verdict: Verdict, name: str, metric: MetricName, mean: float | None) -> Sentence:
    # A verdict without a change holds levels around its best split too: they mean nothing.
    told = "" if mean is None else f" It is {_with_unit(mean, metric)} on average in this period."
    return Sentence("No change found", f"in the {name}; {_evidence(verdict)}.{told}")


def _insufficient(verdict: Verdict, name: str, metric: MetricName) -> Sentence:
    have = f"{verdict.n_evaluations} evaluation{'' if verdict.n_evaluations == 1 else 's'}"
    return Sentence(
        "Not enough data.",
        f"{have} of the {name}, {verdict.needed} more needed before a change can be told.",
    )


def _since(verdict: Verdict) -> str:
    return f" since {day(verdict.changed_at)}" if verdict.changed_at else ""


def _uncertain(verdict: Verdict) -> str:
    if verdict.changed_high is None:
        return ""
    if verdict.changed_low is None:
        return f" (95\N{NO-BREAK SPACE}%: not after {day(verdict.changed_high)})"
    return f" (95\N{NO-BREAK SPACE}%: {day(verdict.changed_low)} – {day(verdict.changed_high)})"


def _levels(verdict: Verdict, metric: MetricName) -> str:
    return f"{number(verdict.baseline)} to {_with_unit(verdict.current, metric)}"


def _with_unit(value: float | None, metric: MetricName) -> str:
    # A number and its unit stay on one line.
    return f"{number(value)}\N{NO-BREAK SPACE}{metric.unit}" if metric.unit else number(value)


def _size(verdict: Verdict) -> str:
    """Return the relative change; for a bias the growth is in its own unit and told already."""
    if verdict.effect is None or verdict.kind == MetricKind.TARGET_ZERO:
        return ""
    return f", {number(100 * verdict.effect)}\N{NO-BREAK SPACE}% worse"


def _evidence(verdict: Verdict) -> str:
    if verdict.statistic is None:
        return f"judged over {verdict.n_evaluations} evaluations"
    told = f"is {number(verdict.statistic)}"
    if verdict.peak is not None:
        told = f"reached {number(verdict.peak)}"
    return (
        f"Z {told} against a limit of {number(verdict.threshold)}"
        f" over {verdict.n_evaluations} evaluations"
    )


def _score(verdict: Verdict) -> str:
    """Return how far a collapse fell: its statistic is a robust z, not Z."""
    return f"{number(verdict.fall)} robust standard deviations away from what came before"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
