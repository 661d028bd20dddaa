"""Invertible d x d convolutions with periodic borders: a matrix of channels for each frequency."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..accelerate.autocast import exact_convolutions, without_autocast
from ..errors import ShapeError, UsageError
from ..shapes import check_channels
from .base import Bijection


class PeriodicConvolution(Bijection):
    """z = w * x, a convolution of all channels that wraps around the image's borders.

    The Fourier transform makes it one matrix (C, C) per frequency, so log|det| is the sum of theirs
    and the inverse divides by them (Hoogeboom et al. 2019, arXiv 1901.11137, section 3.2). Starts as
    a rotation of the channels. A kernel may become singular at a frequency: then log|det| is -inf.

    Args:
        channels: C.
        size: side of the kernel, odd.

    Example:
        >>> layer = PeriodicConvolution(2, 3)
        >>> x = torch.rand(2, 2, 8, 8)
        >>> torch.allclose(layer.inverse(layer(x)[0])[0], x, atol=1e-4)
        True
    """

    def __init__(self, channels: int, size: int = 3):
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise UsageError(f"size={size}: the side of the kernel is odd")
        self.channels, self.size = channels, size
        weight = torch.zeros(channels, channels, size, size)
        weight[:, :, size // 2, size // 2] = torch.linalg.qr(torch.randn(channels, channels))[0]
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check(self, x)
        half = self.size // 2
        rows, columns = (torch.arange(-half, n + half, device=x.device) % n for n in x.shape[2:])
        around = x[:, :, rows[:, None], columns]
        with exact_convolutions(x.device.type):
            return F.conv2d(around, self.weight), self._log_det(self._matrices(x), x)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check(self, z)
        with without_autocast(z.device.type):
            w = self._matrices(z)
        if not len(z):  # which FFTs do not take
            return z, -self._log_det(w, z)
        v = torch.fft.fft2(z.contiguous()).permute(2, 3, 1, 0)  # (H, W, C, B)
        x = torch.linalg.solve_ex(w, v)[0].permute(3, 2, 0, 1).contiguous()
        return torch.fft.ifft2(x).real, -self._log_det(w, z)

    def _matrices(self, x: Tensor) -> Tensor:
        """(H, W, C, C): what each frequency is multiplied with."""
        height, width = x.shape[2:]
        (a, b), (c, d) = (_waves(n, self.size, self.weight) for n in (height, width))
        by_rows = [torch.einsum("hp,ijpq->hijq", wave, self.weight) for wave in (a, b)]
        (ac, bc), (ad, bd) = (
            [torch.einsum("wq,hijq->hwij", wave, rows) for rows in by_rows] for wave in (c, d)
        )
        return torch.complex(ac - bd, ad + bc)

    def _log_det(self, w: Tensor, x: Tensor) -> Tensor:
        return torch.linalg.slogdet(w)[1].sum().expand(len(x))

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.size} x {self.size}"


def _waves(n: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2 pi k p / n for frequencies k (n,) and places p of the kernel (size,)."""
    k = torch.arange(n, dtype=torch.float64, device=like.device)
    p = torch.arange(size, dtype=torch.float64, device=like.device) - size // 2
    turn = 2 * torch.pi / n * k[:, None] * p
    return turn.cos().to(like.dtype), turn.sin().to(like.dtype)


def _check(layer: PeriodicConvolution, x: Tensor) -> None:
    check_channels(layer, x, layer.channels)
    if x.dim() != 4:
        raise ShapeError(f"periodic convolutions take images (B, C, H, W), got {tuple(x.shape)}")
