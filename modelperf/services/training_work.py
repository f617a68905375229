"""One training run at work: claimed by one process, trained, completed or failed honestly."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from modelperf.models import Machine, ModelVersion, TrainingRun
from modelperf.models.training import TrainingRunQuerySet
from modelperf.services import (
    jobs,
    profiles_references,
    registry,
    training_after,
    training_external,
    training_failures,
    training_leases,
)
from modelperf.services.database import repeated
from modelperf.services.policies import PolicyValues, policy_of
from modelperf.services.training_callbacks import callback_of
from modelperf.services.training_leases import Lease
from modelperf.trainers import (
    EXTERNAL,
    HandedOver,
    NoLongerWantedError,
    TrainedModel,
    TrainingError,
    TrainingRequest,
    UnavailableError,
    find,
)
from modelperf.trainers.command_folders import discard_artefacts

log = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS: Final = 10
LONGEST_RETRY_SECONDS: Final = 300
_FIRST_UNAVAILABLE: Final = "first_unavailable_at"  # in a run's metadata: since when it is tried


def work_on(*, run_id: uuid.UUID, by: str) -> TrainingRun | None:
    """Train a run that waits; None where it does not, or another process has it."""
    run = claim(run_id=run_id, by=by)
    return None if run is None else train(run=run, by=by)


def claim(*, run_id: uuid.UUID, by: str) -> TrainingRun | None:
    """Take a waiting run that is to be worked on here; of several processes one succeeds."""
    now = timezone.now()
    ready = TrainingRun.objects.ready(now).filter(pk=run_id).exclude(trainer=EXTERNAL)
    if _left_to_others(ready, now):
        return None
    claimed = ready.update(
        training_status=TrainingRun.Status.RUNNING,
        training_start=now,
        heartbeat_at=now,
        lease_id=uuid.uuid4(),
        leased_until=training_leases.lease_until(now),
        retry_at=None,
        attempt=F("attempt") + 1,
        progress_percent=None,
        progress_message="",
    )
    if not claimed:
        return None
    jobs.withdraw(once=jobs.training_of(run_id))
    run = TrainingRun.objects.select_related("machine").get(pk=run_id)
    log.info("training_started", run_id=str(run.id), attempt=run.attempt, by=by)
    return run


def _left_to_others(ready: TrainingRunQuerySet, now: datetime) -> bool:
    """Leave a run to others where its policy has come to say so since it was asked for."""
    run = ready.first()
    if run is None:
        return False
    policy = policy_of(machine_id=run.machine_id, model_type=run.model_type)
    if not training_external.is_external(policy):
        return False
    try:
        training_external.leave_to_others(run, policy, since=now)
    except TrainingError:  # it is claimed, and fails with that reason
        return False
    ready.update(
        trainer=run.trainer,
        leased_until=run.leased_until,
        retry_at=None,
        progress_message=run.progress_message,
    )
    return True


def train(*, run: TrainingRun, by: str) -> TrainingRun:
    """Train a claimed run and store what came of it: a version, or why there is none."""
    lease = Lease(run.pk, run.lease_id or uuid.uuid4())
    try:
        policy = policy_of(machine_id=run.machine_id, model_type=run.model_type)
        with lease.kept():
            found = _trained(run, policy, lease)
            # It may have taken hours: the database may have gone away and come back meanwhile.
            repeated(lambda: _store(run, lease, found, by))
    except UnavailableError as error:
        repeated(partial(_wait, run, lease, error))
    except Exception as error:  # whatever a trainer raises is this run's failure, told as such
        repeated(partial(_fail, run, lease, error))
    except BaseException:  # Ctrl-C: that is no fault of the run, which waits for the next worker
        repeated(partial(_give_back, run, lease))
        raise
    return _refreshed(run)


def _store(run: TrainingRun, lease: Lease, found: TrainedModel | HandedOver, by: str) -> None:
    if isinstance(found, HandedOver):
        _hand_over(run, lease, found)
    else:
        _complete(run, lease, found, by)


def _trained(run: TrainingRun, policy: PolicyValues, lease: Lease) -> TrainedModel | HandedOver:
    document = training_external.trainer_document(policy)
    if not _of_lease(run, lease).update(trainer=str(document.get("kind", ""))[:50]):
        raise NoLongerWantedError("The run is no longer wanted: nothing was trained.")
    trainer = find(document)
    versions = ModelVersion.objects.of_series(machine_id=run.machine_id, model_type=run.model_type)
    request = TrainingRequest(
        run_id=run.pk,
        attempt=run.attempt,
        machine=run.machine,
        model_type=run.model_type,
        source=policy.training_source,
        data_start=run.training_data_start,
        data_end=run.training_data_end,
        hyperparameters=trainer.hyperparameters,
        previous=versions.order_by("-model_version").first(),
        callback=callback_of(run),
    )
    return trainer.train(request, lease)


def no_source(*, machine: Machine, model_type: str) -> str:
    """Return what to do where nothing says what to train a series on."""
    return (
        f"Nothing says where the readings come from that {model_type} models of {machine.name}"
        " are trained on. Set training_source in the policy: PUT"
        f" /api/v1/model-performance/policies/{model_type}, or .../machines/{machine.pk}."
    )


def _complete(run: TrainingRun, lease: Lease, trained: TrainedModel, by: str) -> None:
    with transaction.atomic():
        locked = _of_lease(run, lease).select_for_update(of=("self",)).first()
        if locked is None:
            _throw_away(run)
            return
        complete(run=locked, trained=trained, by=by)


def _throw_away(run: TrainingRun) -> None:
    """Drop what a run came to that was cancelled or given up; nothing, where it is stored already.

    A transaction that is repeated may have been committed the first time.
    """
    completed = TrainingRun.objects.filter(training_status=TrainingRun.Status.COMPLETED)
    if completed.filter(pk=run.pk, attempt=run.attempt).exists():
        return
    log.warning("training_not_wanted", run_id=str(run.id))
    discard_artefacts(run_id=run.pk, up_to=run.attempt)


def complete(
    *, run: TrainingRun, trained: TrainedModel, by: str, model_id: uuid.UUID | None = None
) -> None:
    """Register what was trained, close a locked run, and do what its policy says comes next.

    All of it or nothing: inside the caller's transaction, which holds the run.
    """
    ended = timezone.now()
    window = run.training_data_start, run.training_data_end
    references = profiles_references.made(trained.reference_profiles, window=window)
    model, _ = registry.register_model(
        machine=run.machine,
        model_type=run.model_type,
        id=model_id,
        trained_at=ended,
        artefact=trained.artefact,
        feature_names=trained.feature_names,
        hyperparameters=trained.hyperparameters,
        metadata={"training_run": str(run.id)},
        by=by,
    )
    profiles_references.record(model=model, made=references, by=by)
    _describe(run, trained, model)
    training_failures.end(run, TrainingRun.Status.COMPLETED, ended)
    run.save(update_fields=[*_RESULT_FIELDS, *training_failures.FIELDS_OF_END])
    training_failures.forgive(run, now=ended)
    training_after.follow_up(run=run, now=ended)
    log.info("training_completed", run_id=str(run.id), model_id=str(model.id), by=by)


_RESULT_FIELDS: Final = (
    "model_id",
    "model_version",
    "training_samples",
    "hyperparameters",
    "feature_names",
    "training_metrics",
    "validation_metrics",
    "initial_r_squared",
    "initial_rmse",
    "initial_mae",
    "progress_percent",
    "progress_message",
    "training_log",
)


def _describe(run: TrainingRun, trained: TrainedModel, model: ModelVersion) -> None:
    run.model = model
    run.model_version = model.model_version
    run.training_samples = trained.training_samples
    run.hyperparameters = trained.hyperparameters
    run.feature_names = list(trained.feature_names)
    run.training_metrics = trained.training_metrics
    run.validation_metrics = trained.validation_metrics
    # What can be expected of it in service: its figures out of sample.
    run.initial_r_squared = trained.validation_metrics.get("r_squared")
    run.initial_rmse = trained.validation_metrics.get("rmse")
    run.initial_mae = trained.validation_metrics.get("mae")
    run.progress_percent, run.progress_message = 100.0, "Trained."
    put_out = training_failures.storable(trained.log)
    run.training_log = put_out[-training_failures.LOG_CHARACTERS :]


def _hand_over(run: TrainingRun, lease: Lease, handed: HandedOver) -> None:
    """Leave a run to somebody else until he reports; from here on nobody's lease holds it."""
    now = timezone.now()
    _of_lease(run, lease).update(
        lease_id=None,
        heartbeat_at=now,
        leased_until=now + timedelta(seconds=handed.timeout_seconds),
        progress_message="Handed over: waits for a report.",
    )
    log.info("training_handed_over", run_id=str(run.id))


