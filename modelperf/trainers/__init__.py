"""What can train a model. Importing the package makes its trainers and their sources known."""

from modelperf.trainers import energy_baseline, sources_files, sources_query, sources_url
from modelperf.trainers.base import TrainedModel, TrainingError, TrainingRequest, find

__all__ = [
    "TrainedModel",
    "TrainingError",
    "TrainingRequest",
    "energy_baseline",
    "find",
    "sources_files",
    "sources_query",
    "sources_url",
]
