"""The latents of a multi-scale flow by scale, coarsest first: a code that can be cut short.

    z  <->  [coarsest, ..., finest],   an orthonormal change of layout

Each factored-out half is standardised given what is coarser (Dinh et al. 2016, section 3.6), so zeros
are its mode and standard normal numbers are draws of it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..bijections import Bijection, Chain
from ..bijections.multiscale import Haar, Partial, Squeezed
from ..errors import ShapeError, UsageError
from ..models.registry import fits


def apart(layer: Any, z: Tensor) -> list[Tensor]:
    """z (B, C, H, W) as its scales, coarsest first; one of them for a flow of one scale."""
    while isinstance(layer, Chain) and len(layer.layers):
        layer = layer.layers[-1]
    if isinstance(layer, (Haar, Squeezed)):
        return apart(layer.inner, layer.down(z))
    if isinstance(layer, Partial):
        inner, rest = layer.apart(z)
        return [*apart(layer.inner, inner), rest]
    return [z]


def merge(layer: Any, parts: list[Tensor]) -> Tensor:
    """The inverse of `apart`."""
    while isinstance(layer, Chain) and len(layer.layers):
        layer = layer.layers[-1]
    if isinstance(layer, (Haar, Squeezed)):
        return layer.up(merge(layer.inner, parts))
    if isinstance(layer, Partial):
        return layer.merge(merge(layer.inner, parts[:-1]), parts[-1])
    (z,) = parts
    return z


def coarse_first(layer: Bijection, z: Tensor) -> Tensor:
    """All numbers of z (B, ...) in a row (B, n), those of the coarsest scale first."""
    return torch.cat([part.flatten(1) for part in apart(layer, z)], 1)


def from_coarse_first(layer: Bijection, row: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `coarse_first`; ``shape`` is that of an item of z."""
    shapes = scale_shapes(layer, shape)
    parts = row.split([math.prod(s) for s in shapes], 1)
    return merge(layer, [p.view(-1, *s) for p, s in zip(parts, shapes, strict=True)])


def scale_shapes(layer: Bijection, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Of an item, scale by scale."""
    return [tuple(part.shape[1:]) for part in apart(layer, torch.empty(1, *shape, device="meta"))]


def coarse_size(layer: Bijection, shape: tuple[int, ...], levels: int) -> int:
    """The numbers in the ``levels`` coarsest scales of an item.

    Raises:
        UsageError: there are not so many scales.
    """
    shapes = scale_shapes(layer, shape)
    if not (fits(levels, int) and 1 <= levels <= len(shapes)):
        raise UsageError(f"levels={levels!r}: this flow has {len(shapes)} scales, from 1 to that")
    return sum(math.prod(s) for s in shapes[:levels])


class CoarseFlow:
    """The images of a flow whose latents are at their mode but for the coarsest scales.

    A generator of m latents, for searches over few numbers; made by `Flow.coarse`. It is no density on
    R^n. ``latent_shape`` is (m,); ``encode`` and ``decode`` take images (B, *shape) and codes (B, m).

    Example:
        >>> flow = innverse.flows.build("glow", (1, 8, 8), levels=2, steps=1, hidden=8)
        >>> coarse = flow.coarse(1)
        >>> coarse.latent_shape, coarse.decode(torch.zeros(2, *coarse.latent_shape)).shape
        ((32,), torch.Size([2, 1, 8, 8]))
    """

    def __init__(self, flow, levels: int, c=None):
        self.flow, self.levels, self.c = flow, levels, c
        self.shape, self.multiple = flow.shape, flow.multiple
        self.latent_shape = (coarse_size(flow.bijection, flow.shape, levels),)

    def encode(self, x: Tensor) -> Tensor:
        """The coarse latents of x."""
        return self.flow.encode(x, self.c, levels=self.levels)

    def decode(self, z: Tensor) -> Tensor:
        """The image of coarse latents, all others at their mode."""
        if z.shape[1:] != self.latent_shape:
            raise ShapeError(f"this code is (B, {self.latent_shape[0]}), got {tuple(z.shape)}")
        return self.flow.decode(z, self.c, levels=self.levels)

    __call__ = decode

    def parameters(self):
        """Those of the flow."""
        return self.flow.parameters()
