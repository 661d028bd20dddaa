"""The constant of log p(y | u) that a chain does not need and an evidence does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ....gaussian import HALF_LOG_2PI
from ....physics import (
    LinearPhysics,
    PoissonGaussianNoise,
    PoissonNoise,
    TransmissionNoise,
    Whitened,
)
from ...problem import Problem
from ..likelihood import log_of_count, reach_of


def log_constant(problem: Problem) -> Tensor:
    """What `Target.log_likelihood` leaves out of log p(y | u), nats of each item (B,) in float64.

    Of the measurement as it was given, before anything was divided out of it; values that depend on
    no pixel and are zero were not measured. Photon counts have probabilities, not densities.
    """
    if isinstance(problem.model, TransmissionNoise) and problem.given is not None:
        return log_of_count(problem.model.counts(problem.given[0].double())).flatten(1).sum(1)
    if isinstance(problem.model, PoissonNoise) and problem.given is not None:
        return _of_photons(problem.model, *problem.given, problem.shape)
    weight = problem.physics.weight if isinstance(problem.physics, Whitened) else 1.0
    std = problem.noise_level().double().view(-1, *[1] * (problem.y.dim() - 1)) / weight
    each = -(std.log() + HALF_LOG_2PI).expand(problem.y.shape)
    return each.where(measured(problem.physics, problem.y, problem.shape), 0.0).flatten(1).sum(1)


def _of_photons(model: PoissonNoise, y: Tensor, physics: LinearPhysics, shape) -> Tensor:
    y = y.double()
    if not isinstance(model, PoissonGaussianNoise) or not model.read_sigma > 0:
        return log_of_count(y / model.gain).flatten(1).sum(1)
    log_sigma = math.log(model.read_sigma)
    there, elsewhere = -HALF_LOG_2PI, log_sigma
    if reach_of(model.gain, model.read_sigma) is not None:
        there, elsewhere = there - log_sigma, 0.0
    known = measured(physics, y, shape)
    return torch.where(known, there, elsewhere).to(y).flatten(1).sum(1)


@torch.no_grad()
def measured(physics: LinearPhysics, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Which values of y (B, ...) are measurements at all: booleans of its shape."""
    probe = torch.randn((len(y), *shape), generator=torch.Generator().manual_seed(0))
    return (physics.A(probe.to(y)) != 0) | (y != 0)
