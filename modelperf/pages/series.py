"""What the page shows of one series: verdict, trend, versions, alerts, training and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import partial
from statistics import median
from typing import Any

from django.db.models import Q
from django.utils.dateparse import parse_date, parse_datetime

from modelperf.models import (
    CONFUSION_COUNTS,
    REGISTERED_METRICS,
    ABTest,
    ModelVersion,
    TrainingRun,
    UnresolvedAlert,
)
from modelperf.pages import charts, verdicts
from modelperf.pages.charts import Chart, Mark, Sample
from modelperf.pages.fleet import UNSHOWN, UNSHOWN_STATE, Fleet, Row
from modelperf.pages.metric_names import MetricName, named
from modelperf.pages.verdicts import Sentence, State, Verdict
from modelperf.services import ab_tests
from modelperf.services import trend as trends
from modelperf.services.ab_tests import Results
from modelperf.services.errors import InvalidError, NotFoundError
from modelperf.services.trend import TrendReport
from modelperf.templatetags.presentation import day, decimals_for, fixed, number, window

MOST_VERSIONS, MOST_ALERTS, MOST_RUNS, MOST_TESTS, MOST_ROWS = 20, 50, 5, 3, 400
FIRST_ROWS = 10
COUNT_NAMES = {
    "true_positives": "True positives",
    "false_positives": "False positives",
    "true_negatives": "True negatives",
    "false_negatives": "False negatives",
}


@dataclass(frozen=True, slots=True)
class LatestValue:
    """A metric of the newest evaluation beside its median of the period."""

    name: MetricName
    value: float
    usual: float | None
    is_judged: bool


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of the series with the verdict on it."""

    version: ModelVersion
    state: State
    verdict: Verdict | None
    metric: MetricName | None

    @property
    def level(self) -> float | None:
        """Where the judged metric stands now."""
        if self.verdict is None:
            return None
        return self.verdict.baseline if self.verdict.current is None else self.verdict.current


@dataclass(frozen=True, slots=True)
class TableRow:
    """One evaluation as a line of the table below the chart."""

    start: datetime
    end: datetime
    version: int
    samples: int
    cells: list[tuple[str, float | None]]

    @property
    def window(self) -> str:
        """The window as a day, where it is one."""
        return window(self.start, self.end)


@dataclass(frozen=True, slots=True)
class SeriesView:
    """Everything about one series that the page shows."""

    row: Row
    sentence: Sentence
    report: TrendReport | None
    metric: MetricName | None
    metrics: list[MetricName]
    chart: Chart | None
    summary: str
    latest: list[LatestValue]
    counts: list[tuple[str, int]]
    columns: list[MetricName]
    table: list[TableRow]
    n_evaluations: int
    versions: list[VersionRow]
    alerts: list[UnresolvedAlert]
    training_runs: list[TrainingRun]
    tests: list[ABTest]
    test_result: Results | None
    unknown_metric: str

    @property
    def latest_window(self) -> str:
        """The window of the newest evaluation."""
        latest = self.row.latest
        return window(latest.evaluation_start, latest.evaluation_end) if latest else ""

    @property
    def trend_metric(self) -> MetricName | None:
        """The metric that the trend is about."""
        if self.report is None or self.report.metric is None:
            return None
        return named(self.report.metric, self.row.machine.metadata)

    @property
    def trend(self) -> str:
        """The trend in a word."""
        if self.report is None or self.report.insufficient_data:
            return "not enough data"
        return self.report.trend_direction

    @property
    def trend_rate(self) -> str:
        """The trend's rate a day with its interval."""
        return _rate(self.report, self.trend_metric) if self.report and self.trend_metric else ""

    @property
    def first_rows(self) -> list[TableRow]:
        """The newest evaluations, always shown."""
        return self.table[:FIRST_ROWS]

    @property
    def more_rows(self) -> list[TableRow]:
        """The rest, shown on request."""
        return self.table[FIRST_ROWS:]


