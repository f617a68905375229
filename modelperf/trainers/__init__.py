"""What can train a model. Importing the package makes its trainers and their sources known."""

from modelperf.trainers import (
    command,
    energy_baseline,
    sources_files,
    sources_query,
    sources_url,
    webhook,
)
from modelperf.trainers.base import (
    EXTERNAL,
    Callback,
    External,
    HandedOver,
    NoLongerWantedError,
    TrainedModel,
    Trainer,
    TrainingError,
    TrainingRequest,
    UnavailableError,
    Watch,
    find,
)

__all__ = [
    "EXTERNAL",
    "Callback",
    "External",
    "HandedOver",
    "NoLongerWantedError",
    "TrainedModel",
    "Trainer",
    "TrainingError",
    "TrainingRequest",
    "UnavailableError",
    "Watch",
    "command",
    "energy_baseline",
    "find",
    "sources_files",
    "sources_query",
    "sources_url",
    "webhook",
]
