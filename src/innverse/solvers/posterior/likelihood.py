"""log p(y | u) of a measurement, without its constant: what the noise says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...physics import PoissonNoise
from ..problem import Problem

Likelihood = Callable[[Tensor], Tensor]  # images (N, C, H, W) -> nats (N,)


def gaussian(physics, y: Tensor, noise: Tensor) -> Likelihood:
    """-||A u - y||^2 / (2 s^2), with one s of each item (N,); values weigh as in `Whitened`."""

    def log_likelihood(u: Tensor) -> Tensor:
        misfit = (physics.A(u) - y).flatten(1).square().sum(1)
        return -0.5 * misfit / noise.square()

    return log_likelihood


def poisson(physics, y: Tensor, gain: float) -> Likelihood:
    """Photon counts k = y / gain at the rates r = A u / gain: the sum of k log r - r.

    A negative intensity counts as none, as in `innverse.physics.PoissonNoise`: where photons were
    counted its likelihood is zero (-inf).
    """
    counts = y / gain

    def log_likelihood(u: Tensor) -> Tensor:
        rate = physics.A(u).clamp_min(0) / gain
        seen = counts > 0
        log_rate = torch.where(seen, rate, 1.0).log()  # 0 log 0 = 0, with its gradient
        return (counts * log_rate - rate).flatten(1).sum(1)

    return log_likelihood


def likelihood_of(problem: Problem, items: Tensor) -> Likelihood | None:
    """What the noise of a problem says, for chains of ``items`` (N,); None for Gaussian noise."""
    if type(problem.model) is not PoissonNoise or problem.given is None:
        return None
    given, operator = problem.given
    return poisson(operator.select(items), given[items], problem.model.gain)