def load(row: Row, fleet: Fleet, *, days: int, metric: str, now: datetime) -> SeriesView:
    """Read the series of a row. Rows of the trend come oldest first."""
    report = _report(row, days, metric)
    rows = report.rows if report else []
    names = _metric_names(rows, row)
    chosen = next((n for n in names if n.key == metric), names[0] if names else None)
    chart = _chart(row, rows, chosen, fleet, now) if chosen else None
    columns = names[:6]
    tests = _tests(row)
    return SeriesView(
        row=row,
        sentence=verdicts.sentence(
            row.verdict,
            version=row.version,
            metric=row.metric or named(""),
            latest=row.latest,
            is_stale=row.is_stale,
        ),
        report=report,
        metric=chosen,
        metrics=names,
        chart=chart,
        summary=_summary(rows, chosen, row.verdict) if chosen else "",
        latest=_latest(row, rows),
        counts=_counts(row),
        columns=columns,
        table=_table(rows, columns),
        n_evaluations=len(rows),
        versions=_versions(row),
        alerts=_alerts(row),
        training_runs=list(
            TrainingRun.objects.of_series(machine_id=row.machine.pk, model_type=row.model_type)
            .defer("error_traceback", "hyperparameters")
            .order_by("-training_start", "-id")[:MOST_RUNS]
        ),
        tests=tests,
        test_result=ab_tests.results(test=tests[0]) if tests else None,
        unknown_metric=metric if metric and (chosen is None or chosen.key != metric) else "",
    )


def _report(row: Row, days: int, metric: str) -> TrendReport | None:
    """Return the trend of the metric asked for, else of the judged one; None in an empty period."""
    ask = partial(trends.trend, machine=row.machine, model_type=row.model_type, days=days)
    try:
        return ask(metric=metric or None)
    except InvalidError:
        return ask()  # a metric that is not reported here: the page says which is shown instead
    except NotFoundError:
        return None


def _rate(report: TrendReport, metric: MetricName) -> str:
    """Return by how much it gets worse or better a day, in the metric's own unit."""
    rate, low, high = report.degradation_rate, report.rate_low, report.rate_high
    if report.insufficient_data or rate is None or low is None or high is None:
        return ""
    unit = f" {metric.unit}" if metric.unit else ""
    if rate < 0:
        rate, low, high = -rate, -high, -low
        return f"better by {number(rate)}{unit} a day ({number(low)} to {number(high)})"
    return f"worse by {number(rate)}{unit} a day ({number(low)} to {number(high)})"


def _metric_names(rows: Sequence[Mapping[str, Any]], row: Row) -> list[MetricName]:
    """Return the metrics reported in the period: the judged one first, then as registered."""
    keys = {key for one in rows for key, value in one["metrics"].items() if value is not None}
    judged = row.verdict.metric if row.verdict else ""

    def place(key: str) -> tuple[bool, int, str]:
        known = key in REGISTERED_METRICS
        return key != judged, REGISTERED_METRICS.index(key) if known else len(keys) + 9, key

    return [named(key, row.machine.metadata) for key in sorted(keys, key=place)]


def _samples(rows: Sequence[Mapping[str, Any]], key: str) -> list[Sample]:
    return [
        Sample(
            _time(row["evaluation_start"]),
            _time(row["evaluation_end"]),
            float(row["metrics"][key]),
            row["model_version"],
            row["sample_count"],
        )
        for row in rows
        if row["metrics"].get(key) is not None
    ]


def _time(value: datetime | str) -> datetime:
    found = parse_datetime(value) if isinstance(value, str) else value
    if found is None:
        raise AssertionError("a trend's times are times")
    return found


def _chart(
    row: Row, rows: Sequence[Mapping[str, Any]], metric: MetricName, fleet: Fleet, now: datetime
) -> Chart:
    policy = fleet.policies.get(row.model_type)
    judged = row.verdict if row.verdict and row.verdict.metric == metric.key else None
    return charts.draw(
        sorted(_samples(rows, metric.key), key=lambda s: s.end),
        now=now,
        unit=metric.unit,
        active=row.version.model_version if row.version else None,
        mark=_mark(judged) if judged else None,
        limit=policy.limit_value if policy and judged else None,
        known=_known_change(row.machine.metadata),
    )


def _known_change(metadata: Mapping[str, Any]) -> datetime | None:
    """Return when something is known to have changed: the truth that a demo comes with."""
    known = metadata.get("known_change")
    told = known.get("shown_as") if isinstance(known, dict) else None
    try:
        date = parse_date(told) if isinstance(told, str) else None
    except ValueError:
        return None
    return datetime.combine(date, time(), tzinfo=UTC) if date else None


