"""In a sentence: when a metric crosses its limit, if it goes on like this."""

from __future__ import annotations

from modelperf.drawing.metric_names import MetricName
from modelperf.services.trend import OutlookReport
from modelperf.stats.outlook import OutlookStatus
from modelperf.templatetags.presentation import day, number


def outlook_sentence(outlook: OutlookReport, metric: MetricName) -> str:
    """Return the sentence, empty where there is no limit or too little data."""
    unit = f"\N{NO-BREAK SPACE}{metric.unit}" if metric.unit else ""
    limit = f"its limit of {number(outlook.limit)}{unit}"
    if outlook.status == OutlookStatus.CROSSED:
        return f"Its level is beyond {limit}."
    if outlook.status == OutlookStatus.OVERDUE:
        around = f"around {day(outlook.crosses_at)}"
        return f"Its trend leads across {limit} {around}, and no evaluation since has shown it."
    if outlook.status == OutlookStatus.CROSSES:
        sure = f"({100 * outlook.confidence:.0f}\N{NO-BREAK SPACE}%: {_range(outlook)})"
        return (
            f"If it goes on like this, it crosses {limit} around {day(outlook.crosses_at)} {sure}."
        )
    if outlook.status == OutlookStatus.NOT_WITHIN_A_YEAR:
        sure = f", and hardly before {day(outlook.earliest)}" if outlook.earliest else ""
        return f"If it goes on like this, it does not cross {limit} within a year{sure}."
    return ""


def _range(outlook: OutlookReport) -> str:
    if outlook.latest:
        return f"{day(outlook.earliest)} – {day(outlook.latest)}"
    return f"not before {day(outlook.earliest)}, perhaps not within a year"
