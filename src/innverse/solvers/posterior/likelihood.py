"""log p(y | u) of a measurement, without its constant: what the noise says."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...physics import (
    NoNoise,
    PoissonGaussianNoise,
    PoissonNoise,
    QuantisationNoise,
    TransmissionNoise,
)
from ..problem import Problem

_MOST_COUNTS = 32  # on either side of what was read

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


def poisson_gaussian(physics, y: Tensor, gain: float, sigma: float) -> Likelihood:
    """Photon counts read with Gaussian noise: y = gain k + sigma e, k ~ Poisson(A u / gain).

    The sum over k runs over all counts within 8 sigma of y. Where those are many (the noise of the
    electronics hides single photons) the Gaussian of the same variance, gain A u + sigma^2, stands
    for it.
    """
    reach = reach_of(gain, sigma)
    shifts = range(0) if reach is None else range(-reach, reach + 1)

    def by_counts(u: Tensor) -> Tensor:
        rate = (physics.A(u) / gain).clamp_min(1e-30)
        nearest = (y / gain).round()
        terms = []
        for shift in shifts:
            k = nearest + shift
            off = ((y - gain * k) / sigma).square()
            log_p = k * rate.log() - rate - torch.lgamma(k.clamp_min(0) + 1) - 0.5 * off
            terms.append(torch.where(k >= 0, log_p, -torch.inf))
        return torch.stack(terms).logsumexp(0).flatten(1).sum(1)

    def by_variance(u: Tensor) -> Tensor:
        clean = physics.A(u)
        variance = gain * clean.clamp_min(0) + sigma**2
        return -0.5 * ((y - clean).square() / variance + variance.log()).flatten(1).sum(1)

    return by_variance if reach is None else by_counts


def reach_of(gain: float, sigma: float) -> int | None:
    """How many counts on either side of what was read may have been there; None for too many."""
    reach = math.ceil(8 * sigma / gain)
    return reach if reach <= _MOST_COUNTS else None


def quantised(physics, y: Tensor, noise: QuantisationNoise) -> Likelihood:
    """The probability of the cell that each value of y was rounded in."""
    if noise.basis is not None:
        y, physics = noise.basis.A(y), noise.basis @ physics._copy(noise=NoNoise())
    return lambda u: noise.log_likelihood(physics.A(u), y)


def likelihood_of(problem: Problem, items: Tensor) -> Likelihood | None:
    """What the noise of a problem says, for chains of ``items`` (N,); None for Gaussian noise."""
    model = problem.model
    if problem.given is None:
        return None
    given, operator = problem.given
    if isinstance(model, TransmissionNoise):
        y, physics, model = given[items], operator.select(items), model.select(items)
        return lambda u: model.log_likelihood(physics.A(u), y)
    if not isinstance(model, (PoissonNoise, QuantisationNoise)):
        return None
    y, physics = given[items], operator.select(items)
    if isinstance(model, QuantisationNoise):
        return quantised(physics, y, model)
    if isinstance(model, PoissonGaussianNoise) and model.read_sigma > 0:
        return poisson_gaussian(physics, y, model.gain, model.read_sigma)
    return poisson(physics, y, model.gain)
