"""What observations or evaluations say of an A/B test: losses of both arms, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from math import isfinite
from typing import Any, Final

import numpy as np

from modelperf.models import ABRowState, ABTest, ModelPerformanceMetric
from modelperf.services import ab_tests_rows
from modelperf.services.policies import PolicyValues
from modelperf.stats import sequential
from modelperf.stats.evidence import Evidence, Outcome
from modelperf.stats.results import MetricKind

MIN_PAIRS: Final = 8
MOST_LOOKS: Final = 600  # of the plot; rows have fewer by themselves
# PostgreSQL writes a larger number out in digits, which no reader takes for a double any more.
LARGEST_SHOWN_E: Final = 1e15
_LOSSES: Final = ("rmse", "mae", "mape")
_SHOWN: Final = ("r_squared", "rmse", "mae")
_Window = tuple[datetime, datetime]
_Arm = dict[_Window, ModelPerformanceMetric]
_Losses = dict[_Window, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The two arms on what decides between them, and the evidence on one loss.

    `looked_at` has the time of each look. Rows are counted where observations decide; metrics are
    means over the windows then too.
    """

    source: str  # observations or windows
    metric: str | None
    design: str
    evidence: Evidence
    model_a_metrics: dict[str, float | int | None]
    model_b_metrics: dict[str, float | int | None]
    windows_a: int
    windows_b: int
    rows_a: int
    rows_b: int
    looked_at: list[datetime]


def compare(test: ABTest, policy: PolicyValues, *, ended_at: datetime | None) -> Comparison:
    """Compare the arms of a test: on its observations where there are any, else on its windows."""
    windows = _compare_windows(test, policy)
    state = ABRowState.objects.filter(test=test).first()
    if state is None:
        return windows
    evidence, seen = ab_tests_rows.weigh(test, state, ended_at=ended_at)
    return replace(
        windows,
        source="observations",
        metric="loss",
        design="paired" if state.form == ABRowState.Form.PAIRS else "two_sample",
        evidence=evidence,
        model_a_metrics={**windows.model_a_metrics, "sample_count": state.rows_a},
        model_b_metrics={**windows.model_b_metrics, "sample_count": state.rows_b},
        rows_a=state.rows_a,
        rows_b=state.rows_b,
        looked_at=[at for _, at in seen],
    )


def _compare_windows(test: ABTest, policy: PolicyValues) -> Comparison:
    """Compare on windows, paired where both arms saw the same ones."""
    arm_a, arm_b = _arms(test)
    paired = _is_paired(arm_a, arm_b)
    if paired:
        common = sorted(arm_a.keys() & arm_b.keys())
        arm_a = {window: arm_a[window] for window in common}
        arm_b = {window: arm_b[window] for window in common}
    metric, kind = _metric(arm_a, arm_b, policy)
    losses_a, losses_b = _losses(arm_a, metric, kind), _losses(arm_b, metric, kind)
    return Comparison(
        source="windows",
        metric=metric,
        design="paired" if paired else "two_sample",
        evidence=_evidence(test, losses_a, losses_b, paired=paired),
        model_a_metrics=_summary(arm_a.values()),
        model_b_metrics=_summary(arm_b.values()),
        windows_a=len(arm_a),
        windows_b=len(arm_b),
        rows_a=0,
        rows_b=0,
        looked_at=_look_times(losses_a, losses_b, paired=paired),
    )


def _is_paired(arm_a: _Arm, arm_b: _Arm) -> bool:
    """Whether the arms share most windows of the smaller one, at the first that tell.

    What comes later changes the design no more: a decision stays, and no test has two designs to
    be wrong by. Before enough windows are there, neither design can decide.
    """
    seen_a = seen_b = common = 0
    is_paired = True
    for window in sorted(arm_a.keys() | arm_b.keys()):
        seen_a += window in arm_a
        seen_b += window in arm_b
        common += window in arm_a and window in arm_b
        smaller = min(seen_a, seen_b)
        is_paired = 2 * common >= smaller
        if (common if is_paired else smaller) >= MIN_PAIRS:
            break
    return is_paired


def _arms(test: ABTest) -> tuple[_Arm, _Arm]:
    found = ModelPerformanceMetric.objects.of_series(
        machine_id=test.machine_id, model_type=test.model_type
    ).filter(model_id__in=[test.model_a_id, test.model_b_id], evaluation_start__gte=test.test_start)
    if test.test_end is not None:
        found = found.filter(evaluation_end__lte=test.test_end)
    arms: dict[Any, _Arm] = {test.model_a_id: {}, test.model_b_id: {}}
    for row in found.order_by("evaluation_end", "evaluation_start"):
        arms[row.model_id][row.evaluation_end, row.evaluation_start] = row
    return arms[test.model_a_id], arms[test.model_b_id]


def _metric(arm_a: _Arm, arm_b: _Arm, policy: PolicyValues) -> tuple[str | None, MetricKind | None]:
    """Return the metric to compare by: the judged one, or a loss where that one aims at zero.

    A bias near zero says little about the size of the errors around it.
    """
    reported = {name for row in (*arm_a.values(), *arm_b.values()) for name in row.metrics}
    metric = policy.judged_metric(reported)
    if metric and policy.kind(metric) is MetricKind.TARGET_ZERO:
        metric = next((name for name in _LOSSES if name in reported), metric)
    return metric, policy.kind(metric) if metric else None


