"""Tests that are over and that nobody has decided yet: one alert a series asks for it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from modelperf.models import ABTest, Alert
from modelperf.services.ab_tests_results import Results, sureness
from modelperf.services.alerts_conditions import Wanted
from modelperf.services.alerts_following import SeriesPlace
from modelperf.services.alerts_raising import end_alert, raise_alert, series_key

_COMPLETED: Final = Alert.Type.AB_TEST_COMPLETED.value
_DECIDED: Final = "decided"


def ask(test: ABTest, found: Results, *, now: datetime) -> None:
    """Raise the alert that asks to decide a test that is over; once, whatever became of it.

    Nobody is asked of what another test of the series has followed.
    """
    tests = ABTest.objects.of_series(machine_id=test.machine_id, model_type=test.model_type)
    asked = Alert.objects.filter(
        condition_key=_key(test), alert_details__contains={"test_id": str(test.pk)}
    )
    if asked.exists() or tests.filter(created_at__gt=test.created_at).exists():
        return
    wanted = Wanted(
        condition_key=_key(test),
        alert_type=_COMPLETED,
        severity=Alert.Severity.NORMAL.value,
        message=f"{test.machine.name} · {test.model_type}: the A/B test “{test.test_name}” is over:"
        f" {_outcome(test, found)}. Decide which version shall serve.",
        occurrences=1,
        current=None,
        threshold=None,
        baseline=None,
        details={
            "rule": _COMPLETED,
            "changed_at": now.isoformat(),
            "test_id": str(test.pk),
            "winner": found.winner,
            "confidence": found.confidence,
        },
    )
    raise_alert(wanted, SeriesPlace(test.machine_id, test.model_type), now=now)


def is_settled(test: ABTest, *, now: datetime) -> None:
    """End that alert: a test of the series was decided, or cancelled, or another one begins."""
    end_alert(_key(test), action=_DECIDED, now=now)


def _key(test: ABTest) -> str:
    return series_key(test.machine_id, test.model_type, _COMPLETED)


def _outcome(test: ABTest, found: Results) -> str:
    versions = {"model_a": test.model_a_version, "model_b": test.model_b_version}
    if found.winner not in versions:
        return "neither version has won"
    return f"version {versions[found.winner]} is better, {sureness(found.confidence)}"
