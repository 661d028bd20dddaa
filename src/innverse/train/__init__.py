"""Training: settings, losses, the loop, checkpoints, many processes.

Settings are checked without importing torch; the rest is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from innverse.train.config import TrainingConfig, load_config

if TYPE_CHECKING:
    from innverse.train.loop import train
    from innverse.train.losses import Objective
    from innverse.train.metrics import read_metrics
    from innverse.train.outcome import Outcome
    from innverse.train.trainer import Trainer

__all__ = [
    "Objective",
    "Outcome",
    "Trainer",
    "TrainingConfig",
    "load_config",
    "read_metrics",
    "train",
]

_HOME = {
    "Objective": "losses",
    "Outcome": "outcome",
    "Trainer": "trainer",
    "read_metrics": "metrics",
    "train": "loop",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
