"""Simple likelihood, complex posterior (Papamakarios et al. 2019; as in sbibm)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...gaussian import HALF_LOG_2PI
from .base import Simulator
from .priors import Uniform
from .reference import ensemble, resample

_JITTER = 1e-6  # on the variances, as in sbibm


class SLCP(Simulator):
    """Four draws of N((t1, t2), S), S from the deviations t3^2, t4^2 and correlation tanh t5.

    theta is uniform on [-3, 3]^5; x (8,) are the four points one after the other. The signs of
    t3 and t4 do not matter: four modes.
    """

    name = "slcp"
    names = [f"theta[{i}]" for i in range(5)]
    x_shape: tuple[int, ...] = (8,)
    has_likelihood = has_reference = True

    def __init__(self):
        self.prior = Uniform(torch.full((5,), -3.0), torch.full((5,), 3.0))

    def simulate(self, theta, generator=None):
        theta = self._theta(theta)
        a, b, c = _factor(theta)
        e = torch.randn(len(theta), 4, 2, generator=generator)
        first = theta[:, :1] + a[:, None] * e[..., 0]
        second = theta[:, 1:2] + b[:, None] * e[..., 0] + c[:, None] * e[..., 1]
        return torch.stack((first, second), 2).flatten(1)

    def log_likelihood(self, theta, x):
        return self._log_points(self._theta(theta), self._x(x))

    def reference_posterior(self, x, n, generator=None):
        return self._reference(self._x(x), n, generator)

    def _log_points(self, theta: Tensor, points: Tensor) -> Tensor:
        """log p of the four points (B, 8)."""
        a, b, c = (t.unsqueeze(1) for t in _factor(theta))
        points = points.view(-1, 4, 2)
        first = (points[..., 0] - theta[:, :1]) / a
        second = (points[..., 1] - theta[:, 1:2] - b * first) / c
        each = -0.5 * (first.square() + second.square()) - a.log() - c.log()
        return each.sum(1) - 8 * HALF_LOG_2PI

    def _reference(self, points: Tensor, n: int, generator) -> Tensor:
        """On positive t3 and t4 by Markov chains, then random signs: all four modes, exactly."""
        fold = torch.tensor([False, False, True, True, False])

        def log_density(theta: Tensor) -> Tensor:
            inside = self.prior.inside(theta) & (theta[:, 2:4] > 0).all(1)
            safe = theta.clamp(-3, 3)
            return torch.where(inside, self._log_points(safe, points), -math.inf)

        theta = self.prior.sample((400_000,), generator)
        theta = torch.where(fold, theta.abs(), theta)
        start = resample(theta, log_density(theta), 2000, generator)
        theta = ensemble(log_density, start, n, generator)
        signs = torch.randint(2, (n, 5), generator=generator) * 2 - 1
        return torch.where(fold, theta * signs, theta)


class SLCPDistractors(SLCP):
    """SLCP with 92 numbers that carry no information, all 100 in a fixed random order.

    The distractors are a mixture of 20 multivariate t distributions with 2 degrees of freedom. Its
    places and factors and the order are drawn as sbibm drew them, from the same seed: observations
    and reference posteriors of sbibm are those of this simulator.
    """

    name = "slcp_distractors"
    x_shape = (100,)

    def __init__(self):
        super().__init__()
        g = np.random.RandomState(42)  # the stream sbibm took its numbers from
        centres = [15 * g.normal(size=92) for _ in range(20)]
        factors = [
            3 * (np.tril(g.normal(size=(92, 92))) + np.diag(np.exp(g.normal(size=92))))
            for _ in range(20)
        ]
        self.centres = torch.from_numpy(np.array(centres)).float()
        self.factors = torch.from_numpy(np.array(factors)).float()
        self.order = torch.from_numpy(g.permutation(100))

    def simulate(self, theta, generator=None):
        points = super().simulate(theta, generator)
        n = len(points)
        k = torch.randint(20, (n,), generator=generator)
        e = torch.randn(n, 92, generator=generator)
        # chi^2 with 2 degrees of freedom is an exponential
        chi = -2 * torch.rand(n, generator=generator).clamp_min(1e-12).log()
        noise = torch.empty(n, 92)
        for i in range(20):
            mine = k == i
            noise[mine] = e[mine] @ self.factors[i].T
        noise = self.centres[k] + noise / (chi / 2).sqrt().unsqueeze(1)
        return torch.cat((points, noise), 1)[:, self.order]

    def log_likelihood(self, theta, x):
        """Up to a constant that does not depend on theta (the distractors' density)."""
        return self._log_points(self._theta(theta), self._points(self._x(x)))

    def reference_posterior(self, x, n, generator=None):
        return self._reference(self._points(self._x(x)), n, generator)

    def _points(self, x: Tensor) -> Tensor:
        return x[:, self.order.argsort()[:8]]


def _factor(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The Cholesky factor ((a, 0), (b, c)) of the covariance, each (B,)."""
    s1, s2, rho = theta[:, 2].square(), theta[:, 3].square(), theta[:, 4].tanh()
    a = (s1.square() + _JITTER).sqrt()
    b = rho * s1 * s2 / a
    c = (s2.square() + _JITTER - b.square()).clamp_min(1e-12).sqrt()
    return a, b, c
