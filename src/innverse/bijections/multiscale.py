"""Multi-scale without changing shape: run a bijection at half resolution, or on some channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nets.layout import channels_last
from .base import Bijection


class _Resampled(Bijection):
    """``inner`` between an orthogonal change of layout and its inverse; volumes are unchanged."""

    def __init__(self, inner: Bijection):
        super().__init__()
        self.inner = inner

    def down(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def up(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, logdet = self.inner(self.down(x), c)
        return self.up(y), logdet

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, logdet = self.inner.inverse(self.down(z), c)
        return self.up(y), logdet

    def record(self, x, c, tape):
        y, logdet = self.inner.record(self.down(x), c, tape)
        return self.up(y), logdet

    def undo(self, z, g_z, g_logdet, c, tape):
        y, g_y = self.inner.undo(self.down(z), self.down(g_z), g_logdet, c, tape)
        return self.up(y), self.up(g_y)

    def initialize_(self, x, c=None):
        return self.up(self.inner.initialize_(self.down(x), c))


class Squeezed(_Resampled):
    """``inner`` on (B, 4C, H/2, W/2): every 2x2 block of pixels becomes four channels."""

    def down(self, x: Tensor) -> Tensor:
        _check_even(x)
        return channels_last(to_channels(x, 2))

    def up(self, y: Tensor) -> Tensor:
        return to_pixels(y, 2)


class Haar(_Resampled):
    """``inner`` on the orthonormal Haar wavelet of x: (B, 4C, H/2, W/2).

    Channels come as [averages, horizontal, vertical, diagonal details], C of each, so the first
    channels are the half-resolution image (times 2).
    """

    def down(self, x: Tensor) -> Tensor:
        _check_even(x)
        a, b = x[..., ::2, ::2], x[..., ::2, 1::2]
        d, e = x[..., 1::2, ::2], x[..., 1::2, 1::2]
        top, bottom, top_d, bottom_d = a + b, d + e, a - b, d - e
        y = torch.cat((top + bottom, top_d + bottom_d, top - bottom, top_d - bottom_d), 1) * 0.5
        return channels_last(y)

    def up(self, y: Tensor) -> Tensor:
        mean, horizontal, vertical, diagonal = (0.5 * y).chunk(4, 1)
        top, bottom = mean + vertical, mean - vertical
        top_d, bottom_d = horizontal + diagonal, horizontal - diagonal
        blocks = torch.stack((top + top_d, top - top_d, bottom + bottom_d, bottom - bottom_d), 2)
        return to_pixels(blocks.flatten(1, 2), 2)


class Partial(Bijection):
    """``inner`` on the first ``k`` channels; the rest pass as they are (factored out)."""

    def __init__(self, inner: Bijection, k: int):
        super().__init__()
        self.inner, self.k = inner, k

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, logdet = self.inner(x[:, : self.k], c)
        return torch.cat((y, x[:, self.k :]), 1), logdet

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, logdet = self.inner.inverse(z[:, : self.k], c)
        return torch.cat((y, z[:, self.k :]), 1), logdet

    def record(self, x, c, tape):
        y, logdet = self.inner.record(x[:, : self.k], c, tape)
        return torch.cat((y, x[:, self.k :]), 1), logdet

    def undo(self, z, g_z, g_logdet, c, tape):
        k = self.k
        x, g_x = self.inner.undo(z[:, :k], g_z[:, :k], g_logdet, c, tape)
        return torch.cat((x, z[:, k:]), 1), torch.cat((g_x, g_z[:, k:]), 1)

    def initialize_(self, x, c=None):
        return torch.cat((self.inner.initialize_(x[:, : self.k], c), x[:, self.k :]), 1)

    def extra_repr(self) -> str:
        return f"first {self.k} channels"


def to_channels(x: Tensor, size: int) -> Tensor:
    """Blocks of size x size pixels as channels, (B, C, H, W) -> (B, C size^2, H / size, W / size)."""
    if len(x):
        return F.pixel_unshuffle(x, size)
    return x.reshape(0, x.shape[1] * size**2, x.shape[2] // size, x.shape[3] // size)


def to_pixels(y: Tensor, size: int) -> Tensor:
    """The way back."""
    if len(y):
        return F.pixel_shuffle(y, size)
    return y.reshape(0, y.shape[1] // size**2, y.shape[2] * size, y.shape[3] * size)


def _check_even(x: Tensor) -> None:
    if x.dim() != 4 or x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ValueError(
            f"squeezing needs images (B, C, H, W) of even height and width, got {tuple(x.shape)}"
        )
