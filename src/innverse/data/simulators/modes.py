"""Eight modes on a ring and what colour they have (Ardizzone et al. 2018, section 4.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Simulator
from .priors import Prior
from .reference import resample

LABELS = (0, 0, 0, 0, 1, 1, 2, 3)  # the colour of each mode: four, two, one and one


class EightModes(Simulator):
    """theta (2,) from eight equal normals on the unit circle; x (4,) says the colour of the mode.

    x is the one-hot colour of the mode that theta was drawn from, plus N(0, noise^2); the four
    colours belong to 4, 2, 1 and 1 modes. Modes have the standard deviation ``std``; theirs hardly
    overlap, so the colour is that of the nearest mode.
    """

    name = "eight_modes"
    names = ["theta[0]", "theta[1]"]
    x_shape = (4,)
    has_reference = True

    def __init__(self, std: float = 0.1, noise: float = 0.01):
        self.noise = float(noise)
        self.prior = prior = ModesPrior(std)
        self.centres = prior.centres
        self.colours = torch.tensor(LABELS)

    def nearest(self, theta: Tensor) -> Tensor:
        """The index 0..7 of the nearest mode, (B,)."""
        return torch.cdist(self._theta(theta), self.centres).argmin(1)

    def forward(self, theta: Tensor) -> Tensor:
        """The one-hot colour without noise, (B, 4)."""
        return torch.eye(4)[self.colours[self.nearest(theta)]]

    def simulate(self, theta, generator=None):
        x = self.forward(theta)
        return x + self.noise * torch.randn(x.shape, generator=generator)

    def reference_posterior(self, x, n, generator=None):
        colour = self._x(x)[0].argmax()
        theta = self.prior.sample((40 * n,), generator)
        own = self.colours[self.nearest(theta)] == colour
        return resample(theta[own], torch.zeros(int(own.sum())), n, generator)


class ModesPrior(Prior):
    """The mixture of eight normals."""

    def __init__(self, std: float):
        angle = torch.arange(8) * (math.pi / 4)
        self.centres = torch.stack((angle.cos(), angle.sin()), 1)
        self.std = float(std)
        free = torch.full((2,), math.inf)
        self.bounds = -free, free

    def sample(self, sample_shape=(), generator=None):
        k = torch.randint(8, tuple(sample_shape), generator=generator)
        e = torch.randn(*sample_shape, 2, generator=generator)
        return self.centres[k] + self.std * e

    def log_prob(self, theta):
        d2 = (theta.unsqueeze(-2) - self.centres).square().sum(-1)
        each = -0.5 * d2 / self.std**2 - math.log(2 * math.pi * self.std**2)
        return each.logsumexp(-1) - math.log(8)
