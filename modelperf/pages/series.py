"""What the page shows of one series: verdict, trend, versions, alerts, training and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import partial
from typing import Any

from django.utils.dateparse import parse_date

from modelperf.drawing.metric_names import PERCENT, MetricName, named
from modelperf.models import ABTest, Alert, ModelVersion, UnresolvedAlert
from modelperf.pages import alerts, charts, evaluations, sentences, training, verdicts
from modelperf.pages.evaluations import LatestValue, Rows, TableRow
from modelperf.pages.fleet import UNSHOWN, UNSHOWN_STATE, Fleet, Row
from modelperf.pages.outlook import outlook_sentence
from modelperf.pages.sentences import Sentence
from modelperf.pages.shapes import Chart, Mark
from modelperf.pages.story import MOST_EVENTS, Story, story
from modelperf.pages.training import RunRow
from modelperf.pages.verdicts import State, Verdict
from modelperf.services import ab_tests
from modelperf.services import trend as trends
from modelperf.services.ab_tests_results import Results
from modelperf.services.errors import InvalidError, NotFoundError
from modelperf.services.trend import TrendReport
from modelperf.templatetags.presentation import decimals_for, fixed, window

MOST_VERSIONS, MOST_TESTS = 20, 3
FIRST_ROWS = 10


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of the series with the verdict on it."""

    version: ModelVersion
    state: State
    verdict: Verdict | None
    metric: MetricName | None
    mean: float | None

    @property
    def level(self) -> float | None:
        """Where the judged metric stands: since the change, else on average in the period."""
        is_changed = self.verdict is not None and self.verdict.changed_at is not None
        return self.verdict.current if self.verdict and is_changed else self.mean


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
    resolved: Alert | None
    training_runs: list[RunRow]
    tests: list[ABTest]
    story: Story
    test_result: Results | None
    unknown_metric: str

    @property
    def is_training(self) -> bool:
        """Whether a run of the series waits or is at work, so that the page has news soon."""
        return any(one.is_unfinished for one in self.training_runs)

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
        direction = self.report.trend_direction
        return "no slope" if direction == "stable" else direction  # "stable" is a verdict's word

    @property
    def trend_rate(self) -> str:
        """The trend's rate a day with its interval."""
        return _rate(self.report, self.trend_metric) if self.report and self.trend_metric else ""

    @property
    def outlook(self) -> str:
        """When the metric crosses its limit, in a sentence."""
        if self.report is None or self.trend_metric is None or self.row.silence:
            return ""  # nothing goes on where nothing arrives
        return outlook_sentence(self.report.outlook, self.trend_metric)

    @property
    def leader(self) -> int | None:
        """The version that is ahead in a running A/B test, once that is sure."""
        result = self.test_result
        if result is None or result.test_status != ABTest.Status.RUNNING:
            return None
        versions = {"model_a": result.model_a_version, "model_b": result.model_b_version}
        return versions.get(result.winner or "")

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
    names = evaluations.named_metrics(rows, row)
    chosen = next((n for n in names if n.key == metric), names[0] if names else None)
    means = evaluations.means(rows, row)
    policy = fleet.policies.of(row.machine.pk, row.model_type)
    is_judged = chosen is not None and row.verdict is not None and row.verdict.metric == chosen.key
    limit = policy.limit_value if is_judged else None
    chart = _chart(row, rows, chosen, limit=limit, means=means, now=now) if chosen else None
    columns = names[:6]
    tests, runs = _tests(row), training.newest_runs(row)
    unresolved = alerts.unresolved(row)
    return SeriesView(
        row=row,
        sentence=sentences.sentence(
            row.verdict,
            version=row.version,
            metric=row.metric or named(""),
            latest=row.latest,
            silence=row.silence,
            mean=means.get(row.version.model_version) if row.version else None,
        ),
        report=report,
        metric=chosen,
        metrics=names,
        chart=chart,
        summary=evaluations.summary(rows, chosen, row.verdict, limit=limit, chart=chart)
        if chosen
        else "",
        latest=evaluations.latest_values(row, rows),
        counts=evaluations.counts(row),
        columns=columns,
        table=evaluations.table(rows, columns),
        n_evaluations=len(rows),
        versions=_versions(row, means),
        alerts=unresolved,
        resolved=alerts.resolved(row, unresolved),
        training_runs=training.shown(runs),
        tests=tests[:MOST_TESTS],
        story=story(row, runs, tests),
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
    """Return by how much it gets worse a day, in the metric's own unit."""
    told = (report.degradation_rate, report.rate_low, report.rate_high)
    if report.insufficient_data or None in told:
        return ""
    rate, low, high = (fixed(value, decimals_for(told)) for value in told)
    # A change of a percentage is one of points: "% a day" would read as relative.
    unit = " points" if metric.unit == PERCENT else f" {metric.unit}" if metric.unit else ""
    return f"{rate}{unit} a day ({low} to {high}), above 0 is worse"


def _chart(
    row: Row,
    rows: Rows,
    metric: MetricName,
    *,
    limit: float | None,
    means: Mapping[int, float],
    now: datetime,
) -> Chart:
    judged = row.verdict if row.verdict and row.verdict.metric == metric.key else None
    return charts.draw(
        sorted(evaluations.samples(rows, metric.key), key=lambda s: s.end),
        now=now,
        unit=metric.unit,
        active=row.version.model_version if row.version else None,
        mark=_mark(judged, means) if judged else None,
        limit=limit,
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


def _mark(verdict: Verdict, means: Mapping[int, float]) -> Mark:
    """Return what to draw of a verdict; without a change, the mean of the period."""
    if verdict.changed_at is None:
        return Mark(state="stable", baseline=means.get(verdict.version), version=verdict.version)
    return Mark(
        state=verdict.state.css,
        changed_at=verdict.changed_at,
        changed_low=verdict.changed_low,
        changed_high=verdict.changed_high,
        baseline=verdict.baseline,
        current=verdict.current,
        version=verdict.version,
    )


def _versions(row: Row, means: Mapping[int, float]) -> list[VersionRow]:
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
            means.get(version.model_version),
        )
        for version, verdict in found
    ]


def _tests(row: Row) -> list[ABTest]:
    of_series = ABTest.objects.of_series(machine_id=row.machine.pk, model_type=row.model_type)
    return list(of_series.order_by("-test_start", "-id")[:MOST_EVENTS])
