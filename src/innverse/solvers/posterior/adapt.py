"""What warm-up learns for each item: the size of the steps, and the length of the trajectories."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SHORTER = 0.75  # times what is learned, see `Lengths`
ROUND = _SHORTER * 2.787  # the trajectory time of N(0, I): tan(T / 2) = 2 T at what is learned
TARGET = 0.8  # acceptance; the best for HMC lies between .65 and .9 (Betancourt et al. 2014)
_SHRINKAGE, _DELAY, _DECAY = 0.1, 10, 0.75


def first_step(u: Tensor) -> float:
    """A step for chains u (N, ...) that is about right where M is the curvature.

    The error of a trajectory's energy grows with the number of dimensions as n step^4 (Beskos et al.
    2013).
    """
    return 1.9 * u[0].numel() ** -0.25


class DualAveraging:
    """A step size for each item, adapted to its acceptance (Hoffman & Gelman 2014, section 3.2).

    ``step`` (B,) is the one to try next, ``final`` the average to keep when adaptation is over.
    """

    def __init__(self, first: Tensor):
        self._goal = first.log()
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


class Lengths:
    """A trajectory time for each item, such that more of it would no longer pay.

    The mean squared distance between both ends, D(T), tells how well chains mix (Pasarica & Gelman
    2010), and ChEES (Hoffman et al. 2021) climbs its like by the derivative at the end of each
    trajectory. Here what is climbed is D(T) / sqrt(T) (Wang, Mohamed & de Freitas 2013); its maximum
    is where the elasticity d log D / d log T, 2 for short trajectories and 0 where they turn back, is
    1/2. In many dimensions one trajectory measures it well, so that few chains suffice.

    That leads to nearly the opposite end: pixels forget their sign, and not how far out they were.
    Their spread, which R-hat judges too, mixes best at a quarter of the period; three quarters of the
    time that is learned serve both.
    """

    def __init__(self, first: Tensor):
        self._log = (first / _SHORTER).log()
        self._mean, self._n = self._log, 0

    def update(self, time: Tensor, distance: Tensor, growth: Tensor) -> None:
        """Learn from trajectories of ``time`` (B,), each with sums over the chains of an item (B,)
        of ||u' - u||^2 and of its derivative, weighted by acceptance."""
        self._n += 1
        elasticity = time * growth / distance.clamp_min(1e-30)
        change = (elasticity - 0.5).nan_to_num(-1.0).clamp(-1, 1)
        self._log = (self._log + 0.5 / math.sqrt(self._n) * change).clamp(*_BOUNDS)
        forget = self._n**-0.5
        self._mean = forget * self._log + (1 - forget) * self._mean

    @property
    def time(self) -> Tensor:
        return self._log.exp()

    @property
    def final(self) -> Tensor:
        return _SHORTER * self._mean.exp()


_BOUNDS = (
    math.log(0.1),
    math.log(100.0),
)  # of log T, in units in which the metric is the curvature
