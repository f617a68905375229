"""What can train a model. Importing the package makes its trainers known."""

from modelperf.trainers import energy_baseline
from modelperf.trainers.base import TrainedModel, TrainingError, TrainingRequest, find

__all__ = ["TrainedModel", "TrainingError", "TrainingRequest", "energy_baseline", "find"]
