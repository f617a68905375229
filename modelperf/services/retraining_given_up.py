"""Series that were given up, and policies that say otherwise since."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from modelperf.models import Alert
from modelperf.services.alerts_raising import end_alert
from modelperf.services.policies import Policies

_POLICY_CHANGED: Final = "policy_changed"


def end_what_policies_ended(*, now: datetime) -> None:
    """End "retraining is not helping" where more tries are allowed since, or none is made at all.

    The tries that did not help go on counting: where there were two, five allow three more.
    """
    given_up = Alert.objects.unresolved().filter(alert_type=Alert.Type.RETRAINING_NOT_HELPING)
    found = list(given_up.only("condition_key", "machine_id", "model_type", "threshold_value"))
    policies = Policies.load() if found else Policies({})
    for alert in found:
        policy = policies.of(alert.machine_id, alert.model_type)
        # What it was raised at is the number of tries there were then.
        if not policy.retrain_automatically or policy.retrain_tries > (alert.threshold_value or 0):
            end_alert(alert.condition_key, action=_POLICY_CHANGED, now=now)
