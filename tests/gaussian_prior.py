"""A prior under which every method has a known answer: independent normal pixels, plus noise."""

from __future__ import annotations

import torch

from innverse.bijections import Bijection
from innverse.flows import Flow

S = 0.3  # standard deviation of the Gaussian prior


class Gaussian(Bijection):
    """f(x; sigma) = (x - 1/2) / sqrt(S^2 + sigma^2): the density of N(1/2, S^2) plus noise."""

    def _scale(self, x, c):
        sigma = torch.zeros(len(x), dtype=x.dtype) if c is None else c[:, 0]
        return (S**2 + sigma.square()).rsqrt().expand(len(x)).view(-1, 1, 1, 1)

    def forward(self, x, c=None):
        scale = self._scale(x, c)
        return (x - 0.5) * scale, scale.log().flatten() * x[0].numel()

    def inverse(self, z, c=None):
        scale = self._scale(z, c)
        return z / scale + 0.5, -scale.log().flatten() * z[0].numel()


class Plain(torch.nn.Module):
    """The noise level itself as the condition."""

    low, high = 0.01, 0.4

    def forward(self, sigma):
        return sigma.view(-1, 1)

    def checked(self, sigma):
        return sigma

    def embedding(self, sigma, count):
        return self(sigma).expand(count, -1)


def gaussian_prior(noise_conditional=True):
    flow = Flow(Gaussian(), (1, 8, 8))
    if noise_conditional:
        flow.noise = Plain()
    flow.register_parameter("nothing", torch.nn.Parameter(torch.zeros(1), requires_grad=False))
    return flow.eval()
