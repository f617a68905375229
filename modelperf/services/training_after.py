"""What becomes of a version that a run has trained: it waits, serves at once, or is tested."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from modelperf.models import ABTest, AfterTraining, ModelActivation, ModelVersion, TrainingRun
from modelperf.services import ab_tests, registry
from modelperf.services.errors import DomainError
from modelperf.services.policies import policy_of

log = structlog.get_logger(__name__)

ACTOR: Final = TrainingRun.BY_ITSELF
WAITS: Final = "waits_for_test"
PASSED_OVER: Final = "passed_over"


def follow_up(*, run: TrainingRun, now: datetime) -> None:
    """Do what the policy says comes after a completed run; the first version of all serves.

    Where a test cannot start yet the run says what it waits for.
    """
    _note(run, WAITS, _follow_up(run, now))


def _follow_up(run: TrainingRun, now: datetime) -> str | None:
    """Do what comes after a completed run, or return what it waits for."""
    policy = policy_of(machine_id=run.machine_id, model_type=run.model_type)
    if run.model is None or policy.after_training == AfterTraining.WAIT:
        return None
    active = _active(run)
    if active is None or policy.after_training == AfterTraining.ACTIVATE:
        reason = f"Trained because: {run.reason}"
        registry.activate_model(model=run.model, reason=reason, by=ACTOR)
        return None
    return _test(run, active, timedelta(hours=policy.test_duration_hours), now)


def start_waiting_tests(*, now: datetime) -> None:
    """Start the tests that could not start when their versions were trained.

    One that cannot be followed up stops no other.
    """
    for run in _waiting().filter(_is_passed_over()):
        _note(run, PASSED_OVER, "Another version came first.")
        _note(run, WAITS, None)
    for run in _waiting().filter(~_is_passed_over()):
        try:
            with transaction.atomic():
                follow_up(run=run, now=now)
        except Exception:  # whatever it is, the others shall go on
            log.exception("training_not_followed_up", run_id=str(run.pk))


def _waiting() -> QuerySet[TrainingRun]:
    """Return the runs whose version waits for its test."""
    found = TrainingRun.objects.filter(
        training_status=TrainingRun.Status.COMPLETED,
        metadata__has_key=WAITS,
        machine__is_active=True,
    )
    return found.select_related("machine", "model")


def _is_passed_over() -> Q:
    """Return whether a newer version has followed a run's, or that has been in service already."""
    newer = ModelVersion.objects.filter(
        machine=OuterRef("machine"),
        model_type=OuterRef("model_type"),
        model_version__gt=OuterRef("model_version"),
    )
    served = ModelActivation.objects.filter(model=OuterRef("model"))
    return Q(Exists(newer)) | Q(Exists(served)) | Q(model__is_active=True)


def _note(run: TrainingRun, name: str, said: str | None) -> None:
    """Keep with a run what is said of it, or no longer; what is said already is not stored anew."""
    if run.metadata.get(name) == said:
        return
    others = {key: value for key, value in run.metadata.items() if key != name}
    run.metadata = others if said is None else {**others, name: said}
    run.save(update_fields=["metadata"])


def _test(run: TrainingRun, active: ModelVersion, goes_on: timedelta, now: datetime) -> str | None:
    """Start a test on everything that the new version was not trained on, or return why not yet."""
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
        return error.detail
    return None


def _active(run: TrainingRun) -> ModelVersion | None:
    series = ModelVersion.objects.of_series(machine_id=run.machine_id, model_type=run.model_type)
    return series.active().first()


def test_of(run: TrainingRun) -> ABTest | None:
    """Return the test that started by itself for a run's version."""
    return run.ab_tests.order_by("-created_at").first()