def _evidence(test: ABTest, losses_a: _Losses, losses_b: _Losses, *, paired: bool) -> Evidence:
    if paired:
        return sequential.paired(
            list(losses_a.values()),
            list(losses_b.values()),
            confidence_level=test.confidence_level,
            margin=test.margin,
            min_pairs=MIN_PAIRS,
        )
    return sequential.two_sample(
        list(losses_a.values()),
        list(losses_b.values()),
        arrived_a=[end.timestamp() for end, _ in losses_a],
        arrived_b=[end.timestamp() for end, _ in losses_b],
        confidence_level=test.confidence_level,
        margin=test.margin,
        min_pairs=MIN_PAIRS,
    )


def _look_times(losses_a: _Losses, losses_b: _Losses, *, paired: bool) -> list[datetime]:
    """Return when each look was: at a pair of windows, or at what came since both arms began."""
    ends_a = [window for window, loss in losses_a.items() if isfinite(loss)]
    ends_b = [window for window, loss in losses_b.items() if isfinite(loss)]
    if paired:
        return [end for end, _ in sorted({*ends_a} & {*ends_b})]
    if not ends_a or not ends_b:
        return []
    begun = max(ends_a[0][0], ends_b[0][0])
    return sorted({end for end, _ in (*ends_a, *ends_b) if end >= begun})


def _losses(arm: _Arm, metric: str | None, kind: MetricKind | None) -> _Losses:
    """Return the metric as a loss, lower is better, in order of time."""
    return {
        window: _loss(float(row.metrics.get(metric, np.nan)), kind) for window, row in arm.items()
    }


def _loss(value: float, kind: MetricKind | None) -> float:
    match kind:
        case MetricKind.LOSS | MetricKind.LOWER:
            return value
        case MetricKind.R_SQUARED | MetricKind.PROPORTION:
            return 1 - value
        case MetricKind.HIGHER:
            return -value
        case MetricKind.TARGET_ZERO:
            return abs(value)
    return float("nan")


def _summary(rows: Iterable[ModelPerformanceMetric]) -> dict[str, float | int | None]:
    rows = list(rows)
    means = {name: _mean([getattr(row, name) for row in rows]) for name in _SHOWN}
    return {**means, "sample_count": sum(row.sample_count for row in rows)}


def _mean(values: list[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return float(np.mean(given)) if given else None


def evidence_document(comparison: Comparison) -> dict[str, Any]:
    """Return the evidence over time as plain values, for the answer and for what is stored."""
    evidence = comparison.evidence
    document = {
        name: value
        for name, value in asdict(evidence).items()
        if name not in ("ns", "e_values", "lows", "highs", "means", "outcome")
    }
    return {
        **document,
        "outcome": evidence.outcome.value,
        "e_value": min(evidence.e_value, LARGEST_SHOWN_E),
        "source": comparison.source,
        "metric": comparison.metric,
        "design": comparison.design,
        "windows_a": comparison.windows_a,
        "windows_b": comparison.windows_b,
        "rows_a": comparison.rows_a,
        "rows_b": comparison.rows_b,
        "over_time": over_time(evidence, comparison.looked_at),
    }


def over_time(evidence: Evidence, looked_at: list[datetime]) -> list[dict[str, Any]]:
    """Return the looks for a plot: of many an even choice, with the first, last and decisive one.

    The p-value and the interval are running ones, so that a look left out is not missed.
    """
    p_values = np.minimum(1, 1 / np.maximum.accumulate(evidence.e_values))
    columns = (
        [at.isoformat().replace("+00:00", "Z") for at in looked_at],
        evidence.ns.tolist(),
        np.minimum(evidence.e_values, LARGEST_SHOWN_E).tolist(),
        p_values.tolist(),
        _plain(evidence.lows),
        _plain(evidence.highs),
        evidence.means.tolist(),
    )
    names = ("at", "n", "e_value", "p_value", "low", "high", "mean_difference")
    looks = [dict(zip(names, look, strict=True)) for look in zip(*columns, strict=True)]
    return [looks[place] for place in _chosen(evidence)]


def _chosen(evidence: Evidence) -> list[int]:
    n = evidence.ns.size
    if n <= MOST_LOOKS:
        return list(range(n))
    chosen = set(np.linspace(0, n - 1, MOST_LOOKS - 1).round().astype(int).tolist())
    if evidence.decided_at is not None:
        chosen.add(int(np.searchsorted(evidence.ns, evidence.decided_at)))
    return sorted(chosen)


def _plain(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def winner(outcome: str, *, ended: bool, blocked: bool) -> str | None:
    """Return the winner the contract names: null while undecided, no_winner once that is final.

    A split that is off blocks every decision: such a test compares lost units, not models.
    """
    if blocked:
        return "no_winner" if ended else None
    if outcome in (Outcome.MODEL_A, Outcome.MODEL_B):
        return outcome
    return "no_winner" if ended or outcome == Outcome.EQUIVALENT else None
