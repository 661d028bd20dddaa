"""The metric of images whose pixels are seen or not, and whose prior is curved by frequency.

M = A^T A / s^2 + F^T j F / sigma0^2 has no inverse in closed form where A is a mask: its first term is
diagonal in pixels, its second in frequencies. This one has, and is near to it:

    M = L (I + g) L    g = sigma0^2 A^T A / s^2    L^2 = F^T (j + G) / (1 + G) F / sigma0^2

with G the mean of g. Where the prior knows nothing of an image (j = 1) it is M itself, and along
frequencies so low that they see the mask as its mean it is G + j as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .metric import Flat, beside, put_inside
from .prior_spectrum import Spread
from .target import Target


class Masked(Flat):
    """M for an operator that multiplies each pixel by a number.

    Args:
        spread: C, whose inverse is F^T j F.
        like: images (N, C, H, W) of the size that is sampled.
    """

    def __init__(self, target: Target, scale: Tensor, spread: Spread, like: Tensor):
        inside = target.crop(like)
        seen = target.physics.diagonal(inside).square().expand_as(inside)
        gain = beside((scale / target.noise).square(), inside) * seen
        gain = put_inside(torch.zeros_like(like), gain.to(like))
        mean = gain.mean((1, 2, 3), keepdim=True)
        self._basis, self._pixels = spread.basis, 1 + gain
        self._root = ((spread.j + mean) / (1 + mean)).sqrt() / beside(scale, like)
        self._inverse = 1 / self._root

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        return self._basis.filtered(self._pixels.sqrt() * of_image, self._root)

    def velocity(self, p: Tensor) -> Tensor:
        v = self._basis.filtered(p, self._inverse) / self._pixels
        return self._basis.filtered(v, self._inverse)
