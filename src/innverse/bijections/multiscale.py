"""Multi-scale without changing shape: run a bijection at half resolution, or on some channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..accelerate.layout import channels_last
from ..accelerate.regions import region
from ..errors import ShapeError
from .base import Bijection


class _Around(Bijection):
    """``inner`` on what `apart` gives of x, between an orthogonal change of layout and its inverse."""

    inner: Bijection

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What ``inner`` takes, and the rest."""
        raise NotImplementedError

    def merge(self, y: Tensor, rest: Any) -> Tensor:
        """The inverse of `apart`."""
        raise NotImplementedError

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, rest = self.apart(x)
        y, logdet = self.inner(y, c)
        return self.merge(y, rest), logdet

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, rest = self.apart(z)
        y, logdet = self.inner.inverse(y, c)
        return self.merge(y, rest), logdet

    def record(self, x, c, tape):
        y, rest = self.apart(x)
        y, logdet = self.inner.record(y, c, tape)
        return self.merge(y, rest), logdet

    def pull_back(self, z, g_z, g_logdet, c, tape):
        (y, rest), (g_y, g_rest) = self.apart(z), self.apart(g_z)
        y, g_y = self.inner.pull_back(y, g_y, g_logdet, c, tape)
        return self.merge(y, rest), self.merge(g_y, g_rest)

    def initialize_(self, x, c=None):
        y, rest = self.apart(x)
        return self.merge(self.inner.initialize_(y, c), rest)


class _Resampled(_Around):
    """``inner`` on x in another layout."""

    def __init__(self, inner: Bijection):
        super().__init__()
        self.inner = inner

    def down(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def up(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def apart(self, x):
        return self.down(x), None

    def merge(self, y, rest):
        return self.up(y)


class Squeezed(_Resampled):
    """``inner`` on (B, 4C, H/2, W/2): every 2x2 block of pixels becomes four channels.

    Example:
        >>> layer = Squeezed(ActNorm(12))  # 3 channels at half the resolution are 12
        >>> layer(torch.rand(2, 3, 8, 8))[0].shape
        torch.Size([2, 3, 8, 8])
    """

    def down(self, x: Tensor) -> Tensor:
        _check_even(x)
        return channels_last(unshuffle(x, 2))

    def up(self, y: Tensor) -> Tensor:
        return shuffle(y, 2)


class Haar(_Resampled):
    """``inner`` on the orthonormal Haar wavelet of x: (B, 4C, H/2, W/2).

    Channels come as [averages, horizontal, vertical, diagonal details], C of each, so the first
    channels are the half-resolution image (times 2).

    Example:
        >>> layer = Haar(ActNorm(12))  # 3 channels at half the resolution are 12
        >>> layer(torch.rand(2, 3, 8, 8))[0].shape
        torch.Size([2, 3, 8, 8])
    """

    def down(self, x: Tensor) -> Tensor:
        _check_even(x)
        return _haar(x)

    def up(self, y: Tensor) -> Tensor:
        return _haar_back(y)


class Partial(_Around):
    """``inner`` on the first ``k`` channels; the rest pass as they are (factored out).

    Example:
        >>> layer = Partial(ActNorm(2), 2)  # of four channels the first two
        >>> x = torch.rand(3, 4)
        >>> torch.equal(layer(x)[0][:, 2:], x[:, 2:])
        True
    """

    def __init__(self, inner: Bijection, k: int):
        super().__init__()
        self.inner, self.k = inner, k

    def apart(self, x):
        if x.dim() < 2 or x.shape[1] < self.k:
            raise ShapeError(f"Partial needs {self.k} channels or more, got {tuple(x.shape)}")
        return x[:, : self.k], x[:, self.k :]

    def merge(self, y, rest):
        return torch.cat((y, rest), 1)

    def extra_repr(self) -> str:
        return f"first {self.k} channels"


@region
def _haar(x: Tensor) -> Tensor:
    a, b = x[..., ::2, ::2], x[..., ::2, 1::2]
    d, e = x[..., 1::2, ::2], x[..., 1::2, 1::2]
    top, bottom, top_d, bottom_d = a + b, d + e, a - b, d - e
    y = torch.cat((top + bottom, top_d + bottom_d, top - bottom, top_d - bottom_d), 1)
    return channels_last(y * 0.5)


@region
def _haar_back(y: Tensor) -> Tensor:
    mean, horizontal, vertical, diagonal = (0.5 * y).chunk(4, 1)
    top, bottom = mean + vertical, mean - vertical
    top_d, bottom_d = horizontal + diagonal, horizontal - diagonal
    blocks = torch.stack((top + top_d, top - top_d, bottom + bottom_d, bottom - bottom_d), 2)
    return shuffle(blocks.flatten(1, 2), 2)


def unshuffle(x: Tensor, size: int) -> Tensor:
    """Blocks of pixels as channels; an empty batch, too, which PyTorch would hand back as it is."""
    if x.shape[0] == 0:
        _, channels, height, width = x.shape
        return x.reshape(0, channels * size**2, height // size, width // size)
    return F.pixel_unshuffle(x, size)


def shuffle(y: Tensor, size: int) -> Tensor:
    """The way back."""
    if y.shape[0] == 0:
        _, channels, height, width = y.shape
        return y.reshape(0, channels // size**2, height * size, width * size)
    return F.pixel_shuffle(y, size)


def _check_even(x: Tensor) -> None:
    if x.dim() != 4 or x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ShapeError(
            f"squeezing needs images (B, C, H, W) of even height and width, got {tuple(x.shape)}"
        )
