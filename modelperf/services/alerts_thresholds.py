"""What the limit of an alert is one of: the metric's values, or something else altogether."""

from __future__ import annotations

from typing import Final

from django.db.models import Case, TextField, Value, When

from modelperf.models import Alert
from modelperf.services.alerts_conditions import OWN_PART

METRIC: Final = "metric"
# By the rule that an alert comes from; each other rule holds the metric itself against its limit.
OTHERS: Final = {
    "change_point": "z",
    "collapse": "z",
    OWN_PART: "z",
    "common_cause": "z",
    "data_drift": "ks",
    Alert.Type.EVALUATION_MISSING.value: "seconds",
    Alert.Type.RETRAINING_NOT_HELPING.value: "trainings",
}
# Of the row `a` of the alerts.
SQL: Final = (
    "CASE WHEN a.threshold_value IS NOT NULL THEN CASE a.alert_details ->> 'rule' "
    + " ".join(f"WHEN '{rule}' THEN '{what}'" for rule, what in OTHERS.items())
    + f" ELSE '{METRIC}' END END"
)


def threshold_of() -> Case:
    """Return the same for a query: null where an alert has no limit."""
    return Case(
        When(threshold_value__isnull=True, then=Value(None)),
        *(When(alert_details__rule=rule, then=Value(what)) for rule, what in OTHERS.items()),
        default=Value(METRIC),
        output_field=TextField(),
    )
