"""The metric in which the posterior is nearly round: M = A^T A / s^2 + I / sigma0^2.

Its first term is the curvature of the likelihood, its second the largest that the density of
anything plus N(0, sigma0^2) can have. The Metropolis correction makes any fixed M exact; this one
takes away what is stiff.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .target import Target

_TOLERANCE = 1e-6  # of conjugate gradients, where M has no inverse in closed form


class Metric:
    """M for the chains of a `Target`; ``scale`` is sigma0 (N,)."""

    def __init__(self, target: Target, scale: Tensor):
        self.target, self.scale = target, scale
        self._rho = (target.noise / scale).square()

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        """p ~ N(0, M) from two normal draws, one of the shape of y and one of the shape of u."""
        target = self.target
        seen = target.physics.A_adjoint(of_data) / _beside(target.noise, of_image)
        p = of_image / _beside(self.scale, of_image)
        return _add_inside(p, seen)

    def velocity(self, p: Tensor) -> Tensor:
        """M^-1 p."""
        target = self.target
        inside = target.crop(p) * _beside(target.noise, p).square()
        v = p * _beside(self.scale, p).square()
        solved = target.physics.solve_normal(inside, self._rho, tol=_TOLERANCE)
        return _put_inside(v, solved)

    def kinetic(self, p: Tensor) -> Tensor:
        """p^T M^-1 p / 2 of each chain (N,)."""
        return 0.5 * (p * self.velocity(p)).flatten(1).sum(1)


def steepest_scale(density, u: Tensor, iterations: int = 20) -> Tensor:
    """1 / sqrt of the largest curvature of -log p at each u (N,), by power iteration.

    What stands for sigma0 under a density without noise levels.
    """
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(density.log_prob(u).sum(), u, create_graph=True)
        # one start for all: what an item gets does not depend on those beside it
        v = torch.randn(u.shape[1:], generator=torch.Generator().manual_seed(0)).to(u).expand_as(u)
        for _ in range(iterations):
            v = v / _beside(v.flatten(1).norm(dim=1), v)
            (product,) = torch.autograd.grad(gradient, u, v, retain_graph=True)
            curvature = -(v * product).flatten(1).sum(1)
            v = product
    return curvature.abs().clamp_min(1e-12).rsqrt().detach()


def _beside(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, *[1] * (images.dim() - 1))


def _add_inside(whole: Tensor, part: Tensor) -> Tensor:
    return _put_inside(whole, whole[..., : part.shape[-2], : part.shape[-1]] + part)


def _put_inside(whole: Tensor, part: Tensor) -> Tensor:
    """``whole`` with ``part`` in its upper left corner."""
    if whole.shape == part.shape:
        return part
    whole = whole.clone()
    whole[..., : part.shape[-2], : part.shape[-1]] = part
    return whole
