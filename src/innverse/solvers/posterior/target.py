"""What is sampled: the density of an image given its measurement, up to a constant.

    log p(u | y) = log p(u; sigma0) - ||A u - y||^2 / (2 s^2) + const

p(.; sigma0) is the density of an image plus N(0, sigma0^2) noise, so u is such a noisy image; for a
density without noise levels it is the image itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Point:
    """Where chains stand: images (N, C, H, W), log p(u | y) (N,), and its gradient."""

    u: Tensor
    log_p: Tensor
    gradient: Tensor

    def where(self, accepted: Tensor, other: Point) -> Point:
        """``other`` for the chains that ``accepted`` it, else this."""
        at = accepted.view(-1, 1, 1, 1)
        return Point(
            torch.where(at, other.u, self.u),
            torch.where(accepted, other.log_p, self.log_p),
            torch.where(at, other.gradient, self.gradient),
        )


class Target:
    """The posterior of N chains side by side.

    Args:
        density: has ``log_prob(u)`` in nats (N,).
        physics: measures the images of all chains.
        y: their measurements (N, ...).
        noise: standard deviation s of each (N,).
        crop: cuts the image that is measured out of u.
    """

    def __init__(self, density, physics, y: Tensor, noise: Tensor, crop=lambda u: u):
        self.density, self.physics, self.y, self.noise, self.crop = density, physics, y, noise, crop

    def log_likelihood(self, u: Tensor) -> Tensor:
        """log N(y; A u, s^2) without its constant (N,)."""
        misfit = (self.physics.A(self.crop(u)) - self.y).flatten(1).square().sum(1)
        return -0.5 * misfit / self.noise.square()

    def at(self, u: Tensor) -> Point:
        """The value and the gradient at u."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            log_p = self.density.log_prob(u) + self.log_likelihood(u)
            (gradient,) = torch.autograd.grad(log_p.sum(), u)
        return Point(u.detach(), log_p.detach(), gradient)
