"""The constant of log p(y | u) that a chain does not need and an evidence does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ....gaussian import HALF_LOG_2PI
from ....physics import (
    GaussianNoise,
    LinearPhysics,
    PoissonGaussianNoise,
    PoissonNoise,
    TransmissionNoise,
    Whitened,
)
from ....physics.noise import NoiseModel
from ....physics.rescaled import RescaledNoise
from ....physics.stacked import StackedNoise
from ...problem import Problem
from ..likelihood import log_of_count, of_noise, reach_of


def log_constant(problem: Problem) -> Tensor:
    """What `Target.log_likelihood` leaves out of log p(y | u), nats of each item (B,) in float64.

    Of the measurement in units of the caller, before anything was divided out of it; values that
    depend on no pixel and are zero were not measured. Photon counts have probabilities, not densities.
    """
    y, physics = problem.given
    model = problem.model
    if model is not None and of_noise(model, y) is not None:
        y = y.double()
        if isinstance(model, GaussianNoise):
            level = torch.as_tensor(model.sigma, dtype=torch.float64)
            model = GaussianNoise(problem.unit * level, model.per_item)
        return _of_model(model, y, measured(physics, y, problem.shape)).flatten(1).sum(1)
    weight = problem.physics.weight if isinstance(problem.physics, Whitened) else 1.0
    std = problem.unit * problem.deviation().double()
    std = std.view(-1, *[1] * (problem.y.dim() - 1)) / weight
    each = -(std.log() + HALF_LOG_2PI).expand(problem.y.shape)
    return each.where(measured(problem.physics, problem.y, problem.shape), 0.0).flatten(1).sum(1)


def _of_model(model: NoiseModel, y: Tensor, known: Tensor) -> Tensor:
    """What `of_noise` leaves out, of each value."""
    if isinstance(model, RescaledNoise):
        return _of_model(model.model, model.given(y), known)
    if isinstance(model, StackedNoise):
        parts = zip(model.models, model.split(y), model.split(known.double()), strict=True)
        return torch.cat([_of_model(part, m, k > 0).flatten(1) for part, m, k in parts], 1)
    if isinstance(model, TransmissionNoise):
        return log_of_count(model.counts(y))
    if isinstance(model, PoissonNoise):
        return _of_photons(model, y, known)
    if isinstance(model, GaussianNoise):
        std = model.std(y).expand(y.shape)
        return torch.where(known & std.isfinite(), -std.log() - HALF_LOG_2PI, 0.0)
    return torch.zeros_like(y)  # cells have probabilities


def _of_photons(model: PoissonNoise, y: Tensor, known: Tensor) -> Tensor:
    if not isinstance(model, PoissonGaussianNoise) or not model.read_sigma > 0:
        return log_of_count(y / model.gain)
    log_sigma = math.log(model.read_sigma)
    there, elsewhere = -HALF_LOG_2PI, log_sigma
    if reach_of(model.gain, model.read_sigma) is not None:
        there, elsewhere = there - log_sigma, 0.0
    return torch.where(known, there, elsewhere).to(y)


@torch.no_grad()
def measured(physics: LinearPhysics, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Which values of y (B, ...) are measurements at all: booleans of its shape."""
    probe = torch.randn((len(y), *shape), generator=torch.Generator().manual_seed(0))
    return (physics.A(probe.to(y)) != 0) | (y != 0)
