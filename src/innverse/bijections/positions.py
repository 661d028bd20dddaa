"""Every position of an image on its own: layers for vectors, applied pixel by pixel."""

from __future__ import annotations

from torch import Tensor

from ..errors import ShapeError
from .base import Bijection


class Positionwise(Bijection):
    """``inner``, for vectors (N, C), at every position of an image (B, C, H, W).

    Positions know nothing of each other: the density of an image is the product of theirs. A
    condition is a vector (B, k), the same at all positions of an image.

    Example:
        >>> layer = Positionwise(ActNorm(3))
        >>> z, log_det = layer(torch.rand(2, 3, 8, 8))
        >>> z.shape, log_det.shape
        (torch.Size([2, 3, 8, 8]), torch.Size([2]))
    """

    def __init__(self, inner: Bijection):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, logdet = self.inner(_rows(x), _repeated(c, x))
        return _images(z, x), _per_image(logdet, x)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, logdet = self.inner.inverse(_rows(z), _repeated(c, z))
        return _images(x, z), _per_image(logdet, z)

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return _images(self.inner.initialize_(_rows(x), _repeated(c, x)), x)


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C)."""
    if x.dim() != 4:
        raise ShapeError(f"positions are those of images (B, C, H, W), got {tuple(x.shape)}")
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _images(rows: Tensor, like: Tensor) -> Tensor:
    """(B H W, C) -> (B, C, H, W)."""
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _per_image(logdet: Tensor, like: Tensor) -> Tensor:
    """(B H W,) -> (B,)."""
    return logdet.view(len(like), like.shape[2] * like.shape[3]).sum(1)


def _repeated(c: Tensor | None, x: Tensor) -> Tensor | None:
    if c is None:
        return None
    if c.dim() != 2:
        raise ShapeError(f"layers of single positions take c (B, k), no map, got {tuple(c.shape)}")
    if len(c) == 1 or c.stride(0) == 0:  # one for all
        return c[:1]
    return c.repeat_interleave(x.shape[2] * x.shape[3], 0)
