"""Which metric a problem gets, and its scale where the prior has no noise levels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .conditioning import ritz
from .few_data import few_data
from .metric import Kinetic, Metric, add_inside, beside
from .spectral import BASES, Spectral, diagonal
from .target import Target

_NEAR = 10.0  # condition number of A^T A / s^2 + I / sigma0^2 in a metric that is near enough


def metric_for(target: Target, like: Tensor) -> Callable[[Target, Tensor], Kinetic]:
    """What makes the metric of a target and a scale, chosen for the operator of ``target``.

    Args:
        like: images (N, C, H, W) of the size that is sampled.
    """
    if target.physics.direct:
        return Metric
    few = few_data(target, like)
    if few is not None:
        return few
    spectra = {basis: diagonal(target, like, basis) for basis in BASES}
    return lambda target, scale: _nearest(target, scale, spectra, like)


def _nearest(target: Target, scale: Tensor, spectra: dict[str, Tensor], like: Tensor) -> Kinetic:
    """The diagonal metric that is nearest to M for the hardest item, or conjugate gradients."""
    exact = Metric(target, scale)

    def curvature(v: Tensor) -> Tensor:
        physics = target.physics
        seen = physics.A_normal(target.crop(v)) / beside(target.noise, v).square()
        return add_inside(v / beside(scale, v).square(), seen)

    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(like.shape[1:], generator=generator).to(like).expand_as(like)
    best: tuple[float, Kinetic] = (_NEAR, exact)
    for basis, a in spectra.items():
        metric = Spectral(target, scale, a, basis)
        values = ritz(curvature, metric, metric.momenta(target.y, normal))
        condition = float((values.amax(1) / values.amin(1).clamp_min(1e-12)).max())
        best = min(best, (condition, metric), key=lambda pair: pair[0])
    return best[1]


def scale_of(density, level: float | None, u: Tensor) -> Tensor:
    """The metric's scale at each u (N,): the noise level of the prior, or 1 / sqrt of the largest
    curvature of a density without levels."""
    return steepest_scale(density, u) if level is None else torch.full((len(u),), level).to(u)


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
            v = v / beside(v.flatten(1).norm(dim=1), v)
            (product,) = torch.autograd.grad(gradient, u, v, retain_graph=True)
            curvature = -(v * product).flatten(1).sum(1)
            v = product
    return curvature.abs().clamp_min(1e-12).rsqrt().detach()
