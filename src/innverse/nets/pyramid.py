"""Convolutional pyramids between images and vectors (Radford et al. 2016, DCGAN).

Every level halves, or doubles, the side by a 4x4 convolution of stride 2; between the smallest
image, of side 4 to 7, and the vector stands one dense layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..accelerate.autocast import without_autocast
from ..accelerate.layout import channels_last
from ..errors import UsageError
from .conditioning import zeroed
from .precision import ConditionerNet

SMALLEST, LARGEST = 8, 128


def pyramid_levels(shape: tuple[int, int, int]) -> int:
    """How often the sides of (C, H, W) are halved until the smaller one is 4 to 7.

    Raises:
        UsageError: a side outside 8..128, or one that does not halve so often.
    """
    sides = shape[1:]
    if len(shape) != 3 or not all(SMALLEST <= side <= LARGEST for side in sides):
        raise UsageError(
            f"shape {tuple(shape)}: needs (C, H, W) with sides from {SMALLEST} to {LARGEST}"
        )
    levels = (min(sides) // 4).bit_length() - 1
    if any(side % 2**levels for side in sides):
        raise UsageError(f"shape {tuple(shape)}: sides must be multiples of {2**levels} here")
    return levels


def _widths(shape: tuple[int, int, int], width: int, growth: float) -> list[int]:
    """Channels of each level from fine to coarse: ``width``, then ``growth`` times as many."""
    return [8 * math.ceil(width * growth**i / 8) for i in range(pyramid_levels(shape))]


class _SpectralNorm(nn.Module):
    """W / sigma(W), sigma by one power iteration a step (Miyato et al. 2018), in float32 under autocast
    too."""

    u: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("u", F.normalize(torch.randn(len(weight)), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        w = weight.flatten(1)
        with without_autocast(weight.device.type):
            with torch.no_grad():
                v = F.normalize(w.mT @ self.u, dim=0)
                u = F.normalize(w @ v, dim=0)
                if self.training:
                    self.u.copy_(u)
            return weight / torch.dot(u, w @ v)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


class DownPyramid(ConditionerNet):
    """Images (B, C, H, W) to vectors (B, n_out), by leaky ReLUs.

    Args:
        shape: (C, H, W).
        n_out: length of the vector.
        width: channels of the finest level, rounded up to a multiple of 8.
        growth: by how much each coarser level is wider.
        slope: of the leaky ReLU.
        spectral: keep the spectral norm of every layer at 1, as a critic needs.

    Example:
        >>> DownPyramid((3, 16, 16), 5, width=8)(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 5])
    """

    of_images = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_out: int,
        width: int = 32,
        growth: float = 2.0,
        *,
        slope: float = 0.2,
        spectral: bool = False,
    ):
        super().__init__()
        self.slope = slope
        channels = [shape[0], *_widths(shape, width, growth)]
        area = shape[1] * shape[2] // 4 ** (len(channels) - 1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in zip(channels, channels[1:]))
        self.dense = nn.Linear(channels[-1] * area, n_out)
        layers: list[Any] = [*self.convs, self.dense]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, slope)
            nn.init.zeros_(layer.bias)
            if spectral:
                norm = _SpectralNorm(layer.weight)
                nn.utils.parametrize.register_parametrization(layer, "weight", norm)

    def compute(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        h = channels_last(x)
        for conv in self.convs:
            h = F.leaky_relu(conv(h), self.slope)
        return self.dense(h.flatten(1))


class UpPyramid(ConditionerNet):
    """Vectors (B, n_in) to images (B, C, H, W) in [0, 1], through a sigmoid.

    Args:
        n_in: length of the vector.
        shape: (C, H, W).
        width: channels of the finest level, rounded up to a multiple of 8.
        growth: by how much each coarser level is wider.
        batch_norm: normalise every layer but the last by the statistics of the batch (averages
            of them in eval mode), as the generator of a GAN needs.
        refine: add a 3x3 convolution at every level, residual, that starts at zero.

    Example:
        >>> UpPyramid(5, (3, 16, 16), width=8)(torch.randn(2, 5)).shape
        torch.Size([2, 3, 16, 16])
    """

    of_images = False

    def __init__(
        self,
        n_in: int,
        shape: tuple[int, int, int],
        width: int = 32,
        growth: float = 2.0,
        *,
        batch_norm: bool = False,
        refine: bool = False,
    ):
        super().__init__()
        channels = [*reversed(_widths(shape, width, growth)), shape[0]]
        levels = len(channels) - 1
        self.base = (channels[0], shape[1] >> levels, shape[2] >> levels)
        self.dense = nn.Linear(n_in, self.base[0] * self.base[1] * self.base[2])
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(a) if batch_norm else nn.Identity() for a in channels[:-1]
        )
        self.refines = nn.ModuleList(
            zeroed(nn.Conv2d(a, a, 3, padding=1)) if refine else nn.Identity()
            for a in channels[:-1]
        )
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in zip(channels, channels[1:])
        )
        self.refine = refine
        convs: list[Any] = [*self.convs]
        for conv in convs:
            # of the 16 taps of a stride of 2, 4 reach a pixel
            nn.init.normal_(conv.weight, std=(2 / (4 * conv.in_channels)) ** 0.5)
            nn.init.zeros_(conv.bias)
        nn.init.normal_(convs[-1].weight, std=(1 / (4 * channels[-2])) ** 0.5)

    def compute(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        h = channels_last(self.dense(z).view(len(z), *self.base))
        for norm, refine, conv in zip(self.norms, self.refines, self.convs, strict=True):
            h = F.relu(norm(h))
            if self.refine:
                h = F.relu(h + refine(h))
            h = conv(h)
        return h.float().sigmoid() if h.dtype == torch.bfloat16 else h.sigmoid()
