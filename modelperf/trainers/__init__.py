"""What can train a model. Importing the package makes its trainers and their sources known."""

from modelperf.trainers import energy_baseline, sources_files, sources_query, sources_url
from modelperf.trainers.base import (
    EXTERNAL,
    Callback,
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
    "HandedOver",
    "NoLongerWantedError",
    "TrainedModel",
    "Trainer",
    "TrainingError",
    "TrainingRequest",
    "UnavailableError",
    "Watch",
    "energy_baseline",
    "find",
    "sources_files",
    "sources_query",
    "sources_url",
]
