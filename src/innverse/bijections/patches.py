"""Patches as positions: a squeeze by any factor at once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..accelerate.autocast import exact_convolutions
from ..derived import register_derived
from ..errors import ShapeError
from .base import Bijection
from .multiscale import _Resampled, shuffle, unshuffle


class Patches(_Resampled):
    """``inner`` on (B, C size^2, H / size, W / size): every patch of pixels is one position.

    Example:
        >>> layer = Patches(ActNorm(12), 2)  # 3 channels in patches of 2x2 are 12
        >>> layer(torch.rand(2, 3, 8, 8))[0].shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, inner: Bijection, size: int):
        super().__init__(inner)
        self.size = int(size)

    def down(self, x: Tensor) -> Tensor:
        _check_sides(x, self.size)
        return unshuffle(x, self.size)

    def up(self, y: Tensor) -> Tensor:
        return shuffle(y, self.size)

    def extra_repr(self) -> str:
        return f"{self.size} x {self.size}"


class Cosines(_Resampled):
    """``inner`` on the orthonormal cosine transform of every patch of size x size pixels (DCT-II,
    Ahmed et al. 1974): (B, C size^2, H / size, W / size).

    Channels come from coarse to fine, the C colours of a frequency side by side: of photographs,
    by falling variance.

    Example:
        >>> layer = Cosines(ActNorm(12), 2)
        >>> layer(torch.rand(2, 3, 8, 8))[0].shape
        torch.Size([2, 3, 8, 8])
    """

    basis: Tensor

    def __init__(self, inner: Bijection, size: int):
        super().__init__(inner)
        self.size = int(size)
        there = torch.empty(())  # on the device that modules are being built on
        register_derived(self, basis=cosines(self.size).to(there.device))

    def derive(self) -> dict[str, Tensor]:
        return {"basis": cosines(self.size)}

    def down(self, x: Tensor) -> Tensor:
        _check_sides(x, self.size)
        with exact_convolutions(x.device.type):
            y = F.conv2d(x.flatten(0, 1)[:, None], self._waves(x), stride=self.size)
        return y.unflatten(0, x.shape[:2]).transpose(1, 2).flatten(1, 2)

    def up(self, y: Tensor) -> Tensor:
        waves = self._waves(y)
        y = y.unflatten(1, (len(waves), -1)).transpose(1, 2)
        with exact_convolutions(y.device.type):
            x = F.conv_transpose2d(y.flatten(0, 1), waves, stride=self.size)
        return x.view(*y.shape[:2], *x.shape[-2:])

    def _waves(self, like: Tensor) -> Tensor:
        return self.basis.to(like.dtype)[:, None]

    def extra_repr(self) -> str:
        return f"{self.size} x {self.size}"


def cosines(size: int) -> Tensor:
    """The orthonormal basis of patches (size^2, size, size) in float64, from coarse to fine."""
    k = torch.arange(size, dtype=torch.float64, device="cpu")
    line = torch.cos(math.pi / size * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / size)
    line[0] /= math.sqrt(2)
    waves = line[:, None, :, None] * line[None, :, None, :]
    frequency = (k[:, None].square() + k[None].square()).flatten()
    return waves.flatten(0, 1)[frequency.argsort(stable=True)]


def _check_sides(x: Tensor, size: int) -> None:
    if x.dim() != 4 or x.shape[-1] % size or x.shape[-2] % size:
        raise ShapeError(
            f"patches of {size} pixels need images (B, C, H, W) with sides that divide by it, got "
            f"{tuple(x.shape)}"
        )
