"""Priors of simulators: draws, densities and bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...gaussian import HALF_LOG_2PI


class Prior:
    """Draws ``sample((n,))`` -> (n, D), ``log_prob(theta)`` (n, D) -> (n,), and ``bounds``.

    ``bounds`` is (low, high), each (D,), infinite where there is none; outside the density is 0.
    """

    bounds: tuple[Tensor, Tensor]

    def sample(self, sample_shape=(), generator: torch.Generator | None = None) -> Tensor:
        raise NotImplementedError

    def log_prob(self, theta: Tensor) -> Tensor:
        raise NotImplementedError

    def inside(self, theta: Tensor) -> Tensor:
        """Whether theta (n, D) lies within the bounds -> (n,) bool."""
        low, high = self.bounds
        return ((theta >= low) & (theta <= high)).all(-1)

    def __len__(self) -> int:
        return len(self.bounds[0])


class Uniform(Prior):
    """Independent uniform parameters on [low, high], vectors (D,)."""

    def __init__(self, low, high):
        self.bounds = torch.as_tensor(low).float(), torch.as_tensor(high).float()

    def sample(self, sample_shape=(), generator=None):
        low, high = self.bounds
        u = torch.rand(*sample_shape, len(low), generator=generator)
        return low + (high - low) * u

    def log_prob(self, theta):
        low, high = self.bounds
        value = -(high - low).log().sum()
        return torch.where(self.inside(theta), value, -math.inf)


class Gaussian(Prior):
    """N(mean, covariance); ``covariance`` is a matrix (D, D), or a vector of variances (D,)."""

    def __init__(self, mean, covariance):
        self.mean = torch.as_tensor(mean).float()
        covariance = torch.as_tensor(covariance).double()
        covariance = torch.diag(covariance) if covariance.dim() == 1 else covariance
        self.covariance = covariance.float()
        self._factor = torch.linalg.cholesky(covariance)
        free = torch.full_like(self.mean, math.inf)
        self.bounds = -free, free

    def sample(self, sample_shape=(), generator=None):
        e = torch.randn(*sample_shape, len(self.mean), generator=generator)
        return self.mean + e @ self._factor.T.float()

    def log_prob(self, theta):
        centred = (theta - self.mean).double().unsqueeze(-1)
        white = torch.linalg.solve_triangular(self._factor, centred, upper=False).squeeze(-1)
        constant = self._factor.diagonal().log().sum() + len(self.mean) * HALF_LOG_2PI
        return (-0.5 * white.square().sum(-1) - constant).to(theta.dtype)


class LogNormal(Prior):
    """Independent parameters with log theta ~ N(mean, std^2), vectors (D,)."""

    def __init__(self, mean, std):
        self.mean, self.std = torch.as_tensor(mean).float(), torch.as_tensor(std).float()
        self.bounds = torch.zeros_like(self.mean), torch.full_like(self.mean, math.inf)

    def sample(self, sample_shape=(), generator=None):
        e = torch.randn(*sample_shape, len(self.mean), generator=generator)
        return (self.mean + self.std * e).exp()

    def log_prob(self, theta):
        log_theta = theta.clamp_min(1e-30).log()
        white = (log_theta - self.mean) / self.std
        value = -0.5 * white.square() - HALF_LOG_2PI - self.std.log() - log_theta
        return torch.where((theta > 0).all(-1), value.sum(-1), -math.inf)
