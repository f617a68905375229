"""Every address of the API. The first seven calls are the contract; the others are our own."""

from __future__ import annotations

from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt

from modelperf.api.ab_tests import ABTests
from modelperf.api.aggregate import Aggregates
from modelperf.api.alerts import Alerts
from modelperf.api.checks import Checks, Verdicts
from modelperf.api.docs import DocsView, SchemaView
from modelperf.api.drift import Drift
from modelperf.api.metrics import Metrics
from modelperf.api.policies import Policies
from modelperf.api.problems import not_found
from modelperf.api.profiles import Profiles
from modelperf.api.registry import Machines, Models, ModelSeries
from modelperf.api.silences import Silences
from modelperf.api.training import Training
from modelperf.api.training_reports import TrainingReports

contract = [
    path("metrics/record", Metrics.as_view({"post": "record"})),
    path("metrics/trend", Metrics.as_view({"get": "trend"})),
    path("drift/check", Drift.as_view({"post": "check"})),
    path("retrain/trigger", Training.as_view({"post": "trigger"})),
    path("ab-test/start", ABTests.as_view({"post": "start"})),
    path("ab-test/<str:id>/results", ABTests.as_view({"get": "results"})),
    path("alerts/active", Alerts.as_view({"get": "active"})),
]
registry = [
    path("machines", Machines.as_view({"get": "browse", "post": "create"})),
    path("machines/<str:id>", Machines.as_view({"get": "retrieve", "patch": "partial_update"})),
    path("models", Models.as_view({"get": "browse", "post": "create"})),
    path("models/<str:id>", Models.as_view({"get": "retrieve"})),
    path("models/<str:id>/activate", Models.as_view({"post": "activate"})),
    path("series/rollback", ModelSeries.as_view({"post": "rollback"})),
]
metrics = [
    path("metrics", Metrics.as_view({"get": "browse"})),
    path("metrics/record/bulk", Metrics.as_view({"post": "bulk"})),
    path("metrics/latest", Metrics.as_view({"get": "latest"})),
    path("metrics/aggregate", Aggregates.as_view({"get": "browse"})),
    path("metrics/<str:id>/revisions", Metrics.as_view({"get": "revisions"})),
]
profiles = [
    path("profiles", Profiles.as_view({"get": "browse"})),
    path("profiles/record", Profiles.as_view({"post": "record"})),
    path("profiles/references", Profiles.as_view({"get": "references"})),
]
checks = [
    path("checks", Checks.as_view({"get": "browse"})),
    path("checks/<str:id>", Checks.as_view({"get": "retrieve"})),
    path("verdicts", Verdicts.as_view({"get": "browse"})),
    path("verdicts/<str:id>", Verdicts.as_view({"get": "retrieve"})),
]
training = [
    path("training", Training.as_view({"get": "browse"})),
    path("training/<str:id>", Training.as_view({"get": "retrieve"})),
    path("training/<str:id>/cancel", Training.as_view({"post": "cancel"})),
    path("training/<str:id>/start", TrainingReports.as_view({"post": "start"})),
    path("training/<str:id>/progress", TrainingReports.as_view({"post": "progress"})),
    path("training/<str:id>/complete", TrainingReports.as_view({"post": "complete"})),
    path("training/<str:id>/fail", TrainingReports.as_view({"post": "fail"})),
]
ab_tests = [
    path("ab-test", ABTests.as_view({"get": "browse"})),
    path("ab-test/active", ABTests.as_view({"get": "active"})),
    path("ab-test/<str:id>", ABTests.as_view({"get": "retrieve"})),
    path("ab-test/<str:id>/observations", ABTests.as_view({"post": "observations"})),
    path("ab-test/<str:id>/assignment", ABTests.as_view({"get": "assignment"})),
    path("ab-test/<str:id>/cancel", ABTests.as_view({"post": "cancel"})),
    path("ab-test/<str:id>/decision", ABTests.as_view({"post": "decision"})),
]
alerts = [
    path("alerts", Alerts.as_view({"get": "browse"})),
    path("alerts/bulk", Alerts.as_view({"post": "bulk"})),
    path("alerts/<str:id>", Alerts.as_view({"get": "retrieve"})),
    path("alerts/<str:id>/acknowledge", Alerts.as_view({"post": "acknowledge"})),
    path("alerts/<str:id>/resolve", Alerts.as_view({"post": "resolve"})),
    path("alerts/<str:id>/snooze", Alerts.as_view({"post": "snooze"})),
    path("alerts/<str:id>/assign", Alerts.as_view({"post": "assign"})),
    path("alerts/<str:id>/reopen", Alerts.as_view({"post": "reopen"})),
    path("alerts/<str:id>/comment", Alerts.as_view({"post": "comment"})),
]
silences = [
    path("silences", Silences.as_view({"get": "browse", "post": "create"})),
    path("silences/preview", Silences.as_view({"post": "preview"})),
    path(
        "silences/<str:id>",
        Silences.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
]
policies = [
    path("policies", Policies.as_view({"get": "browse"})),
    path("policies/<str:model_type>", Policies.as_view({"get": "retrieve", "put": "update"})),
    path("policies/<str:model_type>/history", Policies.as_view({"get": "history"})),
    path("policies/<str:model_type>/machines", Policies.as_view({"get": "machines"})),
    path(
        "policies/<str:model_type>/machines/<str:machine_id>",
        Policies.as_view({"get": "retrieve_override", "put": "override"}),
    ),
    path(
        "policies/<str:model_type>/machines/<str:machine_id>/history",
        Policies.as_view({"get": "override_history"}),
    ),
]
recorded = [*contract, *registry, *metrics, *profiles]
nouns = [*recorded, *checks, *training, *ab_tests, *alerts, *silences, *policies]

urlpatterns = [
    path("v1/model-performance/", include(nouns)),
    path("v1/machines", Machines.as_view({"get": "names"})),
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", DocsView.as_view(), name="docs"),
    re_path("", csrf_exempt(not_found)),
]
