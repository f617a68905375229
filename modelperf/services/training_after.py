"""What becomes of a version that a run has trained: it waits, serves at once, or is tested."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from modelperf.models import ABTest, AfterTraining, ModelVersion, TrainingRun
from modelperf.services import ab_tests, registry
from modelperf.services.errors import DomainError
from modelperf.services.policies import policy_of

log = structlog.get_logger(__name__)

ACTOR: Final = TrainingRun.BY_ITSELF
WAITS: Final = "waits_for_test"


def follow_up(*, run: TrainingRun, now: datetime) -> None:
    """Do what the policy says comes after a completed run; the first version of all serves."""
    if run.model is None:
        return
    policy = policy_of(machine_id=run.machine_id, model_type=run.model_type)
    if policy.after_training == AfterTraining.WAIT:
        return
    active = _active(run)
    if active is None or policy.after_training == AfterTraining.ACTIVATE:
        reason = f"Trained because: {run.reason}"
        registry.activate_model(model=run.model, reason=reason, by=ACTOR)
        return
    _test(run, active, timedelta(hours=policy.test_duration_hours), now)


def start_waiting_tests(*, now: datetime) -> list[TrainingRun]:
    """Start the tests that could not start when their versions were trained.

    One that cannot be followed up stops no other.
    """
    started = []
    for run in _waiting().select_related("machine", "model"):
        try:
            with transaction.atomic():
                run.metadata.pop(WAITS, None)
                run.save(update_fields=["metadata"])
                follow_up(run=run, now=now)
        except Exception:  # whatever it is, the others shall go on
            log.exception("training_not_followed_up", run_id=str(run.pk))
            continue
        started += [] if WAITS in run.metadata else [run]
    return started


def _waiting() -> QuerySet[TrainingRun]:
    """Return the runs whose version is still the newest of its series, and was never tested."""
    newer = ModelVersion.objects.filter(
        machine=OuterRef("machine"),
        model_type=OuterRef("model_type"),
        model_version__gt=OuterRef("model_version"),
    )
    return TrainingRun.objects.filter(
        ~Exists(newer),
        training_status=TrainingRun.Status.COMPLETED,
        metadata__has_key=WAITS,
        model__is_active=False,
        machine__is_active=True,
    )


def _test(run: TrainingRun, active: ModelVersion, goes_on: timedelta, now: datetime) -> None:
    """Start a test on everything that the new version was not trained on."""
    assert run.model is not None  # noqa: S101 -- a completed run has one: the database sees to it
    longest = timedelta(hours=ab_tests.LONGEST_TEST_HOURS)
    start = min(max(run.training_data_end, now - longest + goes_on), now)
    try:
        with transaction.atomic():
            ab_tests.start(
                test_name=f"{run.machine.name[:120]}: is version {run.model.model_version} better?",
                machine=run.machine,
                model_type=run.model_type,
                model_a=active,
                model_b=run.model,
                test_start=start,
                duration_hours=(now + goes_on - start) / timedelta(hours=1),
                training_run=run,
                by=ACTOR,
            )
    except DomainError as error:
        run.metadata = {**run.metadata, WAITS: error.detail}
        run.save(update_fields=["metadata"])


def _active(run: TrainingRun) -> ModelVersion | None:
    series = ModelVersion.objects.of_series(machine_id=run.machine_id, model_type=run.model_type)
    return series.active().first()


def test_of(run: TrainingRun) -> ABTest | None:
    """Return the test that started by itself for a run's version."""
    return run.ab_tests.order_by("-created_at").first()
