"""log p(y | u) of a measurement, without its constant: what the noise says."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...physics import (
    GaussianNoise,
    PoissonGaussianNoise,
    PoissonNoise,
    QuantisationNoise,
    TransmissionNoise,
)
from ...physics.foreign_noise import ForeignNoise
from ...physics.noise import NoiseModel
from ...physics.rescaled import RescaledNoise
from ...physics.stacked import StackedNoise
from ..problem import Problem

_MOST_COUNTS = 32  # on either side of what was read

Likelihood = Callable[[Tensor], Tensor]  # images (N, C, H, W) -> nats (N,)
OfClean = Callable[[Tensor], Tensor]  # noiseless measurements (N, ...) -> nats (N,)


def gaussian(physics, y: Tensor, noise: Tensor) -> Likelihood:
    """-||A u - y||^2 / (2 s^2), with one s of each item (N,); values weigh as in `Whitened`."""

    def log_likelihood(u: Tensor) -> Tensor:
        misfit = (physics.A(u) - y).flatten(1).square().sum(1)
        return -0.5 * misfit / noise.square()

    return log_likelihood


def independent(y: Tensor, std: Tensor) -> OfClean:
    """Gaussian noise of the deviation ``std`` of each value; where that is infinite, nothing was
    measured."""
    weight = 1 / std.to(y)
    known = torch.where(weight > 0, y, 0)
    return lambda clean: -0.5 * (weight * (clean - known)).flatten(1).square().sum(1)


def poisson(y: Tensor, gain: float) -> OfClean:
    """Photon counts k = y / gain at the rates r = A u / gain: the sum of k log(r / k) + k - r.

    That is against r = k, of which single precision keeps the differences. A negative intensity counts
    as none, as in `innverse.physics.PoissonNoise`: where photons were counted its likelihood is zero
    (-inf).
    """
    counts = y / gain

    def log_likelihood(clean: Tensor) -> Tensor:
        rate = clean.clamp_min(0) / gain
        seen = counts > 0
        excess = torch.where(seen, rate / torch.where(seen, counts, 1.0) - 1, 0.0)  # r / k - 1
        each = torch.where(seen, counts * (excess.log1p() - excess), -rate)
        return each.flatten(1).sum(1)

    return log_likelihood


def poisson_gaussian(y: Tensor, gain: float, sigma: float) -> OfClean:
    """Photon counts read with Gaussian noise: y = gain k + sigma e, k ~ Poisson(A u / gain).

    The sum over k runs over all counts within 8 sigma of y. Where those are many (the noise of the
    electronics hides single photons) the Gaussian of the same variance, gain A u + sigma^2, stands
    for it.
    """
    reach = reach_of(gain, sigma)

    def by_counts(clean: Tensor) -> Tensor:
        rate = (clean / gain).clamp_min(1e-30)
        terms = []
        for k, alone in zip(counts, of_k, strict=True):
            excess = rate / k.clamp_min(1) - 1
            given_k = torch.where(k > 0, k * (excess.log1p() - excess), -rate)
            terms.append(given_k + alone)
        return torch.stack(terms).logsumexp(0).flatten(1).sum(1)

    def by_variance(clean: Tensor) -> Tensor:
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


def of_noise(model: NoiseModel | None, y: Tensor) -> OfClean | None:
    """log p(y | noiseless measurement) of a noise model, without its constant; None of Gaussian noise
    of one level, and of noise whose law is not known."""
    if isinstance(model, RescaledNoise):
        given = of_noise(model.model, model.given(y))
        return given and (lambda clean: given(model.given(clean)))
    if isinstance(model, StackedNoise):
        return _of_stack(model, y)
    if isinstance(model, TransmissionNoise):
        return lambda clean: model.log_likelihood(clean, y)
    if isinstance(model, QuantisationNoise):
        if (basis := model.basis) is None:
            return lambda clean: model.log_likelihood(clean, y)
        there = basis.A(y)
        return lambda clean: model.log_likelihood(basis.A(clean), there)
    if isinstance(model, PoissonGaussianNoise) and model.read_sigma > 0:
        return poisson_gaussian(y, model.gain, model.read_sigma)
    if isinstance(model, PoissonNoise):
        return poisson(y, model.gain)
    if isinstance(model, GaussianNoise) and model.is_map and bool((model.std(y) > 0).all()):
        return independent(y, model.std(y))
    return None


def taken_as_gaussian(model: NoiseModel | None) -> str | None:
    """The name of a model of another library whose law is not known: only its deviation is."""
    if isinstance(model, RescaledNoise):
        return taken_as_gaussian(model.model)
    if isinstance(model, StackedNoise):
        return next(filter(None, map(taken_as_gaussian, model.models)), None)
    return type(model.model).__name__ if isinstance(model, ForeignNoise) else None


def _of_stack(model: StackedNoise, y: Tensor) -> OfClean | None:
    """The sum over the parts of a stack, if the law of each is known and not all are Gaussian of the
    levels that the problem was divided by."""
    parts = [*zip(model.models, model.split(y), strict=True)]
    found = [of_noise(part, m) for part, m in parts]
    if all(one is None for one in found):
        return None
    for k, (part, m) in enumerate(parts):
        if found[k] is None:
            if not isinstance(part, GaussianNoise) or not bool((part.std(m) > 0).all()):
                return None
            found[k] = independent(m, part.std(m))

    def of_clean(clean: Tensor) -> Tensor:
        each = zip(found, model.split(clean), strict=True)
        return torch.stack([one(m) for one, m in each if one is not None]).sum(0)

    return of_clean


def likelihood_of(problem: Problem, items: Tensor) -> Likelihood | None:
    """What the noise of a problem says, for chains of ``items`` (N,); None for Gaussian noise of one
    level an item."""
    if problem.model is None or problem.given is None:
        return None
    y, physics = problem.given[0][items], problem.given[1].select(items)
    of_clean = of_noise(problem.model.select(items), y)
    return of_clean and (lambda u: of_clean(physics.A(u)))
