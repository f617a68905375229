"""From an evaluation as it is sent to the row that is stored: what is checked, what is derived."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import isfinite
from typing import Any, Final, NamedTuple

import msgspec

from modelperf.models.keys import uuid7
from modelperf.services.errors import FieldError

_METRIC_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:%/@ -]{0,99}")
_LARGEST_COUNT: Final = 2**63 - 1
START_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)
END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
# What ends later than now is a wrong clock or date, and would be the newest for ever.
FURTHEST_AHEAD: Final = timedelta(days=3660)  # beyond is a slip, and would stay the newest

Rank = tuple[datetime, datetime]
Key = tuple[int, str, datetime, datetime, int]
# What makes two evaluations of one window the same, or one a correction of the other.
VALUES: Final = (
    "evaluation_date",
    "sample_count",
    "metrics",
    "true_positives",
    "false_positives",
    "true_negatives",
    "false_negatives",
    "outlier_percentage",
    "evaluation_notes",
    "metadata",
)


class Evaluation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A model version judged on the window [evaluation_start, evaluation_end).

    `sample_count` 0 means not reported; `evaluation_date` is evaluation_end when left out.
    """

    model_id: uuid.UUID
    model_type: str
    machine_id: uuid.UUID
    evaluation_start: datetime
    evaluation_end: datetime
    metrics: dict[str, float]
    sample_count: int = 0
    evaluation_date: datetime | None = None
    true_positives: int | None = None
    false_positives: int | None = None
    true_negatives: int | None = None
    false_negatives: int | None = None
    outlier_percentage: float | None = None
    evaluation_notes: str = ""
    metadata: dict[str, Any] = {}


class Subject(NamedTuple):
    """The model version an evaluation is about, with its series' machine.

    `judged_end` and `judged_start` tell how far its drift state, or one of a later version, has
    counted: None where all start over anyway, the end of time where nobody asked.
    """

    model_id: uuid.UUID
    machine_id: uuid.UUID
    model_type: str
    model_version: int
    is_active: bool
    machine_name: str
    in_service: bool
    data_interval_seconds: int | None
    judged_end: datetime | None = END_OF_TIME
    judged_start: datetime | None = END_OF_TIME

    def may_have_judged(self, rank: Rank) -> bool:
        """Whether a drift state may have counted evaluations at or after a place."""
        if self.judged_end is None or self.judged_start is None:
            return False
        return (self.judged_end, self.judged_start) >= rank

    @property
    def series(self) -> tuple[uuid.UUID, str]:
        """Machine and model type: what is locked, and what latest rows are kept for."""
        return self.machine_id, self.model_type


class Row(NamedTuple):
    """One row of model_performance_metrics, in the order of its columns in every statement."""

    id: uuid.UUID
    model_id: uuid.UUID
    machine_id: uuid.UUID
    model_type: str
    model_version: int
    evaluation_start: datetime
    evaluation_end: datetime
    evaluation_date: datetime
    sample_count: int
    metrics: bytes
    r_squared: float | None
    rmse: float | None
    mae: float | None
    mape: float | None
    precision_score: float | None
    recall_score: float | None
    f1_score: float | None
    true_positives: int | None
    false_positives: int | None
    true_negatives: int | None
    false_negatives: int | None
    outlier_percentage: float | None
    evaluation_notes: str
    metadata: bytes
    data_completeness: float | None
    created_by: str
    created_at: datetime
    revision: int = 1
    drift_detected: bool = False
    drift_score: float | None = None
    drift_threshold: float | None = None

    @property
    def rank(self) -> Rank:
        """Place within the evaluations of one model version."""
        return self.evaluation_end, self.evaluation_start


def key(of: Evaluation | Row) -> Key:
    """Return the natural key, in the order in which rows are stored and locked.

    uuids stand as integers: the same order, and ten times faster to compare and hash.
    """
    return (
        of.machine_id.int,
        of.model_type,
        of.evaluation_end,
        of.evaluation_start,
        of.model_id.int,
    )


_encode = msgspec.json.Encoder().encode


def build(evaluation: Evaluation, *, subject: Subject, by: str, now: datetime) -> Row:
    """Return the row of a checked evaluation."""
    metrics = evaluation.metrics
    return Row(
        uuid7(),
        subject.model_id,
        subject.machine_id,
        subject.model_type,
        subject.model_version,
        evaluation.evaluation_start,
        evaluation.evaluation_end,
        evaluation.evaluation_date or evaluation.evaluation_end,
        evaluation.sample_count,
        _encode(metrics),
        metrics.get("r_squared"),
        metrics.get("rmse"),
        metrics.get("mae"),
        metrics.get("mape"),
        metrics.get("precision_score"),
        metrics.get("recall_score"),
        metrics.get("f1_score"),
        evaluation.true_positives,
        evaluation.false_positives,
        evaluation.true_negatives,
        evaluation.false_negatives,
        evaluation.outlier_percentage,
        evaluation.evaluation_notes,
        _encode(evaluation.metadata),
        _completeness(evaluation, subject.data_interval_seconds),
        by,
        now,
    )


def _completeness(evaluation: Evaluation, interval_seconds: int | None) -> float | None:
    if not evaluation.sample_count or not interval_seconds:
        return None
    window = (evaluation.evaluation_end - evaluation.evaluation_start).total_seconds()
    return min(1.0, evaluation.sample_count * interval_seconds / window)


