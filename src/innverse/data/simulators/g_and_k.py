"""The g-and-k distribution: easy to draw from, its density only by a root (Prangle 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...gaussian import HALF_LOG_2PI
from .base import Simulator
from .priors import Uniform
from .reference import by_ensemble

_C = 0.8


class GAndK(Simulator):
    """m i.i.d. draws Q(z) = A + B (1 + c tanh(g z / 2)) z (1 + z^2)^k, z ~ N(0, 1), c = 0.8.

    theta = (A, B, g, k), uniform on [0, 10]^4 with B from 0.01; x (m, 1) is a set.
    """

    name = "g_and_k"
    names = ["A", "B", "g", "k"]
    has_likelihood = has_reference = True

    def __init__(self, m: int = 100):
        self.x_shape = (int(m), 1)
        self.prior = Uniform([0.0, 0.01, 0.0, 0.0], [10.0, 10.0, 10.0, 10.0])

    def quantile(self, theta: Tensor, z: Tensor) -> Tensor:
        """Q(z); theta (B, 4), z (B, m) -> (B, m)."""
        a, b, g, k = (t.unsqueeze(1) for t in theta.unbind(1))
        return a + b * (1 + _C * (g * z / 2).tanh()) * z * (k * z.square().log1p()).exp()

    def simulate(self, theta, generator=None):
        theta = self._theta(theta)
        z = torch.randn(len(theta), self.x_shape[0], generator=generator)
        return self.quantile(theta, z).unsqueeze(2)

    def log_likelihood(self, theta, x):
        # p(x) = phi(z) / Q'(z) with Q(z) = x, by bisection: Q increases for c = 0.8
        theta = self._theta(theta).double()
        x = self._x(x)[..., 0].double().expand(len(theta), -1)
        low, high = torch.full_like(x, -40.0), torch.full_like(x, 40.0)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.quantile(theta, middle) < x
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        z = (low + high) / 2
        _, b, g, k = (t.unsqueeze(1) for t in theta.unbind(1))
        t = (g * z / 2).tanh()
        slope = (1 + _C * t) * (1 + (2 * k + 1) * z.square()) / (1 + z.square())
        slope = slope + _C * g * z * (1 - t.square()) / 2
        log_slope = b.log() + k * z.square().log1p() + slope.log()
        each = -0.5 * z.square() - HALF_LOG_2PI - log_slope
        return each.sum(1).float()

    def reference_posterior(self, x, n, generator=None):
        return by_ensemble(self, x, n, generator, pilot=20_000)
