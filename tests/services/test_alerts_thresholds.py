"""What a limit is one of: said alike to receivers of notices and to those who ask."""

from __future__ import annotations

import pytest
from django.utils import timezone

from modelperf.models import Alert, Notice
from modelperf.services import notices
from modelperf.services.alerts_thresholds import threshold_of
from tests.factories import AlertFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("change_point", "z"),
        ("collapse", "z"),
        ("own_part", "z"),
        ("common_cause", "z"),
        ("data_drift", "ks"),
        ("evaluation_missing", "seconds"),
        ("retraining_not_helping", "trainings"),
        ("limit", "metric"),
        (None, "metric"),
    ],
)
def test_a_limit_says_what_it_is_one_of(rule: str | None, what: str) -> None:
    alert = AlertFactory.create(threshold_value=3.9, alert_details={"rule": rule} if rule else {})
    notices.tell(kind="opened", alert_ids=[alert.pk], now=timezone.now())
    assert Notice.objects.get().says["threshold_of"] == what
    assert Alert.objects.values_list(threshold_of()).get() == (what,)


def test_where_there_is_no_limit_it_is_one_of_nothing() -> None:
    alert = AlertFactory.create(alert_details={"rule": "change_point"})
    notices.tell(kind="opened", alert_ids=[alert.pk], now=timezone.now())
    assert Notice.objects.get().says["threshold_of"] is None
    assert Alert.objects.values_list(threshold_of()).get() == (None,)
