"""Why there is an alert, in sentences: what was compared, since when, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime

from modelperf.admin.alerts_words import NBSP, NEVER, level, small
from modelperf.drawing.metric_names import MetricName, named
from modelperf.models import Alert, DriftState, StoredVerdict
from modelperf.services.alerts_conditions import OWN_PART
from modelperf.services.policies import PolicyValues
from modelperf.stats.results import MetricKind
from modelperf.templatetags.presentation import day, moment, number, percent, span, whole


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the verdict behind an alert says beyond the alert itself."""

    metric: str
    kind: str
    n_evaluations: int
    changed_low: datetime | None
    changed_high: datetime | None
    effect: float | None
    cut_off: float | None


def evidence(alert: Alert) -> Evidence | None:
    """Return what the newest verdict says that is about the alert's change, or None."""
    if alert.model_id is None:
        return None
    state = (
        DriftState.objects.filter(model_id=alert.model_id)
        .select_related("stored_verdict")
        .defer("fold", "stored_verdict__fold", "stored_verdict__inputs")
        .first()
    )
    if state is not None and _is_about(state.verdict, alert):
        stored = state.stored_verdict
        return _evidence(alert, state.verdict, state.rules, stored.alert if stored else {})
    verdicts = StoredVerdict.objects.filter(model_id=alert.model_id).defer("fold", "inputs")
    if alert.resolved_at is not None:
        verdicts = verdicts.filter(judged_at__lte=alert.resolved_at)
    found = verdicts.order_by("-judged_at").first()
    if found is None or not _is_about(found.verdict, alert):
        return None
    return _evidence(alert, found.verdict, found.rules, found.alert)


def _is_about(verdict: Mapping[str, Any], alert: Alert) -> bool:
    details = alert.alert_details
    is_of_metric = details.get("metric") in (None, verdict.get("metric"))
    is_of_change = verdict.get("changed_at") == details.get("changed_at")
    return is_of_metric and (is_of_change or details.get("rule") == "limit")


def _evidence(
    alert: Alert, verdict: Mapping[str, Any], rules: Mapping[str, Any], why: Mapping[str, Any]
) -> Evidence:
    decided = (one for one in why.get("decisions", ()) if one.get("alert_id") == str(alert.pk))
    is_of_change = alert.alert_details.get("rule") == "change_point"
    return Evidence(
        metric=verdict.get("metric") or "",
        kind=rules.get("kind", ""),
        n_evaluations=verdict.get("n_evaluations") or 0,
        changed_low=when(verdict.get("changed_after")) if is_of_change else None,
        changed_high=when(verdict.get("changed_before")) if is_of_change else None,
        effect=verdict.get("effect") if is_of_change else None,
        cut_off=next((one["cut_off"] for one in decided if one.get("cut_off")), None),
    )


def when(value: Any) -> datetime | None:
    """Return a stored time, or None where there is none."""
    return parse_datetime(value) if isinstance(value, str) else None


def sentences(alert: Alert, found: Evidence | None, policy: PolicyValues) -> list[str]:
    """Return why there is the alert, from what it stores and what its verdict adds."""
    teller = _TELLERS.get(alert.alert_details.get("rule", ""))
    told = teller(alert, found, policy) if teller else iter(())
    return [sentence for sentence in told if sentence]


