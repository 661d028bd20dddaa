"""Training: settings, losses, the loop, checkpoints, many processes."""

from innverse.train.config import TrainingConfig, load_config
from innverse.train.loop import Outcome, Trainer, train
from innverse.train.losses import Objective
from innverse.train.metrics import read_metrics

__all__ = [
    "Objective",
    "Outcome",
    "Trainer",
    "TrainingConfig",
    "load_config",
    "read_metrics",
    "train",
]
