"""What is sampled: the density of an image given its measurement, up to a constant.

    log p(u | y) = log p(u; sigma0) + log p(y | A u) + const

p(.; sigma0) is the density of an image plus N(0, sigma0^2) noise, so u is such a noisy image; for a
density without noise levels it is the image itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...physics import LinearPhysics
from .likelihood import Likelihood, gaussian


class Density(Protocol):
    """log p(u) of images (N, C, H, W), in nats (N,)."""

    def log_prob(self, x: Tensor) -> Tensor: ...


@dataclass
class Point:
    """Where chains stand: images (N, C, H, W), log p(u | y) (N,), and its gradient."""

    u: Tensor
    log_p: Tensor
    gradient: Tensor

    def where(self, accepted: Tensor, other: Point) -> Point:
        """``other`` for the chains that ``accepted`` it, else this."""
        at = accepted.view(-1, *[1] * (self.u.dim() - 1))
        return Point(
            torch.where(at, other.u, self.u),
            torch.where(accepted, other.log_p, self.log_p),
            torch.where(at, other.gradient, self.gradient),
        )


class Target:
    """The posterior of N chains side by side.

    Args:
        density: has ``log_prob(u)`` in nats (N,).
        physics, y, noise: the operator of all chains, their measurements (N, ...), and a standard
            deviation of each (N,): of the noise, if it is Gaussian, else of what comes near it.
        crop: cuts the image that is measured out of u.
        likelihood: images -> log p(y | image); by default that of the Gaussian noise.
    """

    def __init__(
        self,
        density: Density,
        physics: LinearPhysics,
        y: Tensor,
        noise: Tensor,
        crop: Callable[[Tensor], Tensor] = lambda u: u,
        likelihood: Likelihood | None = None,
    ):
        self.density, self.physics, self.y, self.noise, self.crop = density, physics, y, noise, crop
        self.likelihood = likelihood or gaussian(physics, y, noise)

    def log_likelihood(self, u: Tensor) -> Tensor:
        """log p(y | A u) without its constant (N,)."""
        return self.likelihood(self.crop(u))

    def log_p(self, u: Tensor) -> Tensor:
        """log p(u | y), up to its constant (N,)."""
        return self.density.log_prob(u) + self.log_likelihood(u)

    def at(self, u: Tensor) -> Point:
        """The value and the gradient at u."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            log_p = self.log_p(u)
            (gradient,) = torch.autograd.grad(log_p.sum(), u)
        return Point(u.detach(), log_p.detach(), gradient)

    def images(self, u: Tensor) -> Tensor:
        """What is measured of the variable that is sampled."""
        return self.crop(u)