def _mark(verdict: Verdict) -> Mark:
    return Mark(
        state=verdict.state.css,
        changed_at=verdict.changed_at,
        changed_low=verdict.changed_low,
        changed_high=verdict.changed_high,
        baseline=verdict.baseline,
        current=verdict.current,
        version=verdict.version,
    )


def _summary(
    rows: Sequence[Mapping[str, Any]], metric: MetricName, verdict: Verdict | None
) -> str:
    """Return the chart in words."""
    samples = _samples(rows, metric.key)
    values = [s.value for s in samples]
    text = (
        f"{metric.label} of {len(values)} evaluations from {day(samples[0].start)} to"
        f" {day(samples[-1].end)}: between {number(min(values))} and {number(max(values))}"
        f" {metric.unit}".rstrip() + f", median {number(median(values))}."
    )
    if verdict is None or verdict.metric != metric.key or verdict.changed_at is None:
        return text
    return (
        f"{text} Mean {number(verdict.baseline)} before {day(verdict.changed_at)}"
        f" and {number(verdict.current)} since."
    )


def _latest(row: Row, rows: Sequence[Mapping[str, Any]]) -> list[LatestValue]:
    if row.latest is None:
        return []
    judged = row.verdict.metric if row.verdict else ""
    names = _metric_names([{"metrics": row.latest.metrics}], row)
    return [
        LatestValue(
            name,
            row.latest.metrics[name.key],
            _median(rows, name.key, row.latest.model_version),
            name.key == judged,
        )
        for name in names
        if name.key not in CONFUSION_COUNTS
    ]


def _median(rows: Sequence[Mapping[str, Any]], key: str, version: int) -> float | None:
    values = [
        row["metrics"][key]
        for row in rows
        if row["model_version"] == version and row["metrics"].get(key) is not None
    ]
    return median(values) if values else None


def _counts(row: Row) -> list[tuple[str, int]]:
    if row.latest is None:
        return []
    found = ((COUNT_NAMES[key], getattr(row.latest, key)) for key in CONFUSION_COUNTS)
    return [(name, count) for name, count in found if count is not None]


def _table(rows: Sequence[Mapping[str, Any]], columns: list[MetricName]) -> list[TableRow]:
    """Return the newest evaluations, newest first, each column with its own decimals."""
    newest = rows[::-1][:MOST_ROWS]
    decimals = {
        name.key: decimals_for(row["metrics"].get(name.key) for row in newest) for name in columns
    }
    return [
        TableRow(
            start=_time(row["evaluation_start"]),
            end=_time(row["evaluation_end"]),
            version=row["model_version"],
            samples=row["sample_count"],
            cells=[
                (fixed(value, decimals[name.key]), value)
                for name in columns
                for value in [row["metrics"].get(name.key)]
            ],
        )
        for row in newest
    ]


def _versions(row: Row) -> list[VersionRow]:
    versions = (
        ModelVersion.objects.of_series(machine_id=row.machine.pk, model_type=row.model_type)
        .select_related("drift_state")
        .defer(*UNSHOWN, *UNSHOWN_STATE)
        .order_by("-model_version")[:MOST_VERSIONS]
    )
    found = [(version, verdicts.of_version(version)) for version in versions]
    return [
        VersionRow(
            version,
            verdict.state if verdict else State("none"),
            verdict,
            named(verdict.metric, row.machine.metadata) if verdict else None,
        )
        for version, verdict in found
    ]


def _tests(row: Row) -> list[ABTest]:
    of_series = ABTest.objects.of_series(machine_id=row.machine.pk, model_type=row.model_type)
    return list(of_series.order_by("-test_start", "-id")[:MOST_TESTS])


def _alerts(row: Row) -> list[UnresolvedAlert]:
    """Return what is unresolved of the series and of the fleet."""
    own = Q(machine_id=row.machine.pk, model_type=row.model_type)
    of_fleet = Q(machine_id__isnull=True)
    return list(
        UnresolvedAlert.objects.filter(own | of_fleet)
        .defer("alert_details")
        .worst_first()[:MOST_ALERTS]
    )
