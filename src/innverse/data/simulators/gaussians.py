"""Simulators made of normals, whose posteriors are known: as in sbibm (Lueckmann et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Noisy, Simulator, normal_log_prob
from .priors import Gaussian, Uniform
from .reference import rejection


class GaussianLinear(Noisy):
    """x ~ N(theta, 0.1 I), theta ~ N(0, 0.1 I), ten dimensions; posterior N(x / 2, 0.05 I)."""

    name = "gaussian_linear"

    def __init__(self, dim: int = 10, variance: float = 0.1):
        self.names = [f"theta[{i}]" for i in range(dim)]
        self.x_shape, self.noise = (dim,), math.sqrt(variance)
        self.prior = Gaussian(torch.zeros(dim), torch.full((dim,), variance))

    def forward(self, theta):
        return self._theta(theta)

    def reference_posterior(self, x, n, generator=None):
        e = torch.randn(n, *self.x_shape, generator=generator)
        return self._x(x) / 2 + self.noise / math.sqrt(2) * e


class GaussianLinearUniform(GaussianLinear):
    """The same with theta uniform on [-1, 1]^10; the posterior is a truncated normal."""

    name = "gaussian_linear_uniform"

    def __init__(self, dim: int = 10, variance: float = 0.1):
        super().__init__(dim, variance)
        self.prior = Uniform(-torch.ones(dim), torch.ones(dim))

    def reference_posterior(self, x, n, generator=None):
        # by the inverse of the distribution function, in float64
        x = self._x(x).double()
        low, high = (torch.special.ndtr((b.double() - x) / self.noise) for b in self.bounds)
        u = torch.rand(n, *self.x_shape, generator=generator, dtype=torch.float64)
        theta = x + self.noise * torch.special.ndtri(low + (high - low) * u)
        return torch.minimum(torch.maximum(theta.float(), self.bounds[0]), self.bounds[1])


class GaussianMixture(Simulator):
    """x ~ N(theta, I) / 2 + N(theta, 0.01 I) / 2, theta uniform on [-10, 10]^2."""

    name = "gaussian_mixture"
    names = ["theta[0]", "theta[1]"]
    x_shape = (2,)
    has_likelihood = has_reference = True
    stds = (1.0, 0.1)

    def __init__(self):
        self.prior = Uniform([-10.0, -10.0], [10.0, 10.0])

    def simulate(self, theta, generator=None):
        theta = self._theta(theta)
        return theta + self._noise(len(theta), generator)

    def log_likelihood(self, theta, x):
        theta, x = self._theta(theta), self._x(x)
        parts = [normal_log_prob(x, theta, s).sum(1) - math.log(2) for s in self.stds]
        return torch.logaddexp(*parts)

    def reference_posterior(self, x, n, generator=None):
        # symmetric in x and theta: the flat prior only truncates
        x = self._x(x)

        def propose(m: int) -> Tensor:
            return x + self._noise(m, generator)

        def accept(theta: Tensor) -> Tensor:
            return torch.where(self.prior.inside(theta), 0.0, -math.inf)

        return rejection(propose, accept, n, generator)

    def _noise(self, n: int, generator) -> Tensor:
        wide = torch.rand(n, 1, generator=generator) < 0.5
        return torch.where(wide, *self.stds) * torch.randn(n, 2, generator=generator)
