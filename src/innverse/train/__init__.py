"""Training: settings, losses, the loop, checkpoints, many processes.

Settings are checked without importing torch; the rest is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .config import TrainingConfig as TrainingConfig
    from .config import load_config as load_config
    from .loop import train as train
    from .losses import Objective as Objective
    from .metrics import read_metrics as read_metrics
    from .outcome import Outcome as Outcome
    from .trainer import Trainer as Trainer

__getattr__, __dir__, __all__ = lazy(__name__)
