"""Tables, constraints and querysets. One file a noun; `views` holds the database views."""

from modelperf.models.ab_observations import ABLook, ABObservation, ABRowState
from modelperf.models.ab_tests import ABTest
from modelperf.models.access import ApiKey
from modelperf.models.alerts import Alert, AlertMember
from modelperf.models.alerts_history import AlertComment, AlertEvent
from modelperf.models.checks import CheckRun, StoredVerdict
from modelperf.models.drift import DriftState
from modelperf.models.metrics import (
    CONFUSION_COUNTS,
    REGISTERED_METRICS,
    LatestPerformance,
    MetricRevision,
    ModelPerformanceMetric,
)
from modelperf.models.notifications import (
    Channel,
    Delivery,
    Message,
    Notice,
    Route,
    RouteEvent,
)
from modelperf.models.policies import AfterTraining, Policy, PolicyEvent
from modelperf.models.profiles import FeatureReference, WindowProfile
from modelperf.models.registry import Machine, ModelActivation, ModelVersion, Series
from modelperf.models.silences import Silence, SilenceEvent
from modelperf.models.training import TrainingRun
from modelperf.models.views import ActiveABTest, LatestModelPerformance, UnresolvedAlert

__all__ = [
    "CONFUSION_COUNTS",
    "REGISTERED_METRICS",
    "ABLook",
    "ABObservation",
    "ABRowState",
    "ABTest",
    "ActiveABTest",
    "AfterTraining",
    "Alert",
    "AlertComment",
    "AlertEvent",
    "AlertMember",
    "ApiKey",
    "Channel",
    "CheckRun",
    "Delivery",
    "DriftState",
    "FeatureReference",
    "LatestModelPerformance",
    "LatestPerformance",
    "Machine",
    "Message",
    "MetricRevision",
    "ModelActivation",
    "ModelPerformanceMetric",
    "ModelVersion",
    "Notice",
    "Policy",
    "PolicyEvent",
    "Route",
    "RouteEvent",
    "Series",
    "Silence",
    "SilenceEvent",
    "StoredVerdict",
    "TrainingRun",
    "UnresolvedAlert",
    "WindowProfile",
]
