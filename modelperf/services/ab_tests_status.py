"""The status of an A/B test as it is now, whatever is stored."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from modelperf.models import ABTest
from modelperf.services.policies import policy_of


def status_now(test: ABTest) -> str:
    """Return the status as it is now: a running test is over once no label can come any more."""
    closes = closes_at(test) if test.test_status == ABTest.Status.RUNNING else None
    if closes is not None and closes <= timezone.now():
        return ABTest.Status.COMPLETED.value
    return test.test_status


def closes_at(test: ABTest) -> datetime | None:
    """Return when a test is over: at its end, and after that as long as labels may take."""
    if test.test_end is None:
        return None
    policy = policy_of(machine_id=test.machine_id, model_type=test.model_type)
    return test.test_end + timedelta(seconds=policy.label_delay_seconds)
