"""The Django admin: registry, policies and keys, and the desk where alerts are triaged.

It reads through querysets and writes only through services.
"""

from django.contrib import admin
from procrastinate.contrib.django import admin as _registers_jobs  # noqa: F401
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework_api_key import admin as _registers_its_key  # noqa: F401
from rest_framework_api_key.models import APIKey

from modelperf.admin.ab_tests import ABTestAdmin
from modelperf.admin.access import ApiKeyAdmin
from modelperf.admin.alerts import AlertAdmin
from modelperf.admin.metrics import EvaluationAdmin
from modelperf.admin.notifications import ChannelAdmin, RouteAdmin
from modelperf.admin.notifications_messages import MessageAdmin
from modelperf.admin.policies import PolicyAdmin, PolicyEventAdmin
from modelperf.admin.profiles import FeatureReferenceAdmin, WindowProfileAdmin
from modelperf.admin.registry import MachineAdmin, ModelVersionAdmin
from modelperf.admin.silences import SilenceAdmin
from modelperf.admin.training import TrainingRunAdmin

# Keys without scopes open nothing here; showing them would only mislead. Jobs are hints, and what
# they are about is shown as what it is. Their admins are imported above, so that autodiscovery
# finds it done and does not register them again.
admin.site.unregister([APIKey, ProcrastinateJob])
admin.site.enable_nav_sidebar = False  # the lists need the width
admin.site.site_header = admin.site.site_title = "modelperf"
admin.site.index_title = "Administration"

__all__ = [
    "ABTestAdmin",
    "AlertAdmin",
    "ApiKeyAdmin",
    "ChannelAdmin",
    "EvaluationAdmin",
    "FeatureReferenceAdmin",
    "MachineAdmin",
    "MessageAdmin",
    "ModelVersionAdmin",
    "PolicyAdmin",
    "PolicyEventAdmin",
    "RouteAdmin",
    "SilenceAdmin",
    "TrainingRunAdmin",
    "WindowProfileAdmin",
]
