"""Rows for tests, one factory a model. They write rows as they are: no service runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import factory
from django.contrib.auth.models import User
from django.utils import timezone
from factory.django import DjangoModelFactory

from modelperf.models import (
    ABTest,
    Alert,
    ApiKey,
    CheckRun,
    DriftState,
    FeatureReference,
    LatestPerformance,
    Machine,
    MetricRevision,
    ModelPerformanceMetric,
    ModelVersion,
    Policy,
    Series,
    StoredVerdict,
    TrainingRun,
    WindowProfile,
)
from modelperf.models.keys import uuid7
from modelperf.stats.profiles import Reference, profile_of, reference_of

START = datetime(2024, 1, 1, tzinfo=UTC)
ALL_SCOPES = ("read", "write", "train", "triage", "admin")


def api_key(
    *scopes: str, name: str = "tests", machines: Sequence[Machine] = (), **fields: Any
) -> str:
    """Store a key and return its text; without scopes it may read."""
    fields |= {"scopes": list(scopes or ["read"]), "is_limited": bool(machines)}
    stored, text = ApiKey.objects.create_key(name=name, **fields)
    stored.machines.set(machines)
    return text


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"user{n}")

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        return model_class.objects.create_user(*args, **kwargs)


class MachineFactory(DjangoModelFactory[Machine]):
    class Meta:
        model = Machine

    name = factory.Sequence(lambda n: f"machine {n:04d}")
    type = "pump"
    location = "hall 1"


class SeriesFactory(DjangoModelFactory[Series]):
    class Meta:
        model = Series
        django_get_or_create = ("machine", "model_type")

    machine = factory.SubFactory(MachineFactory)
    model_type = "baseline"


class ModelVersionFactory(DjangoModelFactory[ModelVersion]):
    """A version with the series it belongs to; the next number of its series unless given."""

    class Meta:
        model = ModelVersion

    machine = factory.SubFactory(MachineFactory)
    model_type = "baseline"
    is_active = False
    trained_at = START

    @factory.lazy_attribute
    def model_version(self) -> int:
        return (
            1
            + ModelVersion.objects.filter(machine=self.machine, model_type=self.model_type).count()
        )

    @classmethod
    def _create(cls, model_class: type[ModelVersion], *args: Any, **kwargs: Any) -> ModelVersion:
        SeriesFactory.create(machine=kwargs["machine"], model_type=kwargs["model_type"])
        return super()._create(model_class, *args, **kwargs)


class _EvaluationFactory(DjangoModelFactory):
    """What an evaluation and its latest row have in common; `day` moves the window."""

    class Meta:
        abstract = True

    class Params:
        day = factory.Sequence(lambda n: n)

    model = factory.SubFactory(ModelVersionFactory, is_active=True)
    machine = factory.SelfAttribute("model.machine")
    model_type = factory.SelfAttribute("model.model_type")
    model_version = factory.SelfAttribute("model.model_version")
    evaluation_start = factory.LazyAttribute(lambda row: START + timedelta(days=row.day))
    evaluation_end = factory.LazyAttribute(lambda row: row.evaluation_start + timedelta(days=1))
    evaluation_date = factory.SelfAttribute("evaluation_end")
    r_squared = 0.9
    rmse = 1.5
    metrics = factory.LazyAttribute(lambda row: {"r_squared": row.r_squared, "rmse": row.rmse})
    created_at = factory.LazyFunction(timezone.now)


class ModelPerformanceMetricFactory(_EvaluationFactory):
    class Meta:
        model = ModelPerformanceMetric


class LatestPerformanceFactory(_EvaluationFactory):
    """The latest row of an evaluation: `LatestPerformanceFactory.of(metric)`."""

    class Meta:
        model = LatestPerformance

    id = factory.LazyFunction(uuid7)

    @classmethod
    def of(cls, metric: ModelPerformanceMetric) -> LatestPerformance:
        fields = [field.attname for field in ModelPerformanceMetric._meta.concrete_fields]
        return LatestPerformance.objects.create(**{name: getattr(metric, name) for name in fields})


class MetricRevisionFactory(DjangoModelFactory[MetricRevision]):
    class Meta:
        model = MetricRevision

    class Params:
        metric = factory.SubFactory(ModelPerformanceMetricFactory)

    metric_id = factory.SelfAttribute("metric.id")
    machine = factory.SelfAttribute("metric.machine")
    revision = 1
    values = factory.LazyFunction(lambda: {"metrics": {"r_squared": 0.8}})
    replaced_at = factory.LazyFunction(timezone.now)


class DriftStateFactory(DjangoModelFactory[DriftState]):
    class Meta:
        model = DriftState

    model = factory.SubFactory(ModelVersionFactory, is_active=True)
    metric = "r_squared"
    rules = factory.LazyFunction(dict)
    fold = factory.LazyFunction(dict)
    verdict = factory.LazyFunction(dict)
    status = "stable"
    last_evaluation_start = START
    last_evaluation_end = START + timedelta(days=1)
    judged_at = factory.LazyFunction(timezone.now)


class PolicyFactory(DjangoModelFactory[Policy]):
    class Meta:
        model = Policy
        django_get_or_create = ("model_type", "machine")

    model_type = "baseline"
    machine = None


class TrainingRunFactory(DjangoModelFactory[TrainingRun]):
    """A pending run; `completed`, `failed` and `running` are traits.

    A running one is leased for an hour, unless `leased_until` says otherwise.
    """

    class Meta:
        model = TrainingRun

    class Params:
        running = factory.Trait(training_status="running")
        completed = factory.Trait(
            training_status="completed",
            training_end=START + timedelta(hours=1),
            model=factory.SubFactory(
                ModelVersionFactory,
                machine=factory.SelfAttribute("..machine"),
                model_type=factory.SelfAttribute("..model_type"),
            ),
            model_version=factory.SelfAttribute("model.model_version"),
        )
        failed = factory.Trait(
            training_status="failed",
            training_end=START + timedelta(hours=1),
            error_message="no data",
        )

    @factory.lazy_attribute
    def leased_until(self) -> datetime | None:
        is_running = self.training_status == "running"
        return timezone.now() + timedelta(hours=1) if is_running else None

    training_status = "pending"
    machine = factory.SubFactory(MachineFactory)
    model_type = "baseline"
    training_start = START
    training_data_start = START - timedelta(days=365)
    training_data_end = START
    reason = "the year is over"


class ABTestFactory(DjangoModelFactory[ABTest]):
    """A running test of two versions of one series."""

    class Meta:
        model = ABTest

    machine = factory.SubFactory(MachineFactory)
    model_type = "baseline"
    test_name = factory.Sequence(lambda n: f"test {n}")
    model_a = factory.SubFactory(
        ModelVersionFactory,
        machine=factory.SelfAttribute("..machine"),
        model_type=factory.SelfAttribute("..model_type"),
    )
    model_b = factory.SubFactory(
        ModelVersionFactory,
        machine=factory.SelfAttribute("..machine"),
        model_type=factory.SelfAttribute("..model_type"),
    )
    model_a_version = factory.SelfAttribute("model_a.model_version")
    model_b_version = factory.SelfAttribute("model_b.model_version")
    test_start = factory.LazyFunction(timezone.now)
    test_end = factory.LazyAttribute(lambda test: test.test_start + timedelta(hours=24))


class AlertFactory(DjangoModelFactory[Alert]):
    """An open alert of a series; `fleet` and `resolved` are traits."""

    class Meta:
        model = Alert

    class Params:
        fleet = factory.Trait(machine=None, model=None, model_version=None)
        resolved = factory.Trait(
            is_resolved=True,
            state="resolved",
            resolved_at=factory.LazyFunction(timezone.now),
            resolved_by="user:tests",
            resolution_action="fixed",
        )

    alert_type = "drift_detected"
    severity = "warning"
    model = factory.SubFactory(ModelVersionFactory, is_active=True)
    machine = factory.SelfAttribute("model.machine")
    model_type = "baseline"
    model_version = factory.SelfAttribute("model.model_version")
    condition_key = factory.Sequence(lambda n: f"condition:{n}")
    alert_timestamp = factory.LazyFunction(timezone.now)
    alert_message = "The model got worse."


class FeatureReferenceFactory(DjangoModelFactory[FeatureReference]):
    """What the feature `load` is compared with: the numbers from 0 to 99."""

    class Meta:
        model = FeatureReference

    model = factory.SubFactory(ModelVersionFactory, is_active=True)
    name = "load"
    role = "feature"
    kind = "numeric"
    profile = factory.LazyFunction(lambda: reference_of(range(100)).to_bytes())
    n = 100
    created_at = factory.LazyFunction(timezone.now)


class WindowProfileFactory(DjangoModelFactory[WindowProfile]):
    """A day of that feature: the same numbers again; `day` moves the window."""

    class Meta:
        model = WindowProfile

    class Params:
        day = factory.Sequence(lambda n: n)

    reference = factory.SubFactory(FeatureReferenceFactory)
    model = factory.SelfAttribute("reference.model")
    machine = factory.SelfAttribute("model.machine")
    model_type = factory.SelfAttribute("model.model_type")
    model_version = factory.SelfAttribute("model.model_version")
    feature = factory.SelfAttribute("reference.name")
    window_start = factory.LazyAttribute(lambda row: START + timedelta(days=row.day))
    window_end = factory.LazyAttribute(lambda row: row.window_start + timedelta(days=1))
    n = 100
    missing = 0
    created_at = factory.LazyFunction(timezone.now)

    @factory.lazy_attribute
    def profile(self) -> bytes:
        return profile_of(range(100), Reference.from_bytes(self.reference.profile)).to_bytes()


class CheckRunFactory(DjangoModelFactory[CheckRun]):
    class Meta:
        model = CheckRun

    started_at = factory.LazyFunction(timezone.now)
    finished_at = factory.LazyFunction(timezone.now)
    started_by = "command:check_drift"
    n_series = 1
    n_rejected = 0
    n_judged = 1


class StoredVerdictFactory(DjangoModelFactory[StoredVerdict]):
    class Meta:
        model = StoredVerdict

    check_run = factory.SubFactory(CheckRunFactory)
    model = factory.SubFactory(ModelVersionFactory)
    machine = factory.SelfAttribute("model.machine")
    model_type = factory.SelfAttribute("model.model_type")
    metric = "rmse"
    status = "stable"
    p_value = 0.5
    verdict = factory.LazyFunction(lambda: {"status": "stable", "conditions": []})
    rules = factory.LazyFunction(lambda: {"kind": "loss"})
    fold = factory.LazyFunction(dict)
    first_position = 0
    last_position = 39
    last_evaluation_end = START + timedelta(days=40)
    last_evaluation_start = START + timedelta(days=39)
    digest = 0
    judged_at = factory.LazyFunction(timezone.now)
