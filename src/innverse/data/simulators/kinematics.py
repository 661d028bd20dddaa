"""Inverse kinematics: which postures of an arm reach a point (Kruse et al. 2021, 2101.10763)."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Noisy
from .priors import Gaussian

_LENGTHS = (0.5, 0.5, 1.0)


class InverseKinematics(Noisy):
    """The end point of an arm of three segments on a vertical rail.

    theta = (height on the rail, three joint angles) ~ N(0, diag(1/4, 1/2, 1/2, 1/2)^2); x (2,) is
    the end point plus N(0, noise^2). Kruse et al. have no noise; a little of it (0.01) gives the
    posterior a density and the rejection reference a meaning.
    """

    name = "inverse_kinematics"
    names = ["height", "angle[0]", "angle[1]", "angle[2]"]
    x_shape = (2,)

    def __init__(self, noise: float = 0.01):
        self.noise = float(noise)
        self.prior = Gaussian(torch.zeros(4), torch.tensor([0.25, 0.5, 0.5, 0.5]).square())

    def joints(self, theta: Tensor) -> Tensor:
        """The positions of base, joints and end, (B, 4, 2)."""
        angle = self._theta(theta)[:, 1:].cumsum(1)
        lengths = theta.new_tensor(_LENGTHS)
        steps = torch.stack((lengths * angle.cos(), lengths * angle.sin()), 2)
        base = torch.stack((torch.zeros_like(theta[:, 0]), theta[:, 0]), 1).unsqueeze(1)
        return torch.cat((base, base + steps.cumsum(1)), 1)

    def forward(self, theta: Tensor) -> Tensor:
        """The end point without noise, (B, 2)."""
        return self.joints(theta)[:, -1]
