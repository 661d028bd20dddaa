"""A metric that is diagonal in frequencies or in pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .metric import Flat, beside, put_inside
from .target import Target

_PROBES = 16


class Spectral(Flat):
    """M = F^T (a / s^2 + 1 / sigma0^2) F with an orthonormal F: frequencies, or pixels.

    Args:
        a: the diagonal of F A^T A F^T, which broadcasts against transformed images; see `diagonal`.
        basis: ``"frequencies"`` or ``"pixels"``.
    """

    def __init__(self, target: Target, scale: Tensor, a: Tensor, basis: str):
        self._to, self._back = BASES[basis]
        s, sigma0 = beside(target.noise, a), beside(scale, a)
        self._weight = a / s.square() + 1 / sigma0.square()

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        return self._back(self._weight.sqrt() * self._to(of_image), of_image.shape)

    def velocity(self, p: Tensor) -> Tensor:
        return self._back(self._to(p) / self._weight, p.shape)


BASES: dict[str, tuple[Callable, Callable]] = {
    "frequencies": (
        lambda x: torch.fft.rfft2(x.contiguous(), norm="ortho"),
        lambda z, shape: torch.fft.irfft2(z, s=shape[-2:], norm="ortho"),
    ),
    "pixels": (lambda x: x, lambda z, shape: z),
}


def filtered(x: Tensor, weights: Tensor) -> Tensor:
    """Images (N, C, H, W) with their frequencies weighted (C, H, W // 2 + 1)."""
    to, back = BASES["frequencies"]
    return back(weights * to(x), x.shape)


@torch.no_grad()
def diagonal(target: Target, like: Tensor, basis: str) -> Tensor:
    """The diagonal of F A^T A F^T (N, ...), >= 0, by ``_PROBES`` random images.

    The same for all chains, so that what an item gets does not depend on those beside it. Exact
    where F makes A^T A diagonal: a circular convolution, a mask.
    """
    to, _ = BASES[basis]
    generator = torch.Generator().manual_seed(0)
    product, square = torch.zeros(()), torch.zeros(())
    for _ in range(_PROBES):
        probe = torch.randn(like.shape[1:], generator=generator).to(like).expand_as(like)
        normal = target.physics.A_normal(target.crop(probe))
        there, back = to(probe), to(put_inside(torch.zeros_like(probe), normal))
        product = product + (there.conj() * back).real
        square = square + there.abs().square()
    return (product / square).clamp_min(0)
