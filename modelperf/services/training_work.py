"""One training run at work: claimed by one process, trained, completed or failed honestly."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from modelperf.models import Machine, ModelVersion, TrainingRun
from modelperf.services import registry
from modelperf.services.errors import ConflictError, DomainError
from modelperf.services.policies import policy_of
from modelperf.trainers import TrainedModel, TrainingError, TrainingRequest, find

log = structlog.get_logger(__name__)

DEFAULT_TRAINER = "energy_baseline"  # the one that comes with modelperf


def claim(*, run: TrainingRun, by: str) -> bool:
    """Take a waiting run; of several processes one succeeds."""
    run.training_start = timezone.now()
    run.metadata = {**run.metadata, "run_by": by}
    run.training_status = TrainingRun.Status.RUNNING
    return _swap(run, expected=TrainingRun.Status.PENDING, fields=("training_start", "metadata"))


def train(*, run: TrainingRun, by: str) -> TrainingRun:
    """Train a claimed run and store what came of it: a version, or why there is none."""
    try:
        trained = _train(run)
        _complete(run, trained, by=by)
    except Exception as error:  # whatever a trainer raises is this run's failure, told as such
        _fail(run, error)
    except BaseException as error:  # Ctrl-C: nobody works on this run any more
        _fail(run, error)
        raise
    return run


def _train(run: TrainingRun) -> TrainedModel:
    setup = setup_of(machine=run.machine, model_type=run.model_type)
    hyperparameters = setup.get("hyperparameters", {})
    if not isinstance(hyperparameters, dict):
        raise TrainingError("The hyperparameters of the training setup are not an object.")
    versions = ModelVersion.objects.of_series(machine_id=run.machine_id, model_type=run.model_type)
    request = TrainingRequest(
        machine=run.machine,
        model_type=run.model_type,
        source=_source(run),
        data_start=run.training_data_start,
        data_end=run.training_data_end,
        hyperparameters=hyperparameters,
        previous=versions.order_by("-model_version").first(),
    )
    return find(str(setup.get("trainer", DEFAULT_TRAINER)))(request)


def _source(run: TrainingRun) -> Mapping[str, Any]:
    source = source_of(machine=run.machine, model_type=run.model_type)
    if source is None:
        raise TrainingError(no_source(machine=run.machine, model_type=run.model_type))
    return source


def setup_of(*, machine: Machine, model_type: str) -> dict[str, Any]:
    """Return what trains a series, as its machine's metadata says; empty where it is silent."""
    setups = machine.metadata.get("training")
    setup = setups.get(model_type) if isinstance(setups, dict) else None
    return setup if isinstance(setup, dict) else {}


def source_of(*, machine: Machine, model_type: str) -> Mapping[str, Any] | None:
    """Return where a series' readings come from, as its policy says."""
    return policy_of(machine_id=machine.pk, model_type=model_type).training_source


def no_source(*, machine: Machine, model_type: str) -> str:
    """Return what to do where nothing says what to train a series on."""
    return (
        f"Nothing says where the readings come from that {model_type} models of {machine.name}"
        " are trained on. Set training_source in the policy: PUT"
        f" /api/v1/model-performance/policies/{model_type}, or .../machines/{machine.pk}."
    )


def _complete(run: TrainingRun, trained: TrainedModel, *, by: str) -> None:
    """Register what was trained and close the run, both or neither."""
    with transaction.atomic():
        ended = timezone.now()
        model, _ = registry.register_model(
            machine=run.machine,
            model_type=run.model_type,
            trained_at=ended,
            artefact=trained.artefact,
            feature_names=trained.feature_names,
            hyperparameters=trained.hyperparameters,
            metadata={"training_run": str(run.id)},
            by=by,
        )
        _describe(run, trained, model)
        _end(run, TrainingRun.Status.COMPLETED, ended)
        fields = (*_RESULT_FIELDS, *_END_FIELDS)
        if not _swap(run, expected=TrainingRun.Status.RUNNING, fields=fields):
            raise ConflictError("The run was cancelled while it was trained.")
    log.info("training_completed", run_id=str(run.id), model_id=str(model.id), by=by)


_RESULT_FIELDS = (
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
)
_END_FIELDS = ("training_end", "training_duration_seconds")
_FAILURE_FIELDS = ("error_message", "error_traceback")


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


def _fail(run: TrainingRun, error: BaseException) -> None:
    run.refresh_from_db()  # what was described of a model that did not come about is gone
    told = isinstance(error, TrainingError | DomainError)
    kind = type(error).__name__
    run.error_message = str(error) if told else f"{kind}: {error}".rstrip(": ")
    run.error_traceback = "".join(traceback.format_exception(error)).replace("\x00", "")
    run.error_message = run.error_message.replace("\x00", "") or kind
    _end(run, TrainingRun.Status.FAILED, timezone.now())
    fields = (*_FAILURE_FIELDS, *_END_FIELDS)
    if not _swap(run, expected=TrainingRun.Status.RUNNING, fields=fields):
        run.refresh_from_db()  # cancelled in the meantime: that stands
        return
    log.warning("training_failed", run_id=str(run.id), error=run.error_message)


def _end(run: TrainingRun, status: TrainingRun.Status, ended: datetime) -> None:
    run.training_status = status
    run.training_end = max(ended, run.training_start)
    run.training_duration_seconds = (run.training_end - run.training_start).total_seconds()


def _swap(run: TrainingRun, *, expected: TrainingRun.Status, fields: tuple[str, ...]) -> bool:
    """Store the run's status and these fields where its stored status is the expected one."""
    values = {name: getattr(run, name) for name in fields}
    changed = TrainingRun.objects.filter(pk=run.pk, training_status=expected).update(
        training_status=run.training_status, **values
    )
    return changed == 1
