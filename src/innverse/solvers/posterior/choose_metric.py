"""Which metric a problem gets, and its scale where the prior has no noise levels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .conditioning import ritz
from .few_data import few_data
from .frequencies import ComplexFrequencies, Frequencies, Pixels, whole_plane
from .masked import Masked
from .metric import Kinetic, Metric, add_inside, beside
from .prior_spectrum import PriorSpectrum, Spread, prior_spectrum
from .spectral import Basis, Spectral, diagonal
from .target import Target

_EXACT = 1.5  # condition number of M in a metric that is as good as M itself
_NEAR = 10.0  # of one that is near enough where M takes conjugate gradients


def metric_for(target: Target, like: Tensor) -> Callable[[Target, Tensor], Kinetic]:
    """What makes the metric of a target and a scale, chosen for the operator of ``target``.

    Args:
        like: images (N, C, H, W) of the size that is sampled.
    """
    physics, spectrum = target.physics, prior_spectrum(target.density, like)
    if physics.direct and spectrum is None:
        return Metric
    if physics.is_diagonal and spectrum is not None:
        return lambda target, scale: Masked(
            target, scale, Spread.at(target.density, spectrum), like
        )
    few = None if physics.direct else few_data(target, like, spectrum)
    if few is not None:
        return few
    own = Frequencies() if spectrum is None else spectrum.basis
    bases: list[Basis] = [own]
    if not physics.direct:
        bases.append(Pixels())
    if like.shape[1] % 2 == 0 and own.channels is None:
        bases.append(ComplexFrequencies())
    spectra = [(basis, diagonal(target, like, basis)) for basis in bases]

    def make(target: Target, scale: Tensor) -> Kinetic:
        condition, metric = _nearest(target, scale, spectra, spectrum, like)
        near = _EXACT if physics.direct else _NEAR
        return metric if condition < near else Metric(target, scale)

    return make


def _nearest(
    target: Target,
    scale: Tensor,
    spectra: list[tuple[Basis, Tensor]],
    spectrum: PriorSpectrum | None,
    like: Tensor,
) -> tuple[float, Kinetic]:
    """The diagonal metric in which the condition number of M is least for the hardest item."""
    spread = Spread.at(target.density, spectrum)

    def curvature(v: Tensor) -> Tensor:
        physics = target.physics
        seen = physics.A_normal(target.crop(v)) / beside(target.noise, v).square()
        return add_inside(spread.to_the(-1.0, v) / beside(scale, v).square(), seen)

    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(like.shape[1:], generator=generator).to(like).expand_as(like)
    found: list[tuple[float, Kinetic]] = []
    for basis, a in spectra:
        metric = Spectral(target, scale, a, basis, _in(basis, spread.j, like))
        values = ritz(curvature, metric, metric.momenta(target.y, normal))
        condition = float((values.amax(1) / values.amin(1).clamp_min(1e-12)).max())
        found.append((condition, metric))
    return min(found, key=lambda pair: pair[0])


def _in(basis: Basis, j: Tensor | float, like: Tensor) -> Tensor | float:
    """The curvature j of the prior in a basis; 1, the most it can be, in pixels."""
    if isinstance(basis, Pixels):
        return 1.0
    if isinstance(basis, Frequencies) or not isinstance(j, Tensor):
        return j
    parts = whole_plane(j, like.shape[3]).unflatten(0, (2, -1))  # real and imaginary
    return parts.mean(0)


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
