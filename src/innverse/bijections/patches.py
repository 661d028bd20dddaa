"""Patches as positions: a squeeze by any factor at once."""

from __future__ import annotations

from torch import Tensor

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
        if x.dim() != 4 or x.shape[-1] % self.size or x.shape[-2] % self.size:
            raise ShapeError(
                f"patches of {self.size} pixels need images (B, C, H, W) with sides that divide "
                f"by it, got {tuple(x.shape)}"
            )
        return unshuffle(x, self.size)

    def up(self, y: Tensor) -> Tensor:
        return shuffle(y, self.size)

    def extra_repr(self) -> str:
        return f"{self.size} x {self.size}"
