"""Evaluations summed up per hour, day, week or month: the expressions that PostgreSQL computes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db.models import (
    Avg,
    BigIntegerField,
    Count,
    DateTimeField,
    Expression,
    F,
    FloatField,
    Func,
    Max,
    Min,
    Q,
    StdDev,
    Sum,
    Value,
)
from django.db.models.functions import Cast, Coalesce, Least

_LAST_INSTANT: Final = timedelta(microseconds=1)  # a window ends before its end
_MOST: Final = 2**63 - 1
_VALUE: Final = F("value")
_SAMPLES: Final = Cast("sample_count", FloatField())


def bucket_start(bucket: str, zone: str) -> Expression:
    """Return where the bucket of a window begins: the bucket of its last instant.

    With a zone date_trunc keeps apart the two hours of a night on which clocks go back.
    """
    last = F("evaluation_end") - Value(_LAST_INSTANT)
    zoned = (Value(bucket), last, Value(zone))
    return Func(*zoned, function="date_trunc", output_field=DateTimeField())


def metric_value(name: str) -> Expression:
    """Return a metric by any name, null where an evaluation does not report it.

    A path lookup of the ORM would take a name of digits or with underscores for a path.
    """
    text = Func(F("metrics"), Value(name), function="jsonb_extract_path_text")
    return Cast(text, FloatField())


def summary() -> dict[str, Any]:
    """Return the aggregates of `value`.

    The mean is weighted by the samples. An evaluation that does not report them weighs as much as
    the mean one of its bucket that does; where none does, all weigh the same.
    """
    unreported = Q(sample_count=0)
    usual = Coalesce(Avg(_SAMPLES, filter=~unreported), Value(1.0))
    n_unreported = Cast(Count("id", filter=unreported), FloatField())
    total = Sum(_VALUE * _SAMPLES) + usual * Coalesce(Sum(_VALUE, filter=unreported), Value(0.0))
    return {
        "mean": total / (Sum(_SAMPLES) + usual * n_unreported),
        "sd": StdDev(_VALUE, sample=True),
        "min": Min(_VALUE),
        "max": Max(_VALUE),
        "evaluations": Count("id"),
        "samples": Cast(Least(Sum("sample_count"), Value(_MOST)), BigIntegerField()),
        "models": Count("model_id", distinct=True),
    }
