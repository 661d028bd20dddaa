"""Maximum likelihood on tensors: one loop, and what it shares with the training of images."""

from .fit import fit
from .schedule import History, Schedule

__all__ = ["History", "Schedule", "fit"]
