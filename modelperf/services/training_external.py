"""Whether others train a series, as its policy says now, and a run that is left to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from modelperf.models import TrainingRun
from modelperf.services.policies import PolicyValues
from modelperf.trainers import EXTERNAL, External, find

DEFAULT_TRAINER: Final = "energy_baseline"  # what reads a training source, unless one is named
WAITS: Final = "Waits for somebody to take it."


def trainer_document(policy: PolicyValues) -> Mapping[str, Any]:
    """Return what trains a series, as its policy says."""
    if policy.trainer is not None:
        return policy.trainer
    return {"kind": DEFAULT_TRAINER if policy.training_source else EXTERNAL}


def is_external(policy: PolicyValues) -> bool:
    """Whether others train a series and take its runs by themselves."""
    return trainer_document(policy).get("kind") == EXTERNAL


def leave_to_others(run: TrainingRun, policy: PolicyValues, *, since: datetime) -> None:
    """Note that others train a run, and until when they may take it; it is not stored yet.

    Raises
    ------
    TrainingError
        The policy's trainer has settings that are none.
    """
    trainer = find(trainer_document(policy))
    assert isinstance(trainer, External)  # noqa: S101 -- what its kind says
    run.trainer = EXTERNAL
    run.leased_until = since + timedelta(seconds=trainer.timeout_seconds)
    run.progress_message = WAITS