def with_values(row: Row) -> dict[str, Any]:
    """Return those of a row's columns that make it the same as another, or a correction of it."""
    return {name: getattr(row, name) for name in VALUES}


def is_same(row: Row, old: Mapping[str, Any]) -> bool:
    """Whether what is stored says the same as a row."""
    return all(
        _plain(name, value) == _plain(name, old[name]) for name, value in with_values(row).items()
    )


def _plain(name: str, value: Any) -> Any:
    """Return a value in a form that compares: JSON is text in the table and bytes in a row."""
    if name == "metrics":
        return msgspec.json.decode(value, type=dict[str, float])
    return msgspec.json.decode(value) if name == "metadata" else value


def problems(
    evaluation: Evaluation, subject: Subject | None, *, at: tuple[str | int, ...] = ("body",)
) -> list[FieldError]:
    """Return everything wrong with an evaluation; an empty list means that it can be stored."""
    found = _value_problems(evaluation)
    if subject is None:
        found.append(("model_id", "Model not found", "not_found"))
    elif evaluation.machine_id != subject.machine_id:
        found.append(("machine_id", _OTHER_SERIES, "series_mismatch"))
    elif evaluation.model_type != subject.model_type:
        found.append(("model_type", _OTHER_SERIES, "series_mismatch"))
    return [FieldError((*at, *name.split("/", 1)), msg, kind) for name, msg, kind in found]


Problem = tuple[str, str, str]
_OTHER_SERIES: Final = "The model belongs to another series."


def _value_problems(evaluation: Evaluation) -> list[Problem]:
    found: list[Problem] = []
    if evaluation.evaluation_start.tzinfo is None or evaluation.evaluation_end.tzinfo is None:
        found.append(("evaluation_start", "Times need an offset, such as Z.", "timezone_missing"))
    elif evaluation.evaluation_end <= evaluation.evaluation_start:
        found.append(("evaluation_end", "evaluation_end must be after evaluation_start.", "order"))
    found += _future_problems(evaluation)
    found += _count_problems(evaluation)
    found += _metric_problems(evaluation.metrics)
    share = evaluation.outlier_percentage
    if share is not None and not 0 <= share <= 100:
        found.append(("outlier_percentage", "outlier_percentage lies between 0 and 100.", "range"))
    if "\x00" in evaluation.evaluation_notes:
        found.append(("evaluation_notes", _NUL, "nul"))
    if evaluation.metadata and b"\\u0000" in _encode(evaluation.metadata):
        found.append(("metadata", _NUL, "nul"))
    return found


def is_future(moment: datetime) -> bool:
    """Whether a moment is further ahead than anybody evaluates; one without an offset is not."""
    return moment.tzinfo is not None and moment > datetime.now(UTC) + FURTHEST_AHEAD


def _future_problems(evaluation: Evaluation) -> list[Problem]:
    moments = (
        ("evaluation_end", evaluation.evaluation_end),
        ("evaluation_date", evaluation.evaluation_date),
    )
    return [
        (name, f"{name} lies more than ten years in the future.", "future")
        for name, moment in moments
        if moment is not None and is_future(moment)
    ]


_NUL: Final = "Text must not hold NUL characters."


def _count_problems(evaluation: Evaluation) -> list[Problem]:
    counts = (
        ("sample_count", evaluation.sample_count),
        ("true_positives", evaluation.true_positives),
        ("false_positives", evaluation.false_positives),
        ("true_negatives", evaluation.true_negatives),
        ("false_negatives", evaluation.false_negatives),
    )
    return [
        (name, f"{name} is a whole number from 0 to {_LARGEST_COUNT}.", "range")
        for name, count in counts
        if count is not None and not 0 <= count <= _LARGEST_COUNT
    ]


def _metric_problems(metrics: Mapping[str, float]) -> list[Problem]:
    if not metrics:
        return [("metrics", "Send at least one metric, such as mae: 0.12.", "missing")]
    found: list[Problem] = []
    for name, value in metrics.items():
        least, most = _BOUNDS.get(name, _UNBOUNDED)
        if not isfinite(value):
            found.append((f"metrics/{name}", f"{name} must be a finite number.", "not_finite"))
        elif not least <= value <= most:
            found.append((f"metrics/{name}", _bounds_sentence(name), "range"))
        if not is_metric_name(name):
            found.append((f"metrics/{name[:100]}", METRIC_NAME, "name"))
    return found


METRIC_NAME: Final = "A metric's name is a letter, then up to 99 plain characters."
# Squares and sums of what is larger would leave the range of doubles.
_LARGEST: Final = 1e100
_UNBOUNDED: Final = (-_LARGEST, _LARGEST)
_BOUNDS: Final = {
    "r_squared": (-_LARGEST, 1.0),
    **dict.fromkeys(("rmse", "mae", "mape"), (0.0, _LARGEST)),
    **dict.fromkeys(("precision_score", "recall_score", "f1_score"), (0.0, 1.0)),
}


def _bounds_sentence(name: str) -> str:
    least, most = _BOUNDS.get(name, _UNBOUNDED)
    return f"{name} lies between {least:g} and {most:g}."


@lru_cache(maxsize=4096)
def is_metric_name(name: str) -> bool:
    """Whether a metric can be recorded under a name."""
    return _METRIC_NAME.fullmatch(name) is not None
