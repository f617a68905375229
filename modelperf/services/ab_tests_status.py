"""The status of an A/B test as it is now, whatever is stored."""

from __future__ import annotations

from django.utils import timezone

from modelperf.models import ABTest


def status_now(test: ABTest) -> str:
    """Return the status as it is now: a running test is over once its end has passed."""
    over = test.test_end is not None and test.test_end <= timezone.now()
    if test.test_status == ABTest.Status.RUNNING and over:
        return ABTest.Status.COMPLETED.value
    return test.test_status
