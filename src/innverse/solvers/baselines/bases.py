"""Orthonormal bases of images: the cosine transform and periodic wavelets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...errors import UsageError
from ...physics.compressed import dct, idct

_ROOT3 = math.sqrt(3)
_TAPS = {
    "haar": (1 / math.sqrt(2), 1 / math.sqrt(2)),
    # two vanishing moments (Daubechies 1988)
    "db2": tuple(v / (4 * math.sqrt(2)) for v in (1 + _ROOT3, 3 + _ROOT3, 3 - _ROOT3, 1 - _ROOT3)),
}
BASES = ("dct", *_TAPS)


class Basis:
    """Coefficients c = W x and back, x = W^T c, with W orthonormal; images (B, C, H, W).

    ``name`` is ``"dct"``, ``"haar"`` or ``"db2"``. The wavelets are periodic and go on to coarser
    scales as long as both sides are even and at least ``coarsest`` long.
    """

    def __init__(self, name: str, coarsest: int = 8):
        if name not in BASES:
            raise UsageError(f"basis={name!r}: choose one of {', '.join(BASES)}")
        self.name, self.coarsest = name, coarsest

    def analyse(self, x: Tensor) -> Tensor:
        """W x, in the shape of x."""
        if self.name == "dct":
            return dct(dct(x).mT).mT
        c = x.clone()
        for h, w in self._scales(x):
            part = _split(_split(c[..., :h, :w], _TAPS[self.name]).mT, _TAPS[self.name]).mT
            c[..., :h, :w] = part
        return c

    def synthesise(self, c: Tensor) -> Tensor:
        """W^T c, in the shape of c."""
        if self.name == "dct":
            return idct(idct(c.mT).mT)
        x = c.clone()
        for h, w in reversed(self._scales(c)):
            part = _join(_join(x[..., :h, :w].mT, _TAPS[self.name]).mT, _TAPS[self.name])
            x[..., :h, :w] = part
        return x

    def _scales(self, x: Tensor) -> list[tuple[int, int]]:
        h, w = x.shape[-2:]
        scales = []
        while h % 2 == 0 and w % 2 == 0 and min(h, w) >= max(self.coarsest, 4):
            scales.append((h, w))
            h, w = h // 2, w // 2
        return scales


def _split(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Along the last axis: low-pass and high-pass coefficients, half the length each."""
    shifted = [x.roll(-k, -1)[..., ::2] for k in range(len(taps))]
    low, high = (
        torch.stack([h * s for h, s in zip(filter_, shifted, strict=True)]).sum(0)
        for filter_ in (taps, _mirror(taps))
    )
    return torch.cat((low, high), -1)


def _join(c: Tensor, taps: tuple[float, ...]) -> Tensor:
    """The transpose, and inverse, of `_split`."""
    low, high = c.chunk(2, -1)
    x = torch.zeros_like(c)
    for k, (h, g) in enumerate(zip(taps, _mirror(taps), strict=True)):
        part = torch.zeros_like(c)
        part[..., ::2] = h * low + g * high
        x += part.roll(k, -1)
    return x


def _mirror(taps: tuple[float, ...]) -> list[float]:
    """The high-pass filter of a low-pass one."""
    return [(-1) ** k * h for k, h in enumerate(reversed(taps))]
