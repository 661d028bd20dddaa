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
    """Photon counts k = y / gain at the rates r = A u / gain: the sum of k log(r / k) + k - r.

    That is against r = k, of which single precision keeps the differences. A negative intensity counts
    as none, as in `innverse.physics.PoissonNoise`: where photons were counted its likelihood is zero
    (-inf).
    """
    counts = y / gain

    def log_likelihood(u: Tensor) -> Tensor:
        rate = physics.A(u).clamp_min(0) / gain
        seen = counts > 0
        excess = torch.where(seen, rate / torch.where(seen, counts, 1.0) - 1, 0.0)  # r / k - 1
        each = torch.where(seen, counts * (excess.log1p() - excess), -rate)
        return each.flatten(1).sum(1)

    return log_likelihood


def poisson_gaussian(physics, y: Tensor, gain: float, sigma: float) -> Likelihood:
    """Photon counts read with Gaussian noise: y = gain k + sigma e, k ~ Poisson(A u / gain).

    The sum over k runs over all counts within 8 sigma of y. Where those are many (the noise of the
    electronics hides single photons) the Gaussian of the same variance, gain A u + sigma^2, stands
    for it.
    """
    reach = reach_of(gain, sigma)

    def by_counts(u: Tensor) -> Tensor:
        rate = (physics.A(u) / gain).clamp_min(1e-30)
        terms = []
        for k, alone in zip(counts, of_k, strict=True):
            excess = rate / k.clamp_min(1) - 1
            given_k = torch.where(k > 0, k * (excess.log1p() - excess), -rate)
            terms.append(given_k + alone)
        return torch.stack(terms).logsumexp(0).flatten(1).sum(1)

    def by_variance(u: Tensor) -> Tensor:
        clean = physics.A(u)
        variance = gain * clean.clamp_min(0) + sigma**2
        return -0.5 * ((y - clean).square() / variance + variance.log()).flatten(1).sum(1)

    if reach is None:
        return by_variance
    exact = y.double()
    counts, of_k = (
        [],
        [],
    )  # all that may have been counted, and what of their log-probability u leaves
    for shift in range(-reach, reach + 1):
        k = (exact / gain).round() + shift
        alone = log_of_count(k) - 0.5 * ((exact - gain * k) / sigma).square()
        of_k.append(torch.where(k >= 0, alone, -torch.inf).to(y))
        counts.append(k.clamp_min(0).to(y))
    return by_counts


def log_of_count(k: Tensor) -> Tensor:
    """log of the Poisson probability of k >= 0 at its own rate: k log k - k - log k!."""
    k = k.clamp_min(0)
    return torch.xlogy(k, k) - k - torch.lgamma(k + 1)


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
