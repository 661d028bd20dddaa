"""Two moons: a posterior with two crescents (Greenberg et al. 2019; as in sbibm)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Simulator, normal_log_prob
from .priors import Uniform
from .reference import rejection

_ROOT2 = math.sqrt(2)


class TwoMoons(Simulator):
    """x = (r cos a + 1/4, r sin a) + (-|t1 + t2|, t2 - t1) / sqrt 2.

    a is uniform on (-pi/2, pi/2), r ~ N(0.1, 0.01^2), theta uniform on [-1, 1]^2.
    """

    name = "two_moons"
    names = ["theta[0]", "theta[1]"]
    x_shape = (2,)
    has_likelihood = has_reference = True

    def __init__(self):
        self.prior = Uniform([-1.0, -1.0], [1.0, 1.0])

    def simulate(self, theta, generator=None):
        theta = self._theta(theta)
        return self._crescent(len(theta), generator) + self._shift(theta)

    def log_likelihood(self, theta, x):
        # in polar coordinates p(r) p(a) / r; the circle of negative r has probability e^-50
        centre = theta.new_tensor([0.25, 0.0])  # of the circle
        p = self._x(x) - self._shift(self._theta(theta)) - centre
        r = p.norm(dim=1).clamp_min(1e-12)
        value = normal_log_prob(r, torch.tensor(0.1), 0.01) - math.log(math.pi) - r.log()
        return torch.where(p[:, 0] > 0, value, -math.inf)

    def reference_posterior(self, x, n, generator=None):
        x = self._x(x)

        def propose(m: int) -> Tensor:
            q = x - self._crescent(m, generator)
            sign = torch.where(torch.rand(m, generator=generator) < 0.5, 1.0, -1.0)
            total, difference = sign * q[:, 0] * _ROOT2, q[:, 1] * _ROOT2
            theta = torch.stack((total - difference, total + difference), 1) / 2
            # q_0 = -|t1 + t2| / sqrt 2 cannot be positive
            return torch.where(q[:, :1] <= 0, theta, math.nan)

        def accept(theta: Tensor) -> Tensor:
            return torch.where(self.prior.inside(theta), 0.0, -math.inf)

        return rejection(propose, accept, n, generator)

    def _crescent(self, n: int, generator) -> Tensor:
        a = (torch.rand(n, generator=generator) - 0.5) * math.pi
        r = 0.1 + 0.01 * torch.randn(n, generator=generator)
        return torch.stack((r * a.cos() + 0.25, r * a.sin()), 1)

    def _shift(self, theta: Tensor) -> Tensor:
        total, difference = theta.sum(1), theta[:, 1] - theta[:, 0]
        return torch.stack((-total.abs(), difference), 1) / _ROOT2
