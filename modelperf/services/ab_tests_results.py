"""Where an A/B test stands, told: the contract's fields, the sample ratio and a sentence."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from modelperf.models import ABTest
from modelperf.services.ab_tests_evidence import winner
from modelperf.services.ab_tests_status import status_now
from modelperf.stats.sample_ratio import sample_ratio


@dataclass(frozen=True, slots=True)
class Results:
    """Where a test stands. Differences are loss_a - loss_b: positive, model B leads."""

    test_id: uuid.UUID
    test_name: str
    test_status: str
    model_a_version: int
    model_b_version: int
    winner: str | None
    confidence: float
    model_a_metrics: dict[str, Any]
    model_b_metrics: dict[str, Any]
    recommendation: str
    metric: str | None
    effect: float | None
    interval: tuple[float | None, float | None]
    evidence: dict[str, Any]
    sample_ratio: dict[str, Any]


def told(
    test: ABTest,
    evidence: dict[str, Any],
    model_a_metrics: dict[str, Any],
    model_b_metrics: dict[str, Any],
    *,
    ended: bool,
) -> Results:
    """Return the results that an evidence document amounts to."""
    is_cancelled = test.test_status == ABTest.Status.CANCELLED
    ratio = ratio_of(test, evidence)
    named = winner(evidence["outcome"], ended=ended, blocked=ratio["is_off"])
    return Results(
        test_id=test.pk,
        test_name=test.test_name,
        test_status=status_now(test),
        model_a_version=test.model_a_version,
        model_b_version=test.model_b_version,
        winner=None if is_cancelled else named,
        confidence=evidence["confidence"],
        model_a_metrics=model_a_metrics,
        model_b_metrics=model_b_metrics,
        recommendation=_recommendation(test, evidence, ratio, ended=ended),
        metric=evidence["metric"],
        effect=evidence["mean_difference"],
        interval=(evidence["low"], evidence["high"]),
        evidence=evidence,
        sample_ratio=ratio,
    )


def ratio_of(test: ABTest, evidence: dict[str, Any]) -> dict[str, Any]:
    """Return how the units were split, and whether that blocks a winner; only arms can be off."""
    rows = [evidence.get("rows_a", 0), evidence.get("rows_b", 0)]
    document = {
        "checked": False,
        "planned": [test.traffic_split_a, test.traffic_split_b],
        "windows": [evidence["windows_a"], evidence["windows_b"]],
        "rows": rows,
        "share": None,
        "p_value": None,
        "is_off": False,
    }
    if evidence.get("source") != "observations":
        reason = "Windows are not traffic: their number says nothing about the split."
        if evidence["design"] == "paired":
            reason = "Both arms are compared on the windows they share."
        return {**document, "reason": reason}
    if evidence["design"] == "paired":
        return {**document, "reason": "Both versions were observed on every unit."}
    found = sample_ratio(*rows, planned_a=test.traffic_split_a)
    reason = "No winner is declared." if found.is_off else "The split is as planned."
    figures = {"share": found.share, "p_value": found.p_value, "is_off": found.is_off}
    return {**document, **figures, "checked": True, "reason": reason}


def _recommendation(
    test: ABTest, evidence: dict[str, Any], ratio: dict[str, Any], *, ended: bool
) -> str:
    seen = _seen(evidence)
    if test.test_status == ABTest.Status.CANCELLED:
        return f"The test was cancelled after {seen}: it has no result."
    if ratio["is_off"]:
        return (
            f"No winner: {ratio['share']:.1%} of the units went to v{test.model_a_version} where"
            f" {test.traffic_split_a:.1%} were planned. Find out which units are lost."
        )
    match evidence["outcome"]:
        case "model_a":
            return _promotion(test.model_a_version, evidence)
        case "model_b":
            return _promotion(test.model_b_version, evidence)
        case "equivalent":
            return f"No winner: on {seen} the versions differ by less than what matters."
    return _undecided(test, evidence, ended=ended)


def _promotion(version: int, evidence: dict[str, Any]) -> str:
    return (
        f"Promote v{version}: its {evidence['metric']} is better on {_seen(evidence)} "
        f" ({sureness(evidence['confidence'])})."
    )


def _undecided(test: ABTest, evidence: dict[str, Any], *, ended: bool) -> str:
    seen, needed = _seen(evidence), evidence["needed"]
    if evidence["n"] == 0 and evidence.get("source") != "observations":
        return "No data: neither version has evaluations on the windows of this test."
    if ended:
        return f"No winner: {seen} were not enough to tell the versions apart."
    if evidence.get("source") == "observations" and timezone.now() < test.counts_from:
        since = f"{test.counts_from:%d %B, %H:%M} UTC"
        return f"Undecided after {seen}: rows decide nothing before {since}."
    if not needed:
        return f"Undecided after {seen}: no end is in sight at the present difference."
    return f"Undecided after {seen}: about {needed:,} more are likely needed."


def _seen(evidence: dict[str, Any]) -> str:
    if evidence.get("source") != "observations":
        return f"{evidence['n']} windows"
    return f"{evidence['n']:,} rows" + (" an arm" if evidence["design"] == "two_sample" else "")


def sureness(confidence: float) -> str:
    """Say how sure it is, never rounded up to certainty."""
    return "confidence above 99.9 %" if confidence > 0.999 else f"confidence {confidence:.1%}"
