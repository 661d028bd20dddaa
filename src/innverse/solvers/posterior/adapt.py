"""Step sizes that are accepted as often as they should be, by dual averaging."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TARGET = 0.8  # acceptance; the best for HMC lies between .65 and .9 (Betancourt et al. 2014)
_SHRINKAGE, _DELAY, _DECAY = 0.05, 10, 0.75


class DualAveraging:
    """A step size for each item, adapted to its acceptance (Hoffman & Gelman 2014, section 3.2).

    ``step`` (B,) is the one to try next, ``final`` the average to keep when adaptation is over.
    """

    def __init__(self, first: Tensor):
        self._goal = (10 * first).log()
        self._error = torch.zeros_like(first)
        self.step, self._log_mean, self._n = first, torch.zeros_like(first), 0

    def update(self, acceptance: Tensor) -> None:
        """Learn from the mean acceptance of each item (B,)."""
        self._n += 1
        n = self._n
        weight = 1 / (n + _DELAY)
        self._error = (1 - weight) * self._error + weight * (TARGET - acceptance)
        log_step = self._goal - math.sqrt(n) / _SHRINKAGE * self._error
        forget = n**-_DECAY
        self._log_mean = forget * log_step + (1 - forget) * self._log_mean
        self.step = log_step.exp()

    @property
    def final(self) -> Tensor:
        return self._log_mean.exp() if self._n else self.step
