"""Bases in which metrics are diagonal: pixels, and frequencies of the channels or of their mixtures."""

from __future__ import annotations

import torch
from torch import Tensor


class Pixels:
    """The images themselves."""

    def to(self, x: Tensor) -> Tensor:
        return x

    def back(self, z: Tensor, like: Tensor) -> Tensor:
        return z


class Frequencies:
    """The discrete Fourier transform (C, H, W // 2 + 1) of images (N, C, H, W), orthonormal.

    Args:
        channels: orthonormal (C, C), whose rows mix the channels, such as brightness and two colours;
            None leaves them as they are.
    """

    def __init__(self, channels: Tensor | None = None):
        self.channels = channels

    def to(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(self._mixed(x, self.channels).contiguous(), norm="ortho")

    def back(self, z: Tensor, like: Tensor) -> Tensor:
        x = torch.fft.irfft2(z, s=like.shape[-2:], norm="ortho")
        return self._mixed(x, None if self.channels is None else self.channels.mT)

    def filtered(self, x: Tensor, weights: Tensor) -> Tensor:
        """Images with their frequencies weighted (C, H, W // 2 + 1)."""
        return self.back(weights * self.to(x), x)

    @staticmethod
    def _mixed(x: Tensor, by: Tensor | None) -> Tensor:
        return x if by is None else torch.einsum("kc,nchw->nkhw", by, x)


class ComplexFrequencies:
    """The discrete Fourier transform (C, H, W) of complex images, whose channels (2 C, H, W) are all
    real parts, then all imaginary ones; orthonormal."""

    def to(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(torch.complex(*x.contiguous().chunk(2, 1)), norm="ortho")

    def back(self, z: Tensor, like: Tensor) -> Tensor:
        x = torch.fft.ifft2(z, norm="ortho")
        return torch.cat((x.real, x.imag), 1)


def whole_plane(half: Tensor, width: int) -> Tensor:
    """(..., H, W // 2 + 1) of real images at all frequencies (..., H, W): opposite ones are alike."""
    rest = half[..., 1 : (width + 1) // 2].flip((-2, -1)).roll(1, -2)
    return torch.cat((half, rest), -1)
