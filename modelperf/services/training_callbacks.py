"""Where somebody else who trains a run reports back, and the token that lets him, and only him."""

from __future__ import annotations

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from modelperf.models import TrainingRun
from modelperf.trainers import Callback

_SALT = "modelperf.training.callback"
_PATH = "/api/v1/model-performance/training/"


def token_of(run: TrainingRun) -> str:
    """Return the token of a run: the same at every attempt, and worth nothing once it is over."""
    return f"run_{salted_hmac(_SALT, str(run.pk), algorithm='sha256').hexdigest()}"


def is_token_of(token: str, run: TrainingRun) -> bool:
    """Whether a token is this run's."""
    return constant_time_compare(token, token_of(run))


def callback_of(run: TrainingRun) -> Callback | None:
    """Return where a run's reports go; None where no public address is set."""
    if not settings.PUBLIC_URL:
        return None
    return Callback(url=f"{settings.PUBLIC_URL}{_PATH}{run.pk}", token=token_of(run))
