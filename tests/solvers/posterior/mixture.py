"""A noise-conditional prior of two modes, whose posterior is known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHAPE = (1, 4, 4)
TAU = 0.05  # of the modes; they lie apart where nothing is measured only
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)


def modes() -> Tensor:
    """(2, 1, 4, 4): alike but for the lowest row, where they are 12 TAU apart."""
    a, b = torch.full(SHAPE, 0.5).double(), torch.full(SHAPE, 0.5).double()
    a[:, 3], b[:, 3] = 0.35, 0.65
    return torch.stack((a, b))


class Mixture:
    """sum_k w_k N(m_k, (TAU^2 + sigma^2) I) on images; `at` takes levels of items as well."""

    shape = latent_shape = SHAPE
    noise_range = (0.01, 0.5)

    def __init__(self, c: float | Tensor | None = None):
        self.c = c

    def at(self, c: float | Tensor) -> Mixture:
        return Mixture(c)

    def _of_modes(self, x: Tensor) -> Tensor:
        """log w_k N(x; m_k, .), (N, 2)."""
        variance = TAU**2 + torch.as_tensor(self.c, dtype=x.dtype).square().view(-1, 1)
        square = (x[:, None] - modes()).flatten(2).square().sum(2)
        return WEIGHTS.log() - 0.5 * square / variance - 8 * (2 * math.pi * variance).log()

    def log_prob(self, x: Tensor) -> Tensor:
        return self._of_modes(x).logsumexp(1)

    def exact(self, mask: Tensor, y: Tensor, s: float, g: torch.Generator) -> Tensor:
        """A draw of p(u | y) for every level in ``c`` (N,), with y = mask * u + s * noise."""
        assert isinstance(self.c, Tensor)
        variance = TAU**2 + self.c.square().view(-1, 1, 1, 1, 1)
        seen = torch.distributions.Normal(modes(), (variance + s**2).sqrt()).log_prob(y)
        weight = (WEIGHTS.log() + (seen * mask).flatten(2).sum(2)).softmax(1)
        mode = torch.multinomial(weight, 1, generator=g).flatten()
        variance = variance[:, 0]
        precision = 1 / variance + mask / s**2
        mean = (modes()[mode] / variance + mask * y / s**2) / precision
        e = torch.randn(mean.shape, generator=g, dtype=torch.float64)
        return mean + e / precision.sqrt()