def _change(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    details = alert.alert_details
    name = _name(alert)
    yield (
        f"{name.label}{_of_version(alert)} was {_level(alert.baseline_metric_value, name)} on"
        f" average before {_dated(details, found)} and has been"
        f" {_level(alert.current_metric_value, name)} since{_size(found)}."
    )
    over = f" over {whole(found.n_evaluations)} evaluations" if found else ""
    yield (
        f"The evidence Z reached {number(details.get('peak_statistic'))} against a limit of"
        f" {number(alert.threshold_value)}{over} ({_since(alert)})."
    )
    yield _budget(details, found, policy)


def _budget(details: Mapping[str, Any], found: Evidence | None, policy: PolicyValues) -> str:
    p = details.get("confirmed_p")
    if p is None:
        return ""
    at_most = "below 1e−16" if p < NEVER else f"of at most {number(p)}"
    cut = found.cut_off if found else None
    cut_off = "" if cut is None else f", at or below the check's cut-off of {number(cut)}"
    return (
        f"Two evaluations in a row had a p {at_most}{cut_off}: of the alerts that one"
        f" check opens, {percent(policy.q)} are false in the mean."
    )


def _own(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    yield "What the other machines of the type share is taken out of these figures."
    yield from _change(alert, found, policy)


def _collapse(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    details = alert.alert_details
    name = _name(alert)
    yield (
        f"{name.label}{_of_version(alert)} collapsed, from"
        f" {_level(alert.baseline_metric_value, name)} before {_dated(details, found)} to"
        f" {_level(alert.current_metric_value, name)} since."
    )
    yield (
        f"That is {number(details.get('peak_statistic'))} robust standard deviations away from what"
        f" came before, against a limit of {number(alert.threshold_value)} ({_since(alert)})."
    )


def _limit(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    details = alert.alert_details
    name = _name(alert)
    yield (
        f"{name.label}{_of_version(alert)} is"
        f" {_level(alert.current_metric_value, name)}, beyond its limit of"
        f" {_level(alert.threshold_value, name)} since {_dated(details, found)}"
        f" ({_since(alert)})."
    )
    clears = (
        f" and clears at {number(policy.clear_value)}" if policy.clear_value is not None else ""
    )
    yield (
        f"The policy's limit holds where {policy.limit_hits} of the last {policy.limit_windows}"
        f" evaluations are beyond it{clears}."
    )


def _outlier(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    ended = moment(when(alert.alert_details.get("changed_at")))
    yield f"The window that ended {ended} alone lies far off; the evaluations before it do not."


def _missing(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    details = alert.alert_details
    yield (
        f"The policy expects an evaluation each {span(details.get('expected_cadence_seconds'))}."
        f" The newest one ended {moment(when(details.get('changed_at')))}, the next was due by"
        f" {moment(when(details.get('due_at')))}."
    )


def _features(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    features = alert.alert_details.get("features") or []
    began = when(alert.alert_details.get("changed_at"))
    names = ", ".join(_feature(one) for one in features[:5])
    more = f", and {len(features) - 5} more" if len(features) > 5 else ""
    yield (
        f"In the window from {day(began)} on, these are distributed otherwise than in the data that"
        f" the version was trained on: {names}{more}."
    )
    yield (
        f"A KS distance is the largest difference of two cumulative shares; below"
        f" {number(alert.threshold_value)} none counts, however sure it is."
    )


def _feature(one: Mapping[str, Any]) -> str:
    q = one.get("q_value")
    sure = f", {small('q', q)}" if q is not None else ""
    return f"{one.get('name', '')} (KS{NBSP}{number(one.get('ks_distance'))}{sure})"


def _together(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    details = alert.alert_details
    yield (
        f"{whole(details.get('n_members'))} of {whole(details.get('n_machines'))} machines of the"
        f" type share one change since {_dated(details, None)}; they get no alerts of their own."
    )
    if alert.current_metric_value is not None:
        yield (
            f"Of what they share the evidence Z is {number(alert.current_metric_value)} against a"
            f" limit of {number(alert.threshold_value)}."
        )


def _storm(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    details = alert.alert_details
    yield (
        f"{whole(details.get('n_members'))} of {whole(details.get('n_machines'))} machines of the"
        f" type alert since {_dated(details, None)}, from whatever cause; at least"
        f" {policy.fleet_alert_machines} and {percent(policy.fleet_alert_share)} at once are one"
        " alert."
    )


def _failed(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    yield "The training run says why it failed; the version before it goes on serving."


def _not_helping(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    yield (
        f"{number(alert.threshold_value)} trainings by itself have not ended the condition, which"
        " is as many as the policy allows. No more is tried until this alert is resolved."
    )


def _over(alert: Alert, found: Evidence | None, policy: PolicyValues) -> Iterator[str]:
    yield "The test's time is over and nobody has decided it; until then nothing changes."
    if test := alert.alert_details.get("test_id"):
        yield f"Its page says how it stands. Decide it with POST /ab-test/{test}/decision."


def _dated(details: Mapping[str, Any], found: Evidence | None) -> str:
    changed = when(details.get("changed_at"))
    if changed is None:
        return "its first evaluation"
    if found is None or found.changed_high is None:
        return day(changed)
    if found.changed_low is None:
        return f"{day(changed)} (95{NBSP}%: not after {day(found.changed_high)})"
    return f"{day(changed)} (95{NBSP}%: {day(found.changed_low)} to {day(found.changed_high)})"


def _size(found: Evidence | None) -> str:
    """Return the relative change; for a bias the growth is in its own unit and told already."""
    if found is None or found.effect is None or found.kind == MetricKind.TARGET_ZERO:
        return ""
    return f", {number(100 * found.effect)}{NBSP}% worse"


def _since(alert: Alert) -> str:
    n = alert.occurrences
    return f"{whole(n)} evaluation{'' if n == 1 else 's'} since the change"


def _of_version(alert: Alert) -> str:
    return f" of version {alert.model_version}" if alert.model_version else ""


def _name(alert: Alert) -> MetricName:
    metric = alert.alert_details.get("metric") or "the metric"
    return named(metric, alert.machine.metadata if alert.machine else None)


def _level(value: float | None, name: MetricName) -> str:
    # A number and its unit stay on one line.
    return f"{level(value)}{NBSP}{name.unit}" if name.unit else level(value)


_TELLERS = {
    "change_point": _change,
    OWN_PART: _own,
    "collapse": _collapse,
    "limit": _limit,
    "outlier": _outlier,
    "evaluation_missing": _missing,
    "data_drift": _features,
    "common_cause": _together,
    "storm": _storm,
    Alert.Type.TRAINING_FAILED.value: _failed,
    Alert.Type.RETRAINING_NOT_HELPING.value: _not_helping,
    Alert.Type.AB_TEST_COMPLETED.value: _over,
}