def _wait(run: TrainingRun, lease: Lease, error: UnavailableError) -> None:
    """Try again later, until it was in vain for too long; how old the run is does not count."""
    with transaction.atomic():
        locked = _of_lease(run, lease).select_for_update(of=("self",)).first()
        if locked is None:
            return
        said = training_failures.storable(str(error))
        now = timezone.now()
        first = locked.metadata.get(_FIRST_UNAVAILABLE, now.isoformat())
        told = {training_failures.LAST_PROBLEM: said, _FIRST_UNAVAILABLE: first}
        locked.metadata = {**locked.metadata, **told}
        pause = min(FIRST_RETRY_SECONDS * 2 ** (locked.attempt - 1), LONGEST_RETRY_SECONDS)
        retry_at = now + timedelta(seconds=pause)
        patience = timedelta(seconds=settings.TRAINING_PATIENCE_SECONDS)
        if retry_at > datetime.fromisoformat(first) + patience:
            message, trace, put_out = training_failures.told(error)
            training_failures.fail(locked, message, trace=trace, put_out=put_out)
        else:
            training_leases.release(locked, retry_at=retry_at)


def _give_back(run: TrainingRun, lease: Lease) -> None:
    with transaction.atomic():
        locked = _of_lease(run, lease).select_for_update(of=("self",)).first()
        if locked is not None:
            training_leases.release(locked, retry_at=None)


def _fail(run: TrainingRun, lease: Lease, error: BaseException) -> None:
    with transaction.atomic():
        locked = _of_lease(run, lease).select_for_update(of=("self",)).first()
        if locked is None:  # cancelled or given up in the meantime: that stands
            return
        message, trace, put_out = training_failures.told(error)
        training_failures.fail(locked, message, trace=trace, put_out=put_out)


def _of_lease(run: TrainingRun, lease: Lease) -> TrainingRunQuerySet:
    held = TrainingRun.objects.unfinished().filter(pk=run.pk, lease_id=lease.lease_id)
    return held.select_related("machine")


def _refreshed(run: TrainingRun) -> TrainingRun:
    run.refresh_from_db()
    return run
