"""A metric that is diagonal in frequencies or in pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from .frequencies import ComplexFrequencies, Frequencies, Pixels
from .metric import Flat, beside, put_inside
from .target import Target

_PROBES = 16

Basis = Frequencies | ComplexFrequencies | Pixels


class Spectral(Flat):
    """M = F^T (a / s^2 + j / sigma0^2) F with an orthonormal F: frequencies, or pixels.

    Args:
        a: the diagonal of F A^T A F^T, which broadcasts against transformed images; see `diagonal`.
        basis: F.
        j: curvature of the prior by frequency, see `PriorSpectrum`.
    """

    def __init__(
        self, target: Target, scale: Tensor, a: Tensor, basis: Basis, j: Tensor | float = 1.0
    ):
        self.basis = basis
        s, sigma0 = beside(target.noise, a), beside(scale, a)
        self._weight = a / s.square() + j / sigma0.square()

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        return self.basis.back(self._weight.sqrt() * self.basis.to(of_image), of_image)

    def velocity(self, p: Tensor) -> Tensor:
        return self.basis.back(self.basis.to(p) / self._weight, p)


@torch.no_grad()
def diagonal(target: Target, like: Tensor, basis: Basis) -> Tensor:
    """The diagonal of F A^T A F^T (N, ...), >= 0, by ``_PROBES`` random images.

    The same for all chains, so that what an item gets does not depend on those beside it. Exact
    where F makes A^T A diagonal: a circular convolution, a mask.
    """
    generator = torch.Generator().manual_seed(0)
    product, square = torch.zeros(()), torch.zeros(())
    for _ in range(_PROBES):
        probe = torch.randn(like.shape[1:], generator=generator).to(like).expand_as(like)
        normal = target.physics.A_normal(target.crop(probe))
        there, back = basis.to(probe), basis.to(put_inside(torch.zeros_like(probe), normal))
        product = product + (there.conj() * back).real
        square = square + there.abs().square()
    return (product / square).clamp_min(0)
